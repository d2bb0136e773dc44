//! Running a delegate with the device timed.

use anyhow::{Context, Result};
use etwgpu_engine::Timing;
use etwgpu_graph::Graph;
use etwgpu_runtime::{Knobs, Profile, Session, analyse, gpu};

use super::Options;
use super::inputs::synthesise;
use super::limits::Limits;
use super::measurement::{LaunchTime, Measurement, PhaseTime};
use super::timer::cost_us;
use crate::bench::median;
use crate::host::Arguments;
use crate::look::{Usage, live, shown_input};

/// Profiles the chosen delegate.
pub fn measure(options: &Options) -> Result<Measurement> {
    let target = &options.target;
    if target.caps.is_some() {
        return Err(
            Usage("profile runs on this machine's adapter; --caps is for dump and explain".into()).into()
        );
    }
    let given = [options.limits.bandwidth, options.limits.flops, options.limits.matrix_flops];
    if given.iter().flatten().any(|&limit| !(limit.is_finite() && limit > 0.0)) {
        return Err(Usage("limits of the device must be above zero".into()).into());
    }
    let pte = target.open()?;
    let program = pte.program()?;
    let chosen = target.choose_one(&program)?;
    let knobs = Knobs::resolve(&chosen.delegate.compile_specs, &[]);
    let model = analyse(chosen.delegate.processed, &knobs.passes())?;
    let live = live(&model, &options.sizes())?;
    let arguments = Arguments::new(&model.graph, synthesise(&model, &live)?);
    let gpu = gpu(&knobs)?;
    if !gpu.caps().timestamps {
        anyhow::bail!("{} has no timestamps; nothing can be timed", gpu.caps().name);
    }
    let limits = Limits::of(&gpu, &options.limits)?;
    let mut session = Session::load(chosen.delegate.processed, &knobs, &mut &program)?;
    let mut run = |timing| -> Result<Profile> { Ok(session.profile(&mut arguments.clone(), timing)?) };
    for _ in 0..2 {
        run(Timing::Off)?;
    }
    let mut whole: Vec<f64> = Vec::new();
    for _ in 0..options.runs {
        let profile = run(Timing::Off)?;
        let end = profile.trace.phases.last().map_or(0.0, |phase| phase.end.as_secs_f64());
        whole.push(end * 1e6);
    }
    let mut passes: Vec<f64> = Vec::new();
    for _ in 0..options.runs {
        passes.extend(run(Timing::Pass)?.trace.spans.first().map(|span| span.duration() / 1e3));
    }
    let timer_us = cost_us(&gpu)?;
    let timed: Vec<Profile> = (0..options.runs).map(|_| run(Timing::Launches)).collect::<Result<_>>()?;
    let last = timed.last().context("no runs")?;
    let phases = last.trace.phases.iter().map(|p| PhaseTime {
        name: p.phase.name().to_owned(),
        start_us: p.start.as_secs_f64() * 1e6,
        end_us: p.end.as_secs_f64() * 1e6,
    });
    Ok(Measurement {
        program: format!("{}, {}", target.name(), chosen.place()),
        device: gpu.caps().name.clone(),
        inputs: model.graph.inputs.iter().map(|&id| shown_input(&model.graph, &live, id)).collect(),
        runs: options.runs,
        limits,
        run_us: median(&mut whole),
        pass_us: (!passes.is_empty()).then(|| median(&mut passes)),
        barriers: last.lowered.recording.barriers(),
        timer_us,
        phases: phases.collect(),
        launches: launches(&model.graph, &timed, timer_us),
    })
}

/// The launches of the last of some timed runs of the same work, each with its median time over all, less what timing it
/// costs.
pub fn launches(graph: &Graph, timed: &[Profile], timer_us: f64) -> Vec<LaunchTime> {
    let Some(last) = timed.last() else { return Vec::new() };
    let launch = |(at, span): (usize, &etwgpu_engine::Span)| {
        let dispatch = last.lowered.recording.dispatches.get(span.dispatch?)?;
        let same = timed.iter().filter_map(|profile| profile.trace.spans.get(at));
        let mut times: Vec<f64> = same.map(|span| span.duration() / 1e3).collect();
        let named = |id: &u32| graph.nodes.iter().find(|node| node.handles.contains(id));
        Some(LaunchTime {
            kernel: dispatch.shader.label.to_owned(),
            route: dispatch.route.map(str::to_owned),
            grid: dispatch.grid,
            node_ids: dispatch.sources.clone(),
            operators: dispatch.sources.iter().filter_map(named).map(|node| node.op.clone()).collect(),
            bytes: dispatch.bytes,
            operations: dispatch.ops,
            matrix: dispatch.shader.enables("wgpu_cooperative_matrix"),
            start_us: span.start / 1e3,
            last_us: span.duration() / 1e3,
            us: (median(&mut times) - timer_us).max(0.0),
        })
    };
    last.trace.spans.iter().enumerate().filter_map(launch).collect()
}
