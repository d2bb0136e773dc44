//! What a run tells about itself: its phases on the host, and its launches on the device, on one time line.

use std::ops::Range;
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
    /// The first so many launches in one pass, none of them too; those behind follow in an untimed pass.
    First(usize),
    /// All launches but the first so many in one pass, which may hold none; the first run before, in an untimed pass.
    After(usize),
}

impl Timing {
    /// The passes of a timed run with launches at these positions: every launch in one of them, in order. Empty where
    /// nothing is timed.
    pub(crate) fn windows(self, launches: impl Iterator<Item = usize>) -> Vec<Window> {
        let launches: Vec<usize> = launches.collect();
        let count = launches.len();
        let window = |range: Range<usize>, timed| Window {
            dispatch: launches.get(range.start).copied().unwrap_or_default(),
            launches: range.len(),
            timed,
        };
        let cut = |at: usize, timed: [bool; 2]| {
            let at = at.min(count);
            let parts = [window(0..at, timed[0]), window(at..count, timed[1])];
            parts.into_iter().filter(|part| part.timed || part.launches > 0).collect()
        };
        match self {
            _ if launches.is_empty() => Vec::new(),
            Self::Off => Vec::new(),
            Self::Pass => vec![window(0..count, true)],
            Self::Launches => (0..count).map(|at| window(at..at + 1, true)).collect(),
            Self::First(first) => cut(first, [true, false]),
            Self::After(first) => cut(first, [false, true]),
        }
    }
}

/// Consecutive launches that share a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Position of the first launch in its recording; means nothing where there is none.
    pub(crate) dispatch: usize,
    /// How many, not counting those without workgroups.
    pub(crate) launches: usize,
    /// Whether timestamps are written at its ends.
    pub(crate) timed: bool,
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
    /// Position of the first launch in its recording; means nothing where there is none.
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
            windows.into_iter().map(|w| (w.dispatch, w.launches, w.timed)).collect::<Vec<_>>()
        };
        assert_eq!(windows(Timing::Off), []);
        assert_eq!(windows(Timing::Pass), [(0, 5, true)]);
        assert_eq!(windows(Timing::Launches), [0, 1, 3, 4, 7].map(|at| (at, 1, true)));
        assert_eq!(windows(Timing::First(0)), [(0, 0, true), (0, 5, false)]);
        assert_eq!(windows(Timing::First(3)), [(0, 3, true), (4, 2, false)]);
        assert_eq!(windows(Timing::After(3)), [(0, 3, false), (4, 2, true)]);
        assert_eq!(windows(Timing::After(9)), [(0, 5, false), (0, 0, true)]);
        for whole in [Timing::First(5), Timing::First(9), Timing::After(0)] {
            assert_eq!(windows(whole), windows(Timing::Pass), "{whole:?}");
        }
        for timing in [Timing::Pass, Timing::First(0), Timing::After(2)] {
            assert!(timing.windows(std::iter::empty()).is_empty(), "no launch, nothing to time");
        }
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
