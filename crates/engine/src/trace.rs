//! What a run tells about itself: its phases on the host, and its launches on the device, on one time line.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// What is timed on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// Nothing: the recording runs as in production.
    #[default]
    Off,
    /// The one pass of production, as a whole.
    Pass,
    /// Every launch, in a pass of its own.
    Launches,
    /// So many consecutive launches at a time, each window of them in a pass of its own; the last window may have fewer.
    Windows(NonZeroUsize),
}

impl Timing {
    /// Launches that a timed pass holds at most; none when nothing is timed.
    fn pass_size(self) -> Option<NonZeroUsize> {
        match self {
            Self::Off => None,
            Self::Pass => Some(NonZeroUsize::MAX),
            Self::Launches => Some(NonZeroUsize::MIN),
            Self::Windows(size) => Some(size),
        }
    }

    /// The timed passes of a run with launches at these positions: every launch in one of them, in order.
    pub(crate) fn windows(self, launches: impl Iterator<Item = usize>) -> Vec<Window> {
        let Some(size) = self.pass_size() else { return Vec::new() };
        let launches: Vec<usize> = launches.collect();
        launches
            .chunks(size.get())
            .map(|chunk| Window { dispatch: chunk[0], launches: chunk.len() })
            .collect()
    }
}

/// Consecutive launches that share a timed pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Position of the first launch in its recording.
    pub(crate) dispatch: usize,
    /// How many, not counting those without workgroups.
    pub(crate) launches: usize,
}

/// A part of a run on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Sizes and integers are taken over, and the plan for them found, refreshed or made.
    Plan,
    /// Inputs are converted and written.
    Inputs,
    /// Commands are encoded, unless they are from the last run.
    Encode,
    /// Commands are handed to the device.
    Submit,
    /// Another thread is asked to encode the commands of the next run while the device works.
    Ahead,
    /// The host waits for the device.
    Wait,
    /// Outputs are copied out.
    Outputs,
}

impl Phase {
    /// Its name in traces. It holds no digit: tools take numbers in names for node ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "ETWGPU_PLAN",
            Self::Inputs => "ETWGPU_INPUTS",
            Self::Encode => "ETWGPU_ENCODE",
            Self::Submit => "ETWGPU_SUBMIT",
            Self::Ahead => "ETWGPU_ENCODE_NEXT",
            Self::Wait => "ETWGPU_WAIT",
            Self::Outputs => "ETWGPU_OUTPUTS",
        }
    }
}

/// When a phase ran, in time since the trace began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseSpan {
    /// Which one.
    pub phase: Phase,
    /// Begin.
    pub start: Duration,
    /// End.
    pub end: Duration,
}

/// When launches ran on the device, in nanoseconds since the trace began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Position of the first launch in its recording.
    pub dispatch: usize,
    /// Launches that ran in it, not counting those without workgroups.
    pub launches: usize,
    /// Begin.
    pub start: f64,
    /// End.
    pub end: f64,
}

impl Span {
    /// Nanoseconds.
    pub fn duration(&self) -> f64 {
        self.end - self.start
    }
}

/// The observer of one run.
#[derive(Clone, Debug)]
pub struct Trace {
    timing: Timing,
    notes_phases: bool,
    began: Instant,
    last: Instant,
    /// Phases in order; empty unless they were asked for.
    pub phases: Vec<PhaseSpan>,
    /// Device time; empty when nothing is timed or the device has no timestamps.
    pub spans: Vec<Span>,
}

impl Trace {
    /// Begins now.
    pub fn new(timing: Timing, phases: bool) -> Self {
        let began = Instant::now();
        Self { timing, notes_phases: phases, began, last: began, phases: Vec::new(), spans: Vec::new() }
    }

    /// The observer that sees nothing.
    pub fn off() -> Self {
        Self::new(Timing::Off, false)
    }

    /// What to time on the device.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// A phase ends now; it began where the last one ended.
    pub fn end(&mut self, phase: Phase) {
        if self.notes_phases {
            let now = Instant::now();
            self.phases.push(PhaseSpan { phase, start: self.last - self.began, end: now - self.began });
            self.last = now;
        }
    }

    /// Sets the spans of work that ran between two moments of the host.
    ///
    /// The clocks of host and device have nothing in common that wgpu would tell, so the work is put into the middle of
    /// the time in which it must have run: it is off by half the slack at most.
    pub(crate) fn place(&mut self, spans: Vec<Span>, submitted: Instant, done: Instant) {
        let first = spans.iter().map(|s| s.start).fold(f64::INFINITY, f64::min);
        let last = spans.iter().map(|s| s.end).fold(f64::NEG_INFINITY, f64::max);
        let window = done.duration_since(submitted).as_nanos() as f64;
        let slack = (window - (last - first)).max(0.0);
        let shift = submitted.duration_since(self.began).as_nanos() as f64 + slack / 2.0 - first;
        let moved = |s: Span| Span { start: s.start + shift, end: s.end + shift, ..s };
        self.spans = spans.into_iter().map(moved).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_time_lies_within_the_time_that_the_host_saw() {
        let mut trace = Trace::off();
        let submitted = trace.began + Duration::from_nanos(1000);
        let done = submitted + Duration::from_nanos(500);
        let span = |dispatch, start, end| Span { dispatch, launches: 1, start, end };
        trace.place(vec![span(0, 7e9, 7e9 + 100.0), span(1, 7e9 + 200.0, 7e9 + 300.0)], submitted, done);
        assert_eq!(trace.spans, [span(0, 1100.0, 1200.0), span(1, 1300.0, 1400.0)]);
        trace.place(vec![span(0, 0.0, 900.0)], submitted, done);
        assert_eq!(
            trace.spans,
            [span(0, 1000.0, 1900.0)],
            "work that seems longer than the wait begins at once"
        );
    }

    #[test]
    fn windows_hold_every_launch_once_and_in_order() {
        let windows = |timing: Timing| {
            let windows = timing.windows([0, 1, 3, 4, 7].into_iter());
            windows.into_iter().map(|window| (window.dispatch, window.launches)).collect::<Vec<_>>()
        };
        let size = |size| Timing::Windows(NonZeroUsize::new(size).unwrap());
        assert_eq!(windows(Timing::Off), []);
        assert_eq!(windows(Timing::Pass), [(0, 5)]);
        assert_eq!(windows(Timing::Launches), [(0, 1), (1, 1), (3, 1), (4, 1), (7, 1)]);
        assert_eq!(windows(size(2)), [(0, 2), (3, 2), (7, 1)]);
        assert_eq!(windows(size(5)), windows(Timing::Pass));
        assert_eq!(windows(size(9)), windows(Timing::Pass));
        assert!(Timing::Pass.windows(std::iter::empty()).is_empty(), "no launch, nothing to time");
    }

    #[test]
    fn phases_follow_each_other_and_are_noted_on_demand() {
        let mut trace = Trace::new(Timing::Off, true);
        trace.end(Phase::Plan);
        trace.end(Phase::Inputs);
        assert_eq!(trace.phases[0].end, trace.phases[1].start);
        let mut trace = Trace::off();
        trace.end(Phase::Plan);
        assert!(trace.phases.is_empty());
    }
}
