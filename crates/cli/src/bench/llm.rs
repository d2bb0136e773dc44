//! Decoder speed without ExecuTorch around it, and where the time goes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use etwgpu_engine::{Timing, thread_cpu_time};
use etwgpu_graph::Graph;
use etwgpu_record::Dispatch;
use etwgpu_runtime::{Knobs, Model, RunStats, Session, analyse, gpu};
use serde_json::{Value, json};

use super::{Output, median};
use crate::host::Arguments;
use crate::npy::Array;
use crate::profile::{Given, Kernels, Limits, lines};
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
    limits: Given,
    #[command(flatten)]
    output: Output,
}

/// Measures a decoder whose inputs are tokens `[1, S]` and a position `[1]`.
pub(super) fn run(options: &Options) -> Result<()> {
    let (mut decoder, load) = Decoder::load(&options.model)?;
    let gpu = gpu(&Knobs::default())?;
    let limits = Limits::of(&gpu, &options.limits)?;
    println!("load {load:.3} s");
    println!("{:<16} {:>9} {:>11} {:>9} {:>8}", "", "tok/s", "us", "limit", "of it");
    let mut prefill = Vec::new();
    for &length in &options.prefill {
        if let Some(figures) = decoder.prefill(length, &limits, options.profile)? {
            prefill.push(figures);
        }
    }
    let mut decode = Vec::new();
    for &context in &options.context {
        if let Some(figures) = decoder.decode(context, options.steps, &limits, options.profile)? {
            decode.push(figures);
        }
    }
    options
        .output
        .write("llm", json!({"limits": limits, "load_s": load, "prefill": prefill, "decode": decode}))
}

/// Tokens per second, and how many there could be.
fn row(name: &str, rate: f64, seconds: f64, limit: f64) -> String {
    format!("{name:<16} {rate:>9.0} {:>11.1} {limit:>9.0} {:>6.1} %", seconds * 1e6, 100.0 * rate / limit)
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
    fn prefill(&mut self, length: i32, limits: &Limits, profile: bool) -> Result<Option<Value>> {
        if length < 1 || length > self.bound {
            println!("prefill {length}: skipped, the program takes 1 to {} tokens at once", self.bound);
            return Ok(None);
        }
        let mut times: Vec<f64> = (0..4).map(|_| Ok(self.step(0, length)?.total)).collect::<Result<_>>()?;
        let first = times.remove(0);
        let median = median(&mut times);
        let (rate, limit) =
            (f64::from(length) / median, f64::from(length) / self.least_seconds(0, length, limits)?);
        let name = format!("prefill {length}");
        println!("{}  first {:.2} ms", row(&name, rate, median, limit), first * 1e3);
        if profile {
            self.print_profile(0, length)?;
        }
        Ok(Some(json!({
            "tokens": length, "tok_per_s": rate, "median_s": median, "first_s": first, "limit_tok_per_s": limit,
        })))
    }

    /// Tokens per second of single tokens after `context` others; none when the program refuses such positions.
    fn decode(
        &mut self,
        context: i32,
        steps: usize,
        limits: &Limits,
        profile: bool,
    ) -> Result<Option<Value>> {
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
        let limit = 1.0 / self.least_seconds(context, 1, limits)?;
        println!(
            "{}  mean {:.1} us, {:.1} us before submission, {:.1} us of CPU on the calling thread, {:.1} us meanwhile; \
             {} launches, {} uploads, {} submits",
            row(&format!("decode at {context}"), 1.0 / median, median, limit),
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
            "ahead_s": ahead, "limit_tok_per_s": limit, "dispatches": stats.dispatches, "uploads": stats.uploads, "submits": stats.submits,
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

    /// Bytes of weights on the device, which a load takes there; states begin as zeros.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.session.memory().weights
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

    /// The least time in which the device can do a run's work, launch by launch.
    fn least_seconds(&mut self, position: i32, length: i32, limits: &Limits) -> Result<f64> {
        let profile = self.session.profile(&mut self.arguments(position, length), Timing::Off)?;
        let least = |dispatch: &Dispatch| {
            limits.least_us(dispatch.bytes, dispatch.ops, dispatch.shader.enables("wgpu_cooperative_matrix"))
        };
        Ok(profile.lowered.recording.dispatches.iter().map(least).sum::<f64>() * 1e-6)
    }

    fn print_profile(&mut self, position: i32, length: i32) -> Result<()> {
        let arguments = self.arguments(position, length);
        let (kernels, _) = Kernels::measure(&self.graph, PROFILED, &mut self.session, &arguments)?;
        print!("{}{}", kernels.summary(), lines(&kernels.launches, None));
        Ok(())
    }
}
