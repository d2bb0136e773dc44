//! Every route on every case that it fits, on a real device that pretends to be several, against the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use etwgpu_engine::Gpu;
use etwgpu_graph::DType;
use etwgpu_kernels::cases::{self, Case};
use etwgpu_kernels::reference::Array;
use etwgpu_kernels::{LowerOptions, Lowered};
use etwgpu_record::{Caps, Precision, Subgroups};
use etwgpu_testkit::{
    choices, compare, compare_rounded, compare_whole, lower, open, reached, reference, run, taken,
};

/// Whether kernels round to halves what the reference does not: linear layers on cooperative matrices their operands,
/// attention there probabilities where it may or caches are halves, and fusions of halves fewer results in between.
fn rounds(caps: &Caps, case: &Case, took: &[&str], dtype: DType) -> bool {
    took.iter().any(|&route| match route {
        "sdpa.flash_coop" => uses_half(case) || caps.precision == Precision::Fast,
        _ => route.contains("coop") || (dtype == DType::F16 && route.contains("fuse.")),
    })
}

/// Largest relative Frobenius error of products of few rows whose activations have 15 bits and a sign, where they may:
/// some 3e-5 a product. Seven bits would make it 7e-3.
const SHORTENED: f64 = 2e-4;

fn shortens(caps: &Caps, took: &[&str], dtype: DType) -> bool {
    let of_few_rows = |route: &&str| *route == "linear.gemv" || route.starts_with("fuse.");
    caps.precision == Precision::Fast && dtype == DType::F32 && took.iter().any(of_few_rows)
}

/// What the device can pretend to be.
fn variants(device: &Caps) -> Vec<(&'static str, Caps)> {
    let floor = Caps::webgpu_floor();
    let small = Caps {
        subgroups: None,
        coop_matrix: false,
        max_workgroup_memory: floor.max_workgroup_memory,
        max_invocations: floor.max_invocations,
        max_storage_buffers: floor.max_storage_buffers,
        is_cpu: false,
        ..device.clone()
    };
    let gpu = Caps { is_cpu: false, ..device.clone() };
    // A device that chooses a width for each shader may choose any between the least and the largest.
    let wider = device.subgroups.map(|s| Subgroups { max: 4 * s.max, ..s });
    let narrower = device.subgroups.map(|s| Subgroups { min: (s.min / 2).max(4), ..s });
    vec![
        ("device", device.clone()),
        ("fast", Caps { precision: Precision::Fast, ..device.clone() }),
        ("gpu", gpu.clone()),
        (
            "wider subgroups, little memory",
            Caps { subgroups: wider, max_workgroup_memory: small.max_workgroup_memory, ..gpu.clone() },
        ),
        ("narrower subgroups", Caps { subgroups: narrower, ..gpu }),
        ("no byte dots", Caps { packed_dot: false, ..device.clone() }),
        ("not coherent", Caps { coherent: false, ..device.clone() }),
        ("no subgroups", Caps { subgroups: None, ..device.clone() }),
        ("small", small.clone()),
        ("few invocations", Caps { max_invocations: 64, ..small.clone() }),
        ("floor", Caps { name: device.name.clone(), ..floor }),
        ("folded grids", Caps { max_grid: 130, ..device.clone() }),
    ]
}

/// Cases run by route, those that a variant cannot run, and what went wrong.
#[derive(Default)]
struct Tally {
    runs: BTreeMap<&'static str, usize>,
    variants: BTreeMap<&'static str, usize>,
    refused: usize,
    failures: Vec<String>,
}

/// Runs one case on each variant with each choice; equal recordings run once.
fn try_case(gpu: &Gpu, case: &Case, choices: &[LowerOptions], tally: &Mutex<Tally>) {
    let fail = |text: String| tally.lock().unwrap().failures.push(format!("{}: {text}", case.name));
    let live = match case.live() {
        Ok(live) => live,
        Err(error) => return fail(format!("live sizes: {error}")),
    };
    let (want, _) = reference(case);
    let mut done: Vec<Lowered> = Vec::new();
    for (variant, caps) in variants(gpu.caps()) {
        for options in choices {
            let lowered = match lower(case, &live, &caps, options) {
                Ok(lowered) => lowered,
                Err(error) if variant == "device" => return fail(format!("lowering: {error}")),
                Err(_) => {
                    tally.lock().unwrap().refused += 1;
                    continue;
                }
            };
            if done.iter().any(|other| other.recording == lowered.recording) {
                continue;
            }
            let took = taken(&lowered);
            {
                let mut tally = tally.lock().unwrap();
                *tally.variants.entry(variant).or_default() += 1;
                for &route in &took {
                    *tally.runs.entry(route).or_default() += 1;
                }
            }
            let outcome =
                run(gpu, case, &live, &lowered).and_then(|got| compare_all(&caps, case, &got, &want, &took));
            if let Err(error) = outcome {
                fail(format!("{variant}, {took:?}: {error}"));
            }
            done.push(lowered);
        }
    }
}

fn compare_all(caps: &Caps, case: &Case, got: &[Array], want: &[Array], took: &[&str]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} outputs instead of {}", got.len(), want.len()));
    }
    got.iter().zip(want).enumerate().try_for_each(|(i, (g, w))| {
        let within = if rounds(caps, case, took, w.dtype) {
            compare_rounded(g, w)
        } else if shortens(caps, took, w.dtype) {
            compare_whole(SHORTENED, g, w)
        } else {
            compare(g, w)
        };
        within.map_err(|e| format!("output {i}: {e}"))
    })
}

fn uses_half(case: &Case) -> bool {
    let tensors = case.graph.values.iter();
    tensors
        .filter_map(|v| if let etwgpu_graph::Value::Tensor(t) = v { Some(t) } else { None })
        .any(|t| t.dtype == DType::F16)
}

/// Runs every case, on a device a thread, so that an error is reported where it arose.
fn check(caps: &Caps) -> Tally {
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| caps.f16 || !uses_half(case)).collect();
    let choices = choices();
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    let work = || {
        let gpu = open();
        // Neighbours often share shaders, which a device compiles once.
        while let Some(some) = cases.chunks(4).nth(next.fetch_add(1, Ordering::Relaxed)) {
            some.iter().for_each(|case| try_case(&gpu, case, &choices, &tally));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get().min(8)) {
            scope.spawn(work);
        }
    });
    let tally = tally.into_inner().unwrap();
    println!(
        "{} cases, by variant {:?}, by route {:?}, {} refused",
        cases.len(),
        tally.variants,
        tally.runs,
        tally.refused
    );
    tally
}

fn report(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

/// Routes that only cooperative matrices open.
fn need_matrices() -> BTreeSet<&'static str> {
    let without = reached(&Caps { coop_matrix: false, ..Caps::h200() });
    reached(&Caps::h200()).difference(&without).copied().collect()
}

#[test]
fn every_route_agrees_with_the_reference() {
    let caps = open().caps().clone();
    let tally = check(&caps);
    report(&tally.failures);
    let excused = if caps.coop_matrix { BTreeSet::new() } else { need_matrices() };
    for (family, names) in cases::routes() {
        for name in names {
            let ran = tally.runs.contains_key(name);
            assert!(ran || excused.contains(name), "no case reaches route {name} of {family} on this device");
        }
    }
}
