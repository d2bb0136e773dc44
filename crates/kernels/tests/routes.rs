//! Every route on every case that it fits, on a real device that pretends to be several, against the reference.

use std::collections::BTreeMap;
use std::sync::Mutex;

use etwgpu_graph::DType;
use etwgpu_kernels::cases::{self, Case};
use etwgpu_kernels::reference::Array;
use etwgpu_kernels::{LowerOptions, Lowered};
use etwgpu_record::Caps;
use etwgpu_testkit::{choices, compare, lower, open, reference, run};

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
    vec![
        ("device", device.clone()),
        ("gpu", Caps { is_cpu: false, ..device.clone() }),
        ("no subgroups", Caps { subgroups: None, ..device.clone() }),
        ("small", small.clone()),
        ("few invocations", Caps { max_invocations: 64, ..small.clone() }),
        ("floor", Caps { name: device.name.clone(), ..floor }),
        ("folded grids", Caps { max_grid: 90, ..device.clone() }),
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

fn taken(lowered: &Lowered) -> Vec<&'static str> {
    let considered = lowered.plans.iter().flat_map(|plan| &plan.considered);
    considered.filter(|c| c.refusal.is_none()).map(|c| c.route).collect()
}

/// Runs one case on each variant with each choice; equal recordings run once.
fn try_case(case: &Case, choices: &[LowerOptions], tally: &Mutex<Tally>) {
    let gpu = open();
    let fail = |text: String| tally.lock().unwrap().failures.push(format!("{}: {text}", case.name));
    let live = match case.live() {
        Ok(live) => live,
        Err(error) => return fail(format!("live sizes: {error}")),
    };
    let t0=std::time::Instant::now(); let (want, _) = reference(case); let tr=t0.elapsed(); let mut tl=std::time::Duration::ZERO; let mut tg=tl; let mut n=0;
    let mut done: Vec<Lowered> = Vec::new();
    for (variant, caps) in variants(gpu.caps()) {
        for options in choices {
            let t1=std::time::Instant::now(); let l0 = lower(case, &live, &caps, options); tl+=t1.elapsed();
            let lowered = match (|| l0)() { //(case, &live, &caps, options) {
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
            n+=1; let t2=std::time::Instant::now();
            let outcome = run(&gpu, case, &live, &lowered).and_then(|got| compare_all(&got, &want));
            if let Err(error) = outcome {
                fail(format!("{variant}, {took:?}: {error}"));
            }
            tg+=t2.elapsed(); done.push(lowered);
        }
    }
    println!("PROF {}\t{}\t{}\t{}\t{}\t{}", case.graph.nodes[case.graph.nodes.len()-1].op, tr.as_millis(), tl.as_millis(), tg.as_millis(), n, case.name);
}

fn compare_all(got: &[Array], want: &[Array]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} outputs instead of {}", got.len(), want.len()));
    }
    got.iter().zip(want).enumerate().try_for_each(|(i, (g, w))| compare(g, w).map_err(|e| format!("output {i}: {e}")))
}

fn uses_half(case: &Case) -> bool {
    let tensors = case.graph.values.iter();
    tensors.filter_map(|v| if let etwgpu_graph::Value::Tensor(t) = v { Some(t) } else { None }).any(|t| t.dtype == DType::F16)
}

/// Runs every case whose name `wanted` accepts, and reports.
fn check(wanted: impl Fn(&str) -> bool) -> Tally {
    let has_half = open().caps().f16;
    let cases: Vec<Case> = cases::all().into_iter().filter(|c| wanted(&c.name) && (has_half || !uses_half(c))).collect();
    let choices = choices();
    let tally = Mutex::new(Tally::default());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    try_case(case, &choices, &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{} cases, by variant {:?}, by route {:?}, {} refused", cases.len(), tally.variants, tally.runs, tally.refused);
    tally
}

fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
}

#[test]
fn every_route_agrees_with_the_reference() {
    let tally = check(|_| true);
    report(&tally.failures);
    for (family, names) in cases::routes() {
        for name in names {
            assert!(tally.runs.contains_key(name), "no case reaches route {name} of {family} on this device");
        }
    }
}
