//! Linear layers by kind, size and route.

mod layer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use etwgpu_engine::{Gpu, Timing};
use etwgpu_kernels::ops::linear::ROUTES;
use etwgpu_kernels::{LowerOptions, Lowered};
use etwgpu_runtime::{Knobs, gpu};
use serde_json::json;

use self::layer::{Kind, Layer, Shape};
use super::probe::{Probe, plan};
use super::{Output, median};
use crate::profile::{Given, Limits};

/// What gate and up of one launch count as.
const GATED: &str = "fuse.swiglu";

/// How long a route runs before it is timed.
const WARM_UP: Duration = Duration::from_millis(50);

/// Time after which a layer on a route is not run again.
const ENOUGH: Duration = Duration::from_secs(2);

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Layers as MxNxK: rows, output and input channels. The head, gate and up, and one layer at many M of a 1B decoder
    /// without.
    #[arg(long = "shape", value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// Kinds of weights and activations.
    #[arg(long = "kind", value_delimiter = ',', default_value = "4w,8da4w,f32")]
    kinds: Vec<Kind>,
    /// Measure gate and up of a feed-forward, half of the output channels each, in one launch with the normalisation before
    /// and SiLU and product behind them; 4-bit kinds only.
    #[arg(long)]
    gated: bool,
    /// Elements that share a scale.
    #[arg(long, default_value_t = 32)]
    group: u32,
    /// MiB of different weights that runs rotate through, so that no cache holds them.
    #[arg(long, default_value_t = 512)]
    rotate: u64,
    /// Runs through all of them.
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    #[command(flatten)]
    limits: Given,
    #[command(flatten)]
    output: Output,
}

/// Head, gate and up of a 1B decoder, and its gate alone from decode to prefill.
fn usual_shapes() -> Vec<Shape> {
    let decode = [(1, 128_256, 2048), (1, 16_384, 2048)];
    let rows = [1, 2, 4, 8, 16, 128, 512, 2048].map(|m| (m, 8192, 2048));
    decode.into_iter().chain(rows).map(|(m, n, k)| Shape { m, n, k }).collect()
}

/// Prints a row a layer and route.
pub(super) fn run(options: &Options) -> Result<()> {
    let gpu = gpu(&Knobs::default())?;
    let limits = Limits::of(&gpu, &options.limits)?;
    let shapes = if options.shapes.is_empty() { usual_shapes() } else { options.shapes.clone() };
    println!(
        "{:<6} {:>19}  {:<14} {:>11} {:>7} {:>11} {:>7} {:>9} {:>9}",
        "kind", "MxNxK", "route", "us alone", "limit", "us a pass", "limit", "GB/s", "TFLOP/s"
    );
    let mut rows = Vec::new();
    for &shape in &shapes {
        for &kind in &options.kinds {
            let layer = Layer { kind, shape, group: options.group, gated: options.gated };
            for route in routes(options.gated) {
                let Some(Times { alone, seconds, taken }) = layer.measure(&gpu, route, options)? else {
                    continue;
                };
                let (bytes, ops) = (layer.bytes() as f64, layer.ops());
                let least = limits.least_us(layer.bytes(), ops as u64, gpu.caps().coop_matrix) * 1e-6;
                let (share_alone, share) = (least / alone, least / seconds);
                let kind = kind.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned());
                let Shape { m, n, k } = shape;
                let mark = if taken { "*" } else { "" };
                println!(
                    "{kind:<6} {:>19}  {:<14} {:>11.2} {:>7} {:>11.2} {:>7} {:>9.1} {:>9.2}",
                    format!("{m}x{n}x{k}"),
                    format!("{route}{mark}"),
                    alone * 1e6,
                    format!("{:.1} %", share_alone * 100.0),
                    seconds * 1e6,
                    format!("{:.1} %", share * 100.0),
                    bytes / seconds / 1e9,
                    ops / seconds / 1e12
                );
                rows.push(json!({
                    "kind": kind, "m": m, "n": n, "k": k, "group": options.group, "route": route, "chosen": taken,
                    "seconds_alone": alone, "share_of_limit_alone": share_alone, "seconds": seconds,
                    "share_of_limit": share, "gb_per_s": bytes / seconds / 1e9, "tflop_per_s": ops / seconds / 1e12,
                }));
            }
        }
    }
    println!(
        "alone: in a timed pass of its own, with the cost of that; a pass: a share of one of many, none waiting for another"
    );
    println!("* the route that is taken unless another is asked for");
    options.output.write("linear", json!({"limits": limits, "rows": rows}))
}

fn routes(gated: bool) -> Vec<&'static str> {
    if gated { vec![GATED] } else { ROUTES.iter().map(|route| route.name).collect() }
}

/// What a layer takes on a route, in seconds.
struct Times {
    /// In a timed pass of its own.
    alone: f64,
    /// As a share of one pass of independent layers.
    seconds: f64,
    /// Whether the planner would choose the route.
    taken: bool,
}

impl Layer {
    /// What a layer takes on a route; none when it does not fit.
    fn measure(&self, gpu: &Arc<Gpu>, route: &str, options: &Options) -> Result<Option<Times>> {
        let copies = self.copies(options.rotate << 20);
        let graph = self.graph(copies);
        let nodes = graph.nodes.len();
        let asked = LowerOptions { prefer: vec![route.into()], ..LowerOptions::default() };
        if !took(&plan(gpu, &graph, &asked)?, route) {
            return Ok(None);
        }
        let mut probe = match Probe::new(gpu, &graph, &asked) {
            Ok(probe) => probe,
            Err(error) => {
                println!("{:?} {:?} {route}: skipped, {error:#}", self.kind, self.shape);
                return Ok(None);
            }
        };
        // A device that was idle has to speed up first.
        let started = Instant::now();
        while started.elapsed() < WARM_UP {
            probe.seconds_of_layers(copies, nodes)?;
        }
        let (mut alone, mut shares) = (Vec::new(), Vec::new());
        let started = Instant::now();
        while shares.is_empty() || (shares.len() < options.repeats && started.elapsed() < ENOUGH) {
            alone.extend(probe.seconds_of_layers(copies, nodes)?);
            shares.push(probe.seconds_of_pass()? / copies as f64);
        }
        let taken = took(&plan(gpu, &graph, &LowerOptions::default())?, route);
        Ok(Some(Times { alone: median(&mut alone), seconds: median(&mut shares), taken }))
    }
}

fn took(lowered: &Lowered, route: &str) -> bool {
    let considered = lowered.plans.iter().flat_map(|plan| &plan.considered);
    considered.filter(|c| c.refusal.is_none()).any(|c| c.route == route)
}

impl Probe {
    /// Seconds of each layer: from timestamps, or the wall clock's share where there are none.
    fn seconds_of_layers(&mut self, layers: u64, nodes: usize) -> Result<Vec<f64>> {
        let mut times: BTreeMap<u64, f64> = BTreeMap::new();
        for span in self.spans(Timing::Launches)? {
            let node = self.lowered.recording.dispatches[span.dispatch].node;
            let layer = u64::from(node) * layers / nodes as u64;
            *times.entry(layer).or_default() += span.duration() * 1e-9;
        }
        if times.is_empty() {
            let started = Instant::now();
            self.run()?;
            return Ok(vec![started.elapsed().as_secs_f64() / layers as f64]);
        }
        Ok(times.into_values().collect())
    }

    /// Seconds of all nodes in one pass: from timestamps, or the wall clock where there are none.
    fn seconds_of_pass(&mut self) -> Result<f64> {
        let started = Instant::now();
        let spans = self.spans(Timing::Pass)?;
        Ok(spans.first().map_or(started.elapsed().as_secs_f64(), |span| span.duration() * 1e-9))
    }
}
