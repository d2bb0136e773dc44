//! One step run again and again, timed in passes of several sizes.

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use etwgpu_engine::{Gpu, Timing};
use etwgpu_graph::Graph;
use etwgpu_runtime::Profile;
use serde::{Deserialize, Serialize};

use super::calibrate::{Check, FLOOR_US, Fit, cost};
use super::measurement::LaunchTime;
use super::timer::cost_us;
use crate::bench::median;

/// Launches in the windows that the kernels' times are held against.
const WINDOWS: [NonZeroUsize; 3] =
    [NonZeroUsize::new(2).unwrap(), NonZeroUsize::new(4).unwrap(), NonZeroUsize::new(8).unwrap()];

/// What a step's kernels take. All times are in microseconds and medians.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernels {
    /// Time on the device of the one pass that a step has in production; it holds the cost of timing it.
    pub pass_us: Option<f64>,
    /// Launches before which the device waits for an earlier one.
    pub barriers: usize,
    /// What a timed pass costs; it is taken off the launches' times.
    #[serde(default)]
    pub timer_us: f64,
    /// Launches whose times would be below the floor without it.
    #[serde(default)]
    pub lifted: usize,
    /// Windows of launches, measured and predicted.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Launches in order.
    pub launches: Vec<LaunchTime>,
}

/// Times of passes of one size: a row a pass, its times in all runs.
#[derive(Default)]
struct Passes(Vec<Vec<f64>>);

impl Passes {
    fn add(&mut self, profile: &Profile) {
        let spans = &profile.trace.spans;
        self.0.resize_with(self.0.len().max(spans.len()), Vec::new);
        for (times, span) in self.0.iter_mut().zip(spans) {
            times.push(span.duration() / 1e3);
        }
    }

    fn medians(mut self) -> Vec<f64> {
        self.0.iter_mut().map(|times| median(times)).collect()
    }
}

impl Kernels {
    /// Times a step `runs` times in each way; `run` repeats it with the same arguments. Returns the last run in which
    /// every launch had a pass of its own, too.
    pub fn measure(
        gpu: &Gpu,
        graph: &Graph,
        runs: u32,
        mut run: impl FnMut(Timing) -> Result<Profile>,
    ) -> Result<(Self, Profile)> {
        let (mut whole, mut single) = (Passes::default(), Passes::default());
        let mut windows = WINDOWS.map(|_| Passes::default());
        let mut last = None;
        // In turn, so that a device whose clock drifts drifts for all alike.
        for _ in 0..runs {
            whole.add(&run(Timing::Pass)?);
            for (size, passes) in WINDOWS.into_iter().zip(&mut windows) {
                passes.add(&run(Timing::Windows(size))?);
            }
            single.add(last.insert(run(Timing::Launches)?));
        }
        let last = last.context("no runs")?;
        let pass_us = whole.medians().pop();
        let single = single.medians();
        let timer_us = match pass_us.and_then(|pass| cost(pass, &single)) {
            Some(cost) => cost,
            None => cost_us(gpu)?,
        };
        let fit = Fit::new(&single, timer_us);
        let windows = WINDOWS.iter().zip(windows);
        let checks = windows.filter_map(|(size, passes)| fit.check(size.get(), &passes.medians())).collect();
        let launches = launches(graph, &last, &fit.launches);
        let barriers = last.lowered.recording.barriers();
        Ok((Self { pass_us, barriers, timer_us, lifted: fit.lifted, checks, launches }, last))
    }

    /// Sum over the launches' times.
    pub fn us(&self) -> f64 {
        self.launches.iter().map(|launch| launch.us).sum()
    }

    /// The sum, the pass, the timer's cost, and how windows of launches agree; some lines.
    pub fn summary(&self) -> String {
        let sum = self.us();
        let count = self.launches.len();
        if count == 0 {
            return "on the GPU: no kernel could be timed\n".into();
        }
        let mut text = String::new();
        if let Some(pass) = self.pass_us {
            let off = 100.0 * (sum / pass - 1.0);
            let _ = writeln!(
                text,
                "on the GPU: {pass:.1} us in its one pass; {sum:.1} us as the sum of {count} kernels ({off:+.1} %), {} \
                 barriers",
                self.barriers
            );
        }
        let _ = writeln!(
            text,
            "off each kernel's time: {:.2} us that a timed pass of its own costs",
            self.timer_us
        );
        if self.lifted > 0 {
            let _ = writeln!(
                text,
                "{} of {count} kernels would be below {FLOOR_US} us then, and count as {FLOOR_US} us or as the pass took",
                self.lifted
            );
        }
        for check in &self.checks {
            let Some(worst) = check.worst() else { continue };
            let (predicted, us) = (check.predicted_us(), check.us());
            let _ = writeln!(
                text,
                "check, passes of {} kernels: {predicted:.1} us predicted, {us:.1} us measured ({:+.1} %) in {}; each \
                 off by {:.1} % (median), {:+.1} % at worst (kernels {} to {}, {:.1} for {:.1} us)",
                check.launches,
                100.0 * (predicted / us - 1.0),
                check.windows.len(),
                100.0 * check.median_error(),
                100.0 * worst.error(),
                worst.first + 1,
                worst.first + worst.launches,
                worst.predicted_us,
                worst.us
            );
        }
        text
    }
}

/// The launches of a run in which each was timed, with these times.
fn launches(graph: &Graph, profile: &Profile, times: &[f64]) -> Vec<LaunchTime> {
    let named = |id: &u32| graph.nodes.iter().find(|node| node.handles.contains(id));
    let launch = |(span, &us): (&etwgpu_engine::Span, &f64)| {
        let dispatch = profile.lowered.recording.dispatches.get(span.dispatch)?;
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
            us,
        })
    };
    profile.trace.spans.iter().zip(times).filter_map(launch).collect()
}
