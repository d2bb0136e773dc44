//! Rows of activations for cooperative matrices, on devices that have none: the launch that prepares them needs only
//! halves, so it runs wherever it can be planned for a device with matrices.

use std::collections::{BTreeSet, HashMap};

use etwgpu_engine::Gpu;
use etwgpu_graph::DType::{F16, F32};
use etwgpu_graph::ValueId;
use etwgpu_kernels::LowerOptions;
use etwgpu_kernels::cases::{self, Case};
use etwgpu_kernels::reference::{Array, evaluate};
use etwgpu_record::{Caps, Dispatch, Recording, Subgroups};
use etwgpu_testkit::{lower, open, run_buffers};

/// Every value of a case.
fn values(case: &Case) -> HashMap<ValueId, Array> {
    let (mut live, mut arrays) = (case.given(), case.arrays());
    evaluate(&case.graph, &mut live, &mut arrays).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    arrays
}

/// What the first layer of the launch multiplies, before rounding, and the scale of each row.
fn wanted(case: &Case, dispatch: &Dispatch) -> (Vec<f64>, Option<Vec<f64>>) {
    let values = values(case);
    let is_layer = |node: &&u32| case.graph.nodes[**node as usize].op.contains("linear");
    let layer = &case.graph.nodes[*dispatch.sources.iter().find(is_layer).unwrap() as usize];
    let of = |argument: usize| &values[&layer.args[argument]];
    let x = of(0);
    if !layer.op.contains("dq8ca") {
        return (x.values.clone(), None);
    }
    let width = *x.dims.last().unwrap() as usize;
    let parameters = of(1).values.iter().zip(&of(2).values);
    let rows = x.values.chunks(width).zip(parameters).flat_map(|(row, (scale, zero))| {
        row.iter().map(move |v| ((v / scale).round_ties_even() + zero).clamp(-128.0, 127.0) - zero)
    });
    (rows.collect(), Some(of(1).values.clone()))
}

/// Elements in a buffer of halves, or of floats.
fn floats(bytes: &[u8], size: usize) -> Vec<f64> {
    let dtype = if size == 2 { F16 } else { F32 };
    Array::from_bytes(dtype, &[(bytes.len() / size) as u32], bytes).values
}

/// The first `count` elements lie within a rounding to halves; quantised ones are integers, of which a few may lie on the
/// other side of a step.
fn compare(got: &[f64], want: &[f64], is_quantised: bool) -> Result<(), String> {
    let (allowed, furthest) = if is_quantised { (want.len() / 1000, 1.0) } else { (0, 0.0) };
    let near = |g: f64, w: f64| if is_quantised { g == w } else { (g - w).abs() <= 1e-3 * w.abs() + 1e-6 };
    let wrong: Vec<_> = (0..want.len()).filter(|&i| !near(got[i], want[i])).collect();
    if wrong.len() <= allowed && wrong.iter().all(|&i| (got[i] - want[i]).abs() <= furthest) {
        return Ok(());
    }
    let first = wrong[0];
    Err(format!("{} elements, element {first} is {} instead of {}", wrong.len(), got[first], want[first]))
}

/// Runs everything up to the launch at `at`, and compares what it wrote.
fn check(gpu: &Gpu, case: &Case, recording: &Recording, at: usize) -> Result<(), String> {
    let mut recording = recording.clone();
    recording.dispatches.truncate(at + 1);
    let dispatch = &recording.dispatches[at];
    let buffers = run_buffers(gpu, case, &recording)?;
    let bound = |name: &str| {
        let declared = |line: &&str| line.starts_with("@group(0) @binding(") && line.contains(name);
        let line = dispatch.shader.source.lines().find(declared)?;
        let number: usize = line.split(['(', ')']).nth(3)?.parse().ok()?;
        Some(&buffers[dispatch.bindings[number - 1].buffer.index()])
    };
    let (rows, scales) = wanted(case, dispatch);
    let got = floats(bound("read_write> rounded").ok_or("no rounded rows")?, 2);
    compare(&got, &rows, scales.is_some())?;
    match (bound("read_write> row_scale"), scales) {
        (Some(got), Some(want)) => {
            let near = |(g, w): (&f64, &f64)| (g - w).abs() <= 1e-5 * w;
            let got = floats(got, 4);
            if got.iter().zip(&want).all(near) {
                Ok(())
            } else {
                Err(format!("scales {got:?}, not {want:?}"))
            }
        }
        _ => Ok(()),
    }
}

#[test]
fn rows_are_rounded_as_they_are_multiplied() {
    let gpu = open();
    // Only planning believes this; the launches before the matrices ask the device how wide its subgroups are.
    let subgroups = Some(Subgroups { min: 32, max: 32 });
    let caps = Caps { coop_matrix: true, subgroups, is_cpu: false, ..gpu.caps().clone() };
    let (mut forms, mut ran, mut failures) = (BTreeSet::new(), 0, Vec::new());
    for case in cases::all() {
        let Ok(lowered) = lower(&case, &case.live().unwrap(), &caps, &LowerOptions::default()) else {
            continue;
        };
        let recording = &lowered.recording;
        let Some(at) = recording.dispatches.iter().position(|d| d.shader.label == "coop_rows") else {
            continue;
        };
        // What runs before must not need such subgroups.
        let plain = |d: &Dispatch| ["coop_rows", "choose_qparams", "rms_norm"].contains(&d.shader.label);
        if !recording.dispatches[..=at].iter().all(plain) {
            continue;
        }
        forms.insert(recording.dispatches[at].shader.source.clone());
        ran += 1;
        failures.extend(check(&gpu, &case, recording, at).err().map(|e| format!("{}: {e}", case.name)));
    }
    assert!(failures.is_empty(), "{} of {ran}: {failures:#?}", failures.len());
    assert!(ran >= 60 && forms.len() >= 20, "only {ran} cases, {} shaders", forms.len());
}
