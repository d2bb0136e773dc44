//! Decoder speed without ExecuTorch around it, and where the time goes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use etwgpu_graph::Graph;
use etwgpu_runtime::{Knobs, Session, analyse};

use super::median;
use crate::host::Arguments;
use crate::npy::Array;
use crate::pte::Pte;

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Exported decoder with inputs tokens and position.
    model: PathBuf,
    /// Prompt lengths.
    #[arg(long, value_delimiter = ',', default_value = "128,512")]
    prefill: Vec<i32>,
    /// Context lengths at which decoding is measured.
    #[arg(long, value_delimiter = ',', default_value = "128,512")]
    context: Vec<i32>,
    /// Decode steps a context length.
    #[arg(long, default_value_t = 50)]
    steps: usize,
    /// Print the time of every kernel.
    #[arg(long)]
    profile: bool,
}

/// Measures a decoder whose inputs are tokens `[1, S]` and a position `[1]`.
pub(super) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let pte = Pte::open(&options.model)?;
    let program = pte.program()?;
    let [delegate] = &program.methods.first().context("no method")?.delegates[..] else {
        bail!("not one delegate")
    };
    let graph = analyse(delegate.processed)?.graph;
    let knobs = Knobs::resolve(&delegate.compile_specs, &[]);
    let mut session = Session::load(delegate.processed, &knobs, &mut &program)?;
    println!("load {:.3} s", started.elapsed().as_secs_f64());
    for &length in &options.prefill {
        let mut times: Vec<f64> =
            (0..4).map(|_| Ok(step(&mut session, &graph, 0, length)?.0)).collect::<Result<_>>()?;
        let first = times.remove(0);
        let median = median(&mut times);
        println!(
            "prefill {length}: {:.0} tok/s, {:.2} ms (first {:.2} ms)",
            f64::from(length) / median,
            median * 1e3,
            first * 1e3
        );
        if options.profile {
            print_profile(&mut session, &graph, 0, length)?;
        }
    }
    for &context in &options.context {
        step(&mut session, &graph, context, 1)?;
        let (mut times, mut host, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..options.steps as i32 {
            let (total, before, meanwhile) = step(&mut session, &graph, context + 1 + i, 1)?;
            times.push(total);
            host.push(before);
            ahead.push(meanwhile);
        }
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let median = median(&mut times);
        println!(
            "decode at {context}: {:.0} tok/s (median {:.1} us, mean {:.1} us, host {:.1} us + {:.1} us meanwhile)",
            1.0 / median,
            median * 1e6,
            mean * 1e6,
            super::median(&mut host) * 1e6,
            super::median(&mut ahead) * 1e6
        );
        if options.profile {
            print_profile(&mut session, &graph, context + 1, 1)?;
        }
    }
    Ok(())
}

fn arguments(graph: &Graph, position: i32, length: i32) -> Arguments {
    let tokens =
        (0..length).flat_map(|i| (1 + i64::from((i * 7919 + position) % 400)).to_le_bytes()).collect();
    let inputs = vec![
        Array { scalar_type: 4, sizes: vec![1, length], bytes: tokens },
        Array { scalar_type: 4, sizes: vec![1], bytes: i64::from(position).to_le_bytes().to_vec() },
    ];
    Arguments::new(graph, inputs)
}

/// Seconds of one run, those before submission, and those spent on the next run meanwhile.
fn step(session: &mut Session, graph: &Graph, position: i32, length: i32) -> Result<(f64, f64, f64)> {
    let mut arguments = arguments(graph, position, length);
    let started = Instant::now();
    let stats = session.run(&mut arguments)?;
    let total = started.elapsed();
    Ok((total.as_secs_f64(), (total - stats.wait).as_secs_f64(), stats.ahead.as_secs_f64()))
}

#[derive(Default)]
struct Row {
    count: u32,
    time: f64,
    bytes: u64,
    ops: u64,
}

fn print_profile(session: &mut Session, graph: &Graph, position: i32, length: i32) -> Result<()> {
    let profile = session.profile(&mut arguments(graph, position, length))?;
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for span in &profile.spans {
        let dispatch = &profile.lowered.recording.dispatches[span.dispatch];
        let groups: u64 = dispatch.grid.iter().map(|&g| u64::from(g)).product();
        let row = rows.entry(format!("{} x{groups}", dispatch.shader.label)).or_default();
        row.count += 1;
        row.time += span.end - span.start;
        row.bytes += dispatch.bytes;
        row.ops += dispatch.ops;
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|a, b| b.1.time.total_cmp(&a.1.time));
    let total: f64 = rows.iter().map(|r| r.1.time).sum();
    println!(
        "  {:>9.1} us in {} launches, {} barriers",
        total / 1e3,
        profile.spans.len(),
        profile.lowered.recording.barriers()
    );
    for (name, row) in rows {
        println!(
            "  {:>9.1} us {:>4} x {:>8.2} us  {:>7.1} GB/s {:>7.2} TFLOP/s  {name}",
            row.time / 1e3,
            row.count,
            row.time / 1e3 / f64::from(row.count),
            row.bytes as f64 / row.time,
            row.ops as f64 / row.time / 1e3
        );
    }
    Ok(())
}
