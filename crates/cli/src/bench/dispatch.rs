//! Cost of launches that do next to nothing.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use etwgpu_graph::{DType, Graph};
use etwgpu_kernels::LowerOptions;
use etwgpu_runtime::{Knobs, gpu};
use serde_json::{Value, json};

use super::probe::{Builder, Probe};
use super::{Output, median};

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Launches in one run.
    #[arg(long = "launches", value_delimiter = ',', default_value = "100,1000")]
    counts: Vec<u32>,
    /// Runs, of which the middle counts.
    #[arg(long, default_value_t = 50)]
    repeats: usize,
    #[command(flatten)]
    output: Output,
}

/// Seconds of a run.
struct Times {
    /// From the call until the result is on the host.
    total: f64,
    /// Of the calling thread, to prepare the same commands again.
    encode: f64,
    barriers: usize,
}

/// Prints what a launch costs on top of a run with a single one, waiting for the one before and not.
pub(super) fn run(options: &Options) -> Result<()> {
    let single = measure(&chain(1), options.repeats)?;
    println!("one launch, submitted, waited for and read back: {:.1} us", single.total * 1e6);
    println!(
        "{:>8} {:<12} {:>9} {:>14} {:>18}",
        "launches", "each", "barriers", "us a launch", "host us a launch"
    );
    let mut rows: Vec<Value> = Vec::new();
    for &count in options.counts.iter().filter(|&&count| count > 1) {
        for (name, graph) in [("waits", chain(count)), ("independent", siblings(count))] {
            let times = measure(&graph, options.repeats)?;
            let more = f64::from(count - 1);
            let (each, encode) = ((times.total - single.total) / more, (times.encode - single.encode) / more);
            println!(
                "{count:>8} {name:<12} {:>9} {:>14.3} {:>18.3}",
                times.barriers,
                each * 1e6,
                encode * 1e6
            );
            rows.push(json!({
                "launches": count, "each": name, "barriers": times.barriers, "seconds_a_launch": each,
                "host_seconds_a_launch": encode,
            }));
        }
    }
    options.output.write("dispatch", json!({"single_s": single.total, "rows": rows}))
}

/// Launches that each read what the one before wrote.
fn chain(count: u32) -> Graph {
    let mut b = Builder::default();
    let mut x = b.input(DType::F32, &[64]);
    for _ in 0..count {
        let out = b.tensor(DType::F32, &[64]);
        b.node("aten.neg.default", &[x], &[out]);
        x = out;
    }
    b.graph.outputs = vec![x];
    b.graph
}

/// Launches that read the same and write apart.
fn siblings(count: u32) -> Graph {
    let mut b = Builder::default();
    let x = b.input(DType::F32, &[64]);
    for _ in 0..count {
        let out = b.tensor(DType::F32, &[64]);
        b.node("aten.neg.default", &[x], &[out]);
        b.graph.outputs = vec![out];
    }
    b.graph
}

fn measure(graph: &Graph, repeats: usize) -> Result<Times> {
    let mut probe = Probe::new(&gpu(&Knobs::default())?, graph, &LowerOptions::default())?;
    let (mut totals, mut encodes) = (Vec::new(), Vec::new());
    for _ in 0..repeats.max(1) {
        let started = Instant::now();
        let stats = probe.run()?;
        totals.push(started.elapsed().as_secs_f64());
        encodes.push(stats.ahead.as_secs_f64());
    }
    let barriers = probe.lowered.recording.barriers();
    Ok(Times { total: median(&mut totals), encode: median(&mut encodes), barriers })
}
