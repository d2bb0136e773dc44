//! Which ways through the kernel of 4-bit products the cases take: what no case takes, no device tests.

use std::collections::BTreeMap;

use etwgpu_kernels::cases;
use etwgpu_record::{Caps, Dispatch, Precision, Subgroups};
use etwgpu_testkit::{choices, constant, lower};

/// How activations reach their threads, and how sums are added up.
fn ways(dispatch: &Dispatch) -> Option<(&'static str, &'static str, &'static str)> {
    let source = &dispatch.shader.source;
    constant(source, "TEAM_ROWS")?;
    let numbers = if source.contains("dot4U8Packed") { "integers" } else { "floats" };
    let staged = if constant(source, "ROUNDS")? > 1 { "in parts" } else { "at once" };
    let added = match (source.contains("subgroupShuffleXor(one"), source.contains("subgroupAdd(value)")) {
        (true, _) => "neighbours share out sums",
        (_, true) => "subgroups add up",
        _ => "a tree adds up",
    };
    Some((numbers, staged, added))
}

/// Every machine can test on what has subgroups of eight. These are among what `routes` has it pretend to be.
#[test]
fn cases_take_every_way_on_a_device_with_subgroups_of_eight() {
    let device = Caps::lavapipe();
    let some = Some(Subgroups { min: 8, max: 32 });
    let few = Some(Subgroups { min: 4, max: 8 });
    let little = Caps { max_workgroup_memory: 16 << 10, ..device.clone() };
    let devices = [
        device.clone(),
        Caps { subgroups: some, ..little.clone() },
        Caps { subgroups: few, ..device },
        Caps { subgroups: None, ..little },
    ];
    let mut found = BTreeMap::<_, usize>::new();
    for case in cases::all() {
        let live = case.live().unwrap();
        for (caps, options) in devices.iter().flat_map(|caps| choices().into_iter().map(move |o| (caps, o))) {
            let Ok(lowered) = lower(&case, &live, caps, &options) else { continue };
            for way in lowered.recording.dispatches.iter().filter_map(ways) {
                *found.entry(way).or_default() += 1;
            }
        }
    }
    println!("{found:?}");
    let added = |numbers| match numbers {
        "integers" => ["neighbours share out sums", "subgroups add up"],
        _ => ["subgroups add up", "a tree adds up"],
    };
    for (numbers, staged) in ["integers", "floats"].map(|n| [(n, "at once"), (n, "in parts")]).concat() {
        for added in added(numbers) {
            assert!(found.contains_key(&(numbers, staged, added)), "{numbers}, {staged}, {added}: {found:?}");
        }
    }
}

/// Bytes that an activation has as an integer, whether two products are gated, and whether blocks of channels are whole.
fn forms(dispatch: &Dispatch) -> Option<(u32, bool, bool)> {
    let source = &dispatch.shader.source;
    constant(source, "TEAM_ROWS").filter(|_| source.contains("dot4I8Packed"))?;
    let bytes = 1 + u32::from(source.contains("low_even0")) + u32::from(source.contains("mid_even0"));
    Some((bytes, source.contains("next_up"), !source.contains("r = min(r, ")))
}

/// On devices that `routes` has every machine pretend to be.
#[test]
fn cases_take_every_form_of_integers() {
    let device = Caps::lavapipe();
    let gpu = Caps { is_cpu: false, ..device.clone() };
    let fast = Caps { precision: Precision::Fast, ..device.clone() };
    let mut found = BTreeMap::<_, usize>::new();
    for case in cases::all() {
        let live = case.live().unwrap();
        for caps in [&device, &gpu, &fast] {
            for options in choices() {
                let Ok(lowered) = lower(&case, &live, caps, &options) else { continue };
                for form in lowered.recording.dispatches.iter().filter_map(forms) {
                    *found.entry(form).or_default() += 1;
                }
            }
        }
    }
    println!("{found:?}");
    for (bytes, gated) in [(1, true), (2, false), (2, true), (3, false), (3, true)] {
        for whole in [false, true] {
            assert!(found.contains_key(&(bytes, gated, whole)), "{bytes}, {gated}, {whole}: {found:?}");
        }
    }
}
