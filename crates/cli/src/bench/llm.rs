//! Decoder speed without ExecuTorch around it, and where the time goes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use etwgpu_engine::thread_cpu_time;
use etwgpu_graph::Graph;
use etwgpu_runtime::{Knobs, Model, RunStats, Session, analyse};
use serde_json::{Value, json};

use super::{Output, median};
use crate::host::Arguments;
use crate::npy::Array;
use crate::profile::{Kernels, lines};
use crate::pte::Pte;

/// Sweeps behind the times of kernels, at most.
const PROFILED: u32 = 10;

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
    #[command(flatten)]
    output: Output,
}

/// Measures a decoder whose inputs are tokens `[1, S]` and a position `[1]`.
pub(super) fn run(options: &Options) -> Result<()> {
    let (mut decoder, load) = Decoder::load(&options.model)?;
    println!("load {load:.3} s");
    let mut prefill = Vec::new();
    for &length in &options.prefill {
        if let Some(figures) = decoder.prefill(length, options.profile)? {
            prefill.push(figures);
        }
    }
    let mut decode = Vec::new();
    for &context in &options.context {
        if let Some(figures) = decoder.decode(context, options.steps, options.profile)? {
            decode.push(figures);
        }
    }
    options.output.write("llm", json!({"load_s": load, "prefill": prefill, "decode": decode}))
}

/// A decoder under measurement.
pub(super) struct Decoder {
    session: Session,
    graph: Graph,
    /// Tokens that one run takes.
    pub(super) bound: i32,
    /// Tokens that exist.
    vocabulary: i64,
}

/// Seconds of one run.
pub(super) struct Step {
    pub(super) total: f64,
    /// Before submission.
    before: f64,
    /// Of the calling thread's CPU, without what waiting awake took.
    busy: f64,
    /// On the next run, while the device works.
    ahead: f64,
    stats: RunStats,
}

impl Decoder {
    /// Loads the one delegate of a program's first method; and the seconds that it took.
    pub(super) fn load(model: &Path) -> Result<(Self, f64)> {
        let started = Instant::now();
        let pte = Pte::open(model)?;
        let program = pte.program()?;
        let [delegate] = &program.methods.first().context("no method")?.delegates[..] else {
            bail!("not one delegate")
        };
        let knobs = Knobs::resolve(&delegate.compile_specs, &[]);
        let session = Session::load(delegate.processed, &knobs, &mut &program)?;
        let seconds = started.elapsed().as_secs_f64();
        Ok((Self::new(session, &analyse(delegate.processed, &knobs.passes())?)?, seconds))
    }

    fn new(session: Session, model: &Model) -> Result<Self> {
        let tokens = *model.graph.inputs.first().context("no inputs")?;
        let Some([1, bound]) = model.graph.tensor(tokens).map(|tensor| &tensor.dims[..]) else {
            bail!("input 0 is no row of tokens [1, S]")
        };
        let rows = model.row_inputs().into_iter().find(|(id, _)| *id == tokens);
        let vocabulary = rows.context("input 0 does not index an embedding")?.1.into();
        Ok(Self { session, bound: *bound as i32, vocabulary, graph: model.graph.clone() })
    }

    /// Tokens per second of a prompt; none when the program does not take it at once.
    fn prefill(&mut self, length: i32, profile: bool) -> Result<Option<Value>> {
        if length < 1 || length > self.bound {
            println!("prefill {length}: skipped, the program takes 1 to {} tokens at once", self.bound);
            return Ok(None);
        }
        let mut times: Vec<f64> = (0..4).map(|_| Ok(self.step(0, length)?.total)).collect::<Result<_>>()?;
        let first = times.remove(0);
        let median = median(&mut times);
        let rate = f64::from(length) / median;
        println!("prefill {length}: {rate:.0} tok/s, {:.2} ms (first {:.2} ms)", median * 1e3, first * 1e3);
        if profile {
            self.print_profile(0, length)?;
        }
        Ok(Some(json!({"tokens": length, "tok_per_s": rate, "median_s": median, "first_s": first})))
    }

    /// Tokens per second of single tokens after `context` others; none when the program refuses such positions.
    fn decode(&mut self, context: i32, steps: usize, profile: bool) -> Result<Option<Value>> {
        if let Err(error) = self.step(context + steps as i32, 1) {
            println!("decode at {context}: skipped, {error}");
            return Ok(None);
        }
        let steps: Vec<Step> = (0..steps as i32).map(|i| self.step(context + i, 1)).collect::<Result<_>>()?;
        let all = |of: fn(&Step) -> f64| steps.iter().map(of).collect::<Vec<f64>>();
        let times = all(|s| s.total);
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let [median, before, busy, ahead] =
            [times, all(|s| s.before), all(|s| s.busy), all(|s| s.ahead)].map(|mut all| median(&mut all));
        let stats = steps.last().map(|s| s.stats).unwrap_or_default();
        println!(
            "decode at {context}: {:.0} tok/s (median {:.1} us, mean {:.1} us, {:.1} us before submission, \
             {:.1} us of CPU on the calling thread, {:.1} us meanwhile; {} launches, {} uploads, {} submits)",
            1.0 / median,
            median * 1e6,
            mean * 1e6,
            before * 1e6,
            busy * 1e6,
            ahead * 1e6,
            stats.dispatches,
            stats.uploads,
            stats.submits
        );
        if profile {
            self.print_profile(context, 1)?;
        }
        Ok(Some(json!({
            "context": context, "tok_per_s": 1.0 / median, "median_s": median, "mean_s": mean, "host_s": before, "busy_s": busy,
            "ahead_s": ahead, "dispatches": stats.dispatches, "uploads": stats.uploads, "submits": stats.submits,
        })))
    }

    fn arguments(&self, position: i32, length: i32) -> Arguments {
        let token = |i: i32| i64::from(i * 7919 + position) % self.vocabulary;
        let tokens = (0..length).flat_map(|i| token(i).to_le_bytes()).collect();
        let inputs = vec![
            Array { scalar_type: 4, sizes: vec![1, length], bytes: tokens },
            Array { scalar_type: 4, sizes: vec![1], bytes: i64::from(position).to_le_bytes().to_vec() },
        ];
        Arguments::new(&self.graph, inputs)
    }

    /// One run.
    pub(super) fn step(&mut self, position: i32, length: i32) -> Result<Step> {
        let mut arguments = self.arguments(position, length);
        let (started, cpu) = (Instant::now(), thread_cpu_time());
        let stats = self.session.run(&mut arguments)?;
        let busy = (thread_cpu_time() - cpu).saturating_sub(stats.spun).as_secs_f64();
        let total = started.elapsed();
        let before = (total - stats.wait).as_secs_f64();
        Ok(Step { total: total.as_secs_f64(), before, busy, ahead: stats.ahead.as_secs_f64(), stats })
    }

    fn print_profile(&mut self, position: i32, length: i32) -> Result<()> {
        let arguments = self.arguments(position, length);
        let run = |timing| Ok(self.session.profile(&mut arguments.clone(), timing)?);
        let (kernels, _) = Kernels::measure(&self.graph, PROFILED, run)?;
        print!("{}{}", kernels.summary(), lines(&kernels.launches, None));
        Ok(())
    }
}
