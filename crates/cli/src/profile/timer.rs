//! What it costs to time a launch by itself.

use anyhow::Result;
use etwgpu_engine::{Gpu, Prepared, Timing, Trace};
use etwgpu_record::{Access, Binding, BufferDesc, Dispatch, Recording, Shader};

use crate::bench::median;

/// Launches of the chain that is measured.
const LAUNCHES: usize = 64;

/// Microseconds that a timed launch seems to take longer than it does among others: a launch that does next to nothing,
/// in a pass of its own, less its share of a pass in which each waits for the one before.
pub(super) fn cost_us(gpu: &Gpu) -> Result<f64> {
    let recording = chain();
    let mut prepared = Prepared::new(gpu, &recording, &|_| None)?;
    let mut run = |timing| -> Result<Vec<f64>> {
        let mut trace = Trace::new(timing, false);
        prepared.run(gpu, &[], &mut |_, _| Ok(()), &mut trace)?;
        Ok(trace.spans.iter().map(|span| span.duration() / 1e3).collect())
    };
    let (mut passes, mut launches) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        passes.extend(run(Timing::Pass)?);
        launches.extend(run(Timing::Launches)?);
    }
    let cost = median(&mut launches) - median(&mut passes) / LAUNCHES as f64;
    Ok(if cost.is_finite() { cost.max(0.0) } else { 0.0 })
}

fn chain() -> Recording {
    let source = "@group(0) @binding(1) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(32) fn main(@builtin(local_invocation_index) i: u32) { x[i] += 1u; }";
    let mut recording = Recording::default();
    let size = 128;
    let buffer = recording.add_buffer(BufferDesc::Temp { size });
    let dispatch = Dispatch {
        shader: Shader { label: "timed", source: source.into() },
        bindings: vec![Binding { buffer, offset: 0, size, touched: size, access: Access::ReadWrite }],
        params: Vec::new(),
        live_params: Vec::new(),
        grid: [1, 1, 1],
        node: 0,
        sources: Vec::new(),
        route: None,
        bytes: 0,
        ops: 0,
    };
    recording.dispatches = vec![dispatch; LAUNCHES];
    recording
}
