//! Parameters that launches share: equal ones lie in one place, and nobody gets those of another launch.

mod common;

use std::sync::Arc;

use common::{Add, WORDS, chain, open};
use etwgpu_engine::{EngineError, Gpu, Patch, Prepared, Timing, Trace};
use etwgpu_record::BufferId;

const ONE: Add = Add { amount: 1, live: None, is_patched: false };

fn prepare(gpu: &Gpu, adds: &[Add]) -> Prepared {
    Prepared::new(gpu, &chain(adds), &|_| None).unwrap()
}

/// What all launches together add to a word.
fn added(gpu: &Arc<Gpu>, prepared: &mut Prepared) -> u32 {
    let mut words = Vec::new();
    let mut sink = |_: usize, bytes: &[u8]| {
        words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        Ok(())
    };
    let zeros = [0; WORDS as usize * 4];
    let mut trace = Trace::new(Timing::Off, false);
    prepared.run(gpu, &[(BufferId(0), &zeros)], &mut sink, &mut trace).unwrap();
    assert_eq!(words, vec![words[0]; WORDS as usize]);
    words[0]
}

#[test]
fn equal_parameters_lie_in_one_place() {
    let gpu = open();
    let (one, two) = (ONE, Add { amount: 2, ..ONE });
    let mut same = prepare(&gpu, &vec![one.clone(); 20]);
    assert_eq!((added(&gpu, &mut same), same.memory().parameters), (20, 16));
    let mut mixed = prepare(&gpu, &[one.clone(), two.clone(), one, two]);
    let places = u64::from(gpu.caps().uniform_align.max(16)) + 16;
    assert_eq!((added(&gpu, &mut mixed), mixed.memory().parameters), (6, places));
}

#[test]
fn those_that_follow_an_integer_follow_it_together() {
    let gpu = open();
    let follows = |live| Add { live: Some(live), ..ONE };
    let mut prepared = prepare(&gpu, &[follows(7), ONE, follows(8), follows(7)]);
    assert_eq!(added(&gpu, &mut prepared), 4);
    for step in 0..6 {
        prepared.set_integers(|value| if value == 7 { 100 * step } else { 10_000 * step });
        assert_eq!(i64::from(added(&gpu, &mut prepared)), 10_200 * step + 1);
    }
}

#[test]
fn those_that_may_be_patched_are_their_own() {
    let gpu = open();
    let mut prepared =
        prepare(&gpu, &[Add { is_patched: true, ..ONE }, Add { is_patched: true, ..ONE }, ONE, ONE]);
    assert_eq!(added(&gpu, &mut prepared), 4);
    let mut patch = |dispatch, amount| {
        prepared.patch(&Patch { dispatch, params: &[amount], grid: [WORDS, 1, 1] })?;
        Ok(added(&gpu, &mut prepared))
    };
    assert_eq!(patch(0, 10), Ok(13));
    assert_eq!(patch(1, 100), Ok(112));
    let refused = "launch 2 was not recorded as one that may be patched";
    assert_eq!(patch(2, 1000), Err(EngineError::Validation(refused.into())));
    assert_eq!(patch(0, 1), Ok(103));
}
