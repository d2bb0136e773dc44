//! What planning must refuse, and how it says so.

use etwgpu_graph::DType;
use etwgpu_graph::DType::{F16, F32, I8, I32, U8};
use etwgpu_kernels::cases::{Arg, Builder, Case};
use etwgpu_kernels::live::{Dirty, Journal, propagate};
use etwgpu_kernels::{LowerOptions, OpError};
use etwgpu_record::Caps;
use etwgpu_testkit::lower;

/// A cache of 10 rows of two heads by four, and `seq` new rows of `heads` heads at `position`.
fn cached(op: &str, seq: u32, heads: u32, position: i64) -> Case {
    let mut b = Builder::new(format!("{op} {seq} {heads} at {position}"));
    let caches = [(); 2].map(|()| b.constant(F32, &[1, 10, 2, 4], vec![0.5; 80]));
    let [q, k, v] = [2, heads, heads].map(|h| b.noise(F32, &[1, seq, h, 4]));
    let position = b.integer(position);
    let out = b.result(F32, &[1, seq, 2, 4]);
    match op {
        "update_cache.default" => b.node(op, &[k, caches[0], position].map(Arg::Id), &[caches[0]]),
        "custom_sdpa.default" => b.node(op, &[q, caches[0], caches[1], position].map(Arg::Id), &[out]),
        _ => b.node(op, &[q, k, v, caches[0], caches[1], position].map(Arg::Id), &[out]),
    }
    b.finish(&[out])
}

#[test]
fn positions_outside_a_cache_are_refused() {
    for op in ["update_cache.default", "custom_sdpa.default", "sdpa_with_kv_cache.default"] {
        let refusal = |seq, position| cached(op, seq, 2, position).live().map(|_| ()).map_err(|e| e.error);
        assert_eq!(refusal(1, 9), Ok(()), "{op}");
        assert_eq!(refusal(10, 0), Ok(()), "{op}");
        for (seq, position) in [(1, 10), (2, 9), (11, 0), (1, -1), (1, i64::from(i32::MAX)), (1, i64::MAX)] {
            let error = refusal(seq, position).expect_err(op);
            let text = error.to_string();
            assert!(
                matches!(error, OpError::Invalid(_)) && text.contains("exceed a cache of 10"),
                "{op}: {text}"
            );
        }
    }
}

/// Whether a case is taken after its only integer moved there, as it was before.
fn moved(case: &Case, position: i64) -> Result<(), OpError> {
    let mut live = case.live().unwrap();
    let (&id, _) = case.ints.iter().next().unwrap();
    let (mut dirty, mut journal) = (Dirty::none(), Journal::default());
    journal.set_int(&mut live, id, position);
    dirty.mark(id);
    propagate(&case.graph, &mut live, &dirty, &mut journal).map_err(|e| e.error)
}

#[test]
fn positions_that_move_are_refused_where_new_ones_would_be() {
    let mut b = Builder::new("more keys than queries");
    let caches = [(); 2].map(|()| b.constant(F32, &[1, 10, 2, 4], vec![0.5; 80]));
    let [q, k, v] = [1, 3, 3].map(|rows| b.noise(F32, &[1, rows, 2, 4]));
    let (position, out) = (b.integer(4), b.result(F32, &[1, 1, 2, 4]));
    b.node("sdpa_with_kv_cache.default", &[q, k, v, caches[0], caches[1], position].map(Arg::Id), &[out]);
    let case = b.finish(&[out]);
    assert_eq!(moved(&case, 7), Ok(()));
    assert!(moved(&case, 8).unwrap_err().to_string().contains("3 tokens exceed a cache of 10"));

    let mut b = Builder::new("a mask as wide as the context");
    let caches = [(); 2].map(|()| b.constant(F32, &[1, 10, 2, 4], vec![0.5; 80]));
    let (q, mask) = (b.noise(F32, &[1, 1, 2, 4]), b.noise(F32, &[1, 5]));
    let (position, out) = (b.integer(4), b.result(F32, &[1, 1, 2, 4]));
    b.node("custom_sdpa.default", &[q, caches[0], caches[1], position, mask].map(Arg::Id), &[out]);
    let case = b.finish(&[out]);
    assert_eq!(moved(&case, 4), Ok(()));
    assert!(moved(&case, 5).unwrap_err().to_string().contains("does not broadcast"));
}

#[test]
fn rows_that_do_not_match_their_cache_are_refused() {
    for op in ["update_cache.default", "sdpa_with_kv_cache.default"] {
        let error = cached(op, 1, 1, 0).live().expect_err(op).error;
        assert!(
            matches!(&error, OpError::Invalid(text) if text.contains("do not match a cache")),
            "{op}: {error}"
        );
    }
}

#[test]
fn unknown_operators_are_refused_by_name() {
    let mut b = Builder::new("unknown");
    let (x, out) = (b.noise(I32, &[1]), b.result(I32, &[1]));
    b.node("aten.no_such.default", &[x.into()], &[out]);
    let error = b.finish(&[out]).live().unwrap_err();
    assert!(error.to_string().starts_with("aten.no_such.default (node 0): no such operator"), "{error}");
}

/// What a fusion would take into its launch, and what one of its operators does not support.
#[derive(Clone, Copy, Debug)]
struct Front {
    rows: u32,
    norm: (DType, u32),
    range: [i64; 2],
    block: i64,
    out: DType,
}

const FRONT: Front = Front { rows: 12, norm: (F32, 64), range: [-128, 127], block: 64, out: F32 };

impl Front {
    /// Two layers over a row that is normalised and quantised, or without `dynamic` the first alone.
    fn case(&self, dynamic: bool) -> Case {
        let Self { rows, norm: (norm, width), range, block, out } = *self;
        let mut b = Builder::new(format!("{self:?} {dynamic}"));
        let x = b.noise(F32, &[1, rows, 64]);
        let weight = b.constant(norm, &[width], vec![1.0; width as usize]);
        let normed = b.result(F32, &[1, rows, 64]);
        b.node("et_vk.rms_norm.default", &[x.into(), weight.into(), Arg::Float(1e-5)], &[normed]);
        let (scale, zero) = (b.result(F32, &[1, rows, 1]), b.result(I8, &[1, rows, 1]));
        if dynamic {
            let block = Arg::Ints(vec![1, 1, block]);
            let [low, high] = range.map(Arg::Int);
            let args = [normed.into(), Arg::None, block, Arg::None, low, high];
            b.node("torchao.choose_qparams_affine.default", &args, &[scale, zero]);
        }
        let outs = [(); 2].map(|()| {
            let weight = b.constant(U8, &[8, 32], vec![0.0; 256]);
            let scales = b.constant(F32, &[2, 8], vec![0.0; 16]);
            let result = b.result(out, &[1, rows, 8]);
            let rest = [Arg::Int(32), Arg::None];
            if dynamic {
                let sums = b.constant(I32, &[2, 8], vec![0.0; 16]);
                let args = [normed, scale, zero, weight, sums, scales].map(Arg::Id).into_iter().chain(rest);
                b.node("et_vk.linear_dq8ca_q4gsw.default", &args.collect::<Vec<_>>(), &[result]);
            } else {
                let args = [normed, weight, scales].map(Arg::Id).into_iter().chain(rest);
                b.node("et_vk.linear_q4gsw.default", &args.collect::<Vec<_>>(), &[result]);
            }
            result
        });
        b.finish(&outs)
    }
}

/// A launch that does the work of several operators must not do what one of them would have refused.
#[test]
fn fusions_refuse_what_their_operators_refuse() {
    for (caps, rows) in [(Caps::h200(), 12), (Caps::h200(), 2), (Caps::apple(), 2)] {
        let at = Front { rows, ..FRONT };
        let planned = |front: Front, dynamic: bool| {
            let case = front.case(dynamic);
            let lowered = lower(&case, &case.live().unwrap(), &caps, &LowerOptions::default());
            lowered.map(|lowered| lowered.fused.contains(&true)).map_err(|e| e.to_string())
        };
        assert_eq!(planned(at, true), Ok(true), "{} {rows}", caps.name);
        assert_eq!(planned(at, false), Ok(true), "{} {rows}", caps.name);
        for (front, dynamic, why) in [
            (Front { norm: (F16, 64), ..at }, false, "F32 with F16 weights into F32"),
            (Front { norm: (F32, 60), ..at }, false, "60 weights for rows of 64"),
            (Front { range: [0, 255], ..at }, true, "range 0…255 as I8"),
            (Front { block: 32, ..at }, true, "only whole rows of 64 are supported"),
            (Front { out: F16, ..at }, false, "F32 activations into F16"),
        ] {
            let error = planned(front, dynamic).expect_err(&format!("{front:?} on {}", caps.name));
            assert!(error.contains(why), "{front:?} on {}: {error}", caps.name);
        }
    }
}
