//! Running a delegate with the device timed.

use anyhow::Result;
use etwgpu_engine::Timing;
use etwgpu_runtime::{Knobs, Session, analyse, gpu};

use super::Options;
use super::inputs::synthesise;
use super::kernels::Kernels;
use super::limits::Limits;
use super::measurement::{Measurement, PhaseTime};
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
    let mut run = || session.trace(&mut arguments.clone(), Timing::Off);
    for _ in 0..2 {
        run()?;
    }
    let mut whole: Vec<f64> = Vec::new();
    for _ in 0..options.runs {
        let end = run()?.phases.last().map_or(0.0, |phase| phase.end.as_secs_f64());
        whole.push(end * 1e6);
    }
    let (kernels, last) = Kernels::measure(&model.graph, options.runs, &mut session, &arguments)?;
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
        phases: phases.collect(),
        kernels,
    })
}
