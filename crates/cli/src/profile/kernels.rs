//! One step run again and again, timed in passes that reach further and further.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use etwgpu_engine::Timing;
use etwgpu_graph::Graph;
use etwgpu_runtime::{Profile, Session};
use serde::{Deserialize, Serialize};

use super::measurement::LaunchTime;
use super::sweeps::{Middle, Part, Sweeps};
use crate::bench::median;
use crate::host::Arguments;

/// By how much a device's speed may change while it is measured, without a word about it.
const STEADY: f64 = 0.02;

/// What a step's kernels take. All times are in microseconds and medians.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernels {
    /// Time on the device of the one pass that a step has in production; it holds that of an empty pass.
    pub pass_us: Option<f64>,
    /// By which part of itself that pass became longer while the kernels were timed: a clock that follows the load.
    #[serde(default)]
    pub slowdown: f64,
    /// Time of a timed pass with no launch in it.
    pub empty_us: f64,
    /// How often each launch was timed.
    pub sweeps: usize,
    /// Launches whose times came out below zero, and count as zero.
    pub negative: usize,
    /// Launches before which the device waits for an earlier one.
    pub barriers: usize,
    /// Parts of the step, measured from its end, too.
    pub parts: Vec<Part>,
    /// Launches in order.
    pub launches: Vec<LaunchTime>,
}

impl Kernels {
    /// Times a step with these arguments in at most `runs` sweeps. Returns a run in which every launch had a timed pass of
    /// its own, too.
    pub fn measure(
        graph: &Graph,
        runs: u32,
        session: &mut Session,
        arguments: &Arguments,
    ) -> Result<(Self, Profile)> {
        let apart = session.profile(&mut arguments.clone(), Timing::Launches)?;
        let barriers = apart.lowered.recording.barriers();
        let count = apart.trace.spans.len();
        if count == 0 {
            return Ok((Self { barriers, ..Self::default() }, apart));
        }
        let sweeps = Sweeps::take(count, runs, |timing| {
            let spans = session.trace(&mut arguments.clone(), timing)?.spans;
            Ok(spans.first().context("the device has stopped to give timestamps")?.duration() / 1e3)
        })?;
        let mut times = sweeps.launches();
        let negative = times.iter().filter(|time| time.us < 0.0).count();
        times.iter_mut().for_each(|time| time.us = time.us.max(0.0));
        let kernels = Self {
            pass_us: Some(sweeps.pass_us()),
            slowdown: sweeps.slowdown(),
            empty_us: sweeps.empty_us(),
            sweeps: sweeps.count(),
            negative,
            barriers,
            parts: sweeps.parts(&times.iter().map(|time| time.us).collect::<Vec<_>>()),
            launches: launches(graph, &apart, &times),
        };
        Ok((kernels, apart))
    }

    /// Sum over the launches' times.
    pub fn us(&self) -> f64 {
        self.launches.iter().map(|launch| launch.us).sum()
    }

    /// The pass, the sum, how well a launch's time is known, and the measurement from the other end; some lines.
    pub fn summary(&self) -> String {
        let Self { pass_us: Some(pass), empty_us, sweeps, negative, barriers, .. } = *self else {
            return "on the GPU: no kernel could be timed\n".into();
        };
        let (sum, count) = (self.us(), self.launches.len());
        let off = |sum: f64, of: f64| 100.0 * (sum / of - 1.0);
        let mut text = format!(
            "on the GPU: {pass:.1} us in its one pass; {sum:.1} us as the sum of {count} kernels ({:+.1} %), {:+.1} % with \
             the {empty_us:.1} us of an empty pass; {barriers} barriers\n",
            off(sum, pass),
            off(sum + empty_us, pass),
        );
        let mut errors: Vec<f64> = self.launches.iter().filter_map(|launch| launch.error_us).collect();
        let middle = median(&mut errors);
        let known =
            errors.last().map(|worst| format!(", known to {middle:.2} us (median), {worst:.2} us at worst"));
        let _ = writeln!(text, "each kernel: the median of {sweeps} sweeps{}", known.unwrap_or_default());
        if negative > 0 {
            let _ = writeln!(text, "{negative} of {count} kernels came out below zero, and count as zero");
        }
        if self.slowdown.abs() > STEADY {
            let _ = writeln!(
                text,
                "the pass took {:+.1} % in the last third of the sweeps: the device's clock did not stay the same",
                100.0 * self.slowdown
            );
        }
        let worst = self.parts.iter().max_by(|a, b| a.off_us().total_cmp(&b.off_us()));
        if let Some(worst) = worst {
            let _ = writeln!(
                text,
                "check, {} parts timed from the step's end: off by {:.1} us (median), {:.1} us at worst (kernels {} to {}, \
                 {:.1} for {:.1} us)",
                self.parts.len(),
                median(&mut self.parts.iter().map(Part::off_us).collect::<Vec<_>>()),
                worst.off_us(),
                worst.first + 1,
                worst.first + worst.launches,
                worst.us,
                worst.from_end_us
            );
        }
        text
    }
}

/// The launches of a run in which each had a pass of its own, with these times.
fn launches(graph: &Graph, profile: &Profile, times: &[Middle]) -> Vec<LaunchTime> {
    let named = |id: &u32| graph.nodes.iter().find(|node| node.handles.contains(id));
    let launch = |(span, &Middle { us, error_us }): (&etwgpu_engine::Span, &Middle)| {
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
            error_us,
        })
    };
    profile.trace.spans.iter().zip(times).filter_map(launch).collect()
}
