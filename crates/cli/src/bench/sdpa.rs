//! Attention by itself: every route at one problem, in one run, against what the device can do.
//!
//! A measured graph is a chain of attentions: one waits for the one before, as the layers of a decoder do. They take turns
//! at caches that together exceed what the device keeps on chip.

mod problem;
mod row;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use etwgpu_engine::{Buffer, Gpu, Prepared, Timing, Trace};
use etwgpu_graph::{DType, Graph};
use etwgpu_kernels::fuse::Groups;
use etwgpu_kernels::live::{Dirty, Journal, propagate};
use etwgpu_kernels::lower::Planner;
use etwgpu_kernels::ops::sdpa::ROUTES;
use etwgpu_kernels::storage::Storage;
use etwgpu_kernels::{Live, LowerOptions, Lowered, lower};
use etwgpu_record::{BufferDesc, BufferId};
use etwgpu_runtime::{Knobs, gpu};
use serde_json::{Value as Json, json};

use problem::{Cache, Problem, Shape, noise};
use row::{Row, difference};

use super::{Output, median};
use crate::profile::{Given, Limits};

/// The route that others are compared with: strided reads of the values, and no tile skipped.
const NAIVE: &str = "sdpa.naive";

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Query heads, key-value heads and channels of a head.
    #[arg(long, value_delimiter = ',', default_value = "32/8/64,24/8/128,16/8/128,32/32/128")]
    shape: Vec<Shape>,
    /// Context lengths at which one query is measured.
    #[arg(long, value_delimiter = ',', default_value = "128,512,2048,8192,32768")]
    context: Vec<u32>,
    /// Numbers of queries from position zero on; `--prefill 0` measures none.
    #[arg(long, value_delimiter = ',', default_value = "128,512,2048,8192")]
    prefill: Vec<u32>,
    /// Element types of the caches; queries and results are f32.
    #[arg(long, value_delimiter = ',', default_value = "f32,f16")]
    cache: Vec<Cache>,
    /// Routes, by parts of their names; all without.
    #[arg(long, value_delimiter = ',')]
    arm: Vec<String>,
    /// MiB that the caches of a decoding chain take together at least, in 2 to 256 pairs.
    #[arg(long, default_value_t = 1024)]
    rotate: u64,
    /// Attentions of a decoding chain, if it has no more caches: they take turns at these, and share what beginning and
    /// ending a pass takes.
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..=1000))]
    chain: u32,
    /// Attentions of a prefill chain.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    prefill_layers: u32,
    /// Measure decoding also where no attention of a chain waits for another, so that launches overlap.
    #[arg(long)]
    apart: bool,
    /// Timed runs, of which the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    #[command(flatten)]
    limits: Given,
    #[command(flatten)]
    output: Output,
}

/// Measures every problem on every arm.
pub(super) fn run(options: &Options) -> Result<()> {
    let gpu = gpu(&Knobs::default())?;
    let limits = Limits::of(&gpu, &options.limits)?;
    println!(
        "{}: {:.0} GB/s, {:.2} TFLOP/s{}",
        gpu.caps().name,
        limits.gb_per_s,
        limits.tflop_per_s,
        limits.matrix_tflop_per_s.map_or(String::new(), |m| format!(", {m:.1} TFLOP/s of matrices"))
    );
    let is_wanted = |name: &str| options.arm.is_empty() || options.arm.iter().any(|part| name.contains(part));
    // The slowest first, so that the others can be compared with it.
    let mut names: Vec<&str> = ROUTES.iter().map(|route| route.name).rev().collect();
    names.sort_by_key(|&name| name != NAIVE);
    let arms: Vec<&str> = names.iter().copied().filter(|name| is_wanted(name)).collect();
    if arms.is_empty() {
        bail!("no route has such a name; there are {names:?}");
    }
    let mut figures = Vec::new();
    for problem in problems(options) {
        if problem.cache == Cache::F16 && !gpu.caps().f16 {
            println!("{}: skipped, the adapter has no f16", problem.name());
            continue;
        }
        match measure_problem(&gpu, &limits, &problem, &arms, options.runs) {
            Ok(rows) => figures.extend(rows),
            Err(error) => println!("{}: skipped, {error:#}", problem.name()),
        }
    }
    options.output.write("sdpa", json!({"limits": limits, "arms": figures}))
}

fn problems(options: &Options) -> Vec<Problem> {
    let mut problems = Vec::new();
    for &shape in &options.shape {
        for &cache in &options.cache {
            for &context in options.context.iter().filter(|&&context| context > 0) {
                let mut problem =
                    Problem { shape, cache, seq: 1, context, layers: 1, pairs: 1, apart: false };
                let wanted = (options.rotate << 20).div_ceil(2 * problem.cache_bytes().max(1));
                problem.pairs = wanted.clamp(2, 256) as u32;
                problem.layers = problem.pairs.max(options.chain);
                problems.push(problem);
                if options.apart {
                    problems.push(Problem { apart: true, ..problem });
                }
            }
            let prefills = options.prefill.iter().filter(|&&seq| seq > 0);
            problems.extend(prefills.map(|&seq| Problem {
                shape,
                cache,
                seq,
                context: seq,
                layers: options.prefill_layers,
                pairs: options.prefill_layers,
                apart: false,
            }));
        }
    }
    problems
}

/// The caches of a chain; all arms read the same ones.
struct Caches(Vec<Buffer>);

impl Caches {
    fn of(gpu: &Gpu, problem: &Problem) -> Result<Self> {
        let size = problem.cache_bytes();
        let caps = gpu.caps();
        if size > caps.max_binding.min(caps.max_buffer) {
            bail!("a cache of {size} bytes is larger than the device binds");
        }
        let bytes = noise(problem.dtype(), size / problem.dtype().size());
        let (mut buffers, mut uploads) = (Vec::new(), gpu.uploads(size * 2 * problem.pairs as u64));
        for _ in 0..2 * problem.pairs {
            let buffer = gpu.create_buffer("cache", size)?;
            uploads.write(&buffer, &bytes)?;
            buffers.push(buffer);
        }
        uploads.finish()?;
        Ok(Self(buffers))
    }

    fn get(&self, desc: &BufferDesc) -> Option<Buffer> {
        let BufferDesc::Weight { key, .. } = desc else { return None };
        self.0.get(key.constant as usize).cloned()
    }
}

/// Times of one arm, in microseconds an attention.
struct Times {
    /// In one pass, as in production.
    us: f64,
    /// Launches by themselves, without what lies between them.
    kernels: BTreeMap<&'static str, f64>,
    /// What the chain ends in.
    result: Vec<u8>,
}

/// Prints a table of all arms, and returns their figures.
fn measure_problem(
    gpu: &Gpu,
    limits: &Limits,
    problem: &Problem,
    arms: &[&'static str],
    runs: u32,
) -> Result<Vec<Json>> {
    println!("{}", problem.name());
    println!(
        "  {:>9} {:>9} {:>8} {:>8} {:>9} {:>8}  route",
        "us", "launches", "GB/s", "TFLOP/s", "of limit", "x naive"
    );
    let graph = problem.graph();
    let mut live = Live::at_bound(&graph);
    let mut journal = Journal::default();
    let dirty = Dirty::all(&graph);
    propagate(&graph, &mut live, &dirty, &mut journal)?;
    let caches = Caches::of(gpu, problem)?;
    let (mut naive, mut figures) = (None, Vec::new());
    let mut first: Option<Vec<u8>> = None;
    for &arm in arms {
        let times = plan(gpu, &graph, &live, arm)
            .and_then(|plan| plan.map(|lowered| time(gpu, problem, &caches, &lowered, runs)).transpose());
        let times = match times {
            Ok(Some(times)) => times,
            Ok(None) => continue,
            Err(error) => {
                println!("  {arm}: skipped, {error:#}");
                continue;
            }
        };
        if arm == NAIVE {
            naive = Some(times.us);
        }
        let off = first.as_ref().map_or(0.0, |first| difference(first, &times.result));
        let row = Row { problem, limits, arm, times: &times, naive, off };
        row.print();
        figures.push(row.json());
        first.get_or_insert(times.result);
    }
    Ok(figures)
}

/// The recording that takes this route, or none when another one is for such problems.
fn plan(gpu: &Gpu, graph: &Graph, live: &Live, arm: &str) -> Result<Option<Lowered>> {
    let (storage, options) =
        (Storage::of(graph), LowerOptions { prefer: vec![arm.to_owned()], ..LowerOptions::default() });
    let groups = Groups::of(graph, &storage);
    let planner = Planner { graph, storage: &storage, groups: &groups, caps: gpu.caps(), options: &options };
    let lowered = lower(&planner, live)?;
    let considered = lowered.plans.first().map(|plan| &plan.considered[..]).unwrap_or_default();
    match considered.iter().find(|c| c.route == arm).map(|c| &c.refusal) {
        Some(None) => Ok(Some(lowered)),
        Some(Some(why)) => {
            println!("  {arm}: no, {why}");
            Ok(None)
        }
        None => Ok(None),
    }
}

fn time(gpu: &Gpu, problem: &Problem, caches: &Caches, lowered: &Lowered, runs: u32) -> Result<Times> {
    let recording = &lowered.recording;
    let mut prepared = Prepared::new(gpu, recording, &|desc| caches.get(desc))?;
    let queries = noise(DType::F32, problem.row_bytes() / 4);
    let input = recording.buffers.iter().zip(0..).find(|(desc, _)| matches!(desc, BufferDesc::Input { .. }));
    let inputs: Vec<_> = input.map(|(_, id)| (BufferId(id), &queries[..])).into_iter().collect();
    let layers = f64::from(problem.layers);
    let mut result = Vec::new();
    let mut once = |timing| -> Result<Trace> {
        let mut trace = Trace::new(timing, true);
        let mut sink = |_: usize, bytes: &[u8]| {
            result = bytes.to_vec();
            Ok(())
        };
        prepared.run(gpu, &inputs, &mut sink, &mut trace)?;
        Ok(trace)
    };
    once(Timing::Off)?;
    let mut passes = Vec::new();
    for _ in 0..runs {
        let trace = once(Timing::Pass)?;
        // Without timestamps the host's time is all there is.
        let waited: f64 = trace.phases.iter().map(|p| (p.end - p.start).as_nanos() as f64).sum();
        passes.push(trace.spans.first().map_or(waited, |span| span.duration()) / layers / 1e3);
    }
    let mut kernels: BTreeMap<&'static str, f64> = BTreeMap::new();
    for span in once(Timing::Launches)?.spans {
        let Some(dispatch) = recording.dispatches.get(span.dispatch) else { continue };
        *kernels.entry(dispatch.shader.label).or_default() += span.duration() / layers / 1e3;
    }
    Ok(Times { us: median(&mut passes), kernels, result })
}
