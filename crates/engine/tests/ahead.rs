//! Commands that are encoded while the last run waits: used when they fit, dropped when they do not, and never in the way
//! of other recordings.

mod common;

use std::sync::Arc;
use std::thread;

use common::{Add, WORDS, chain, open};
use etwgpu_engine::{EngineError, Gpu, Patch, Prepared, RunStats, Timing, Trace};
use etwgpu_record::BufferId;

/// A prepared chain, and runs of it.
struct Chain {
    gpu: Arc<Gpu>,
    prepared: Prepared,
}

impl Chain {
    fn new(gpu: &Arc<Gpu>, launches: u32) -> Self {
        let add = Add { amount: 1, live: None, is_patched: true };
        let recording = chain(&vec![add; launches as usize]);
        Self { gpu: gpu.clone(), prepared: Prepared::new(gpu, &recording, &|_| None).unwrap() }
    }

    /// Words and statistics of a run over words that all are `value`.
    fn run(&mut self, value: u32, timing: Timing) -> (Vec<u32>, RunStats) {
        let mut words = Vec::new();
        let mut sink = |_: usize, bytes: &[u8]| {
            words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
            Ok(())
        };
        let input: Vec<u8> = (0..WORDS).flat_map(|_| value.to_le_bytes()).collect();
        let mut trace = Trace::new(timing, false);
        let inputs = [(BufferId(0), &input[..])];
        let stats = self.prepared.run(&self.gpu, &inputs, &mut sink, &mut trace).unwrap();
        (words, stats)
    }

    /// Runs and checks every word. Returns whether the commands were those encoded ahead.
    fn adds(&mut self, value: u32, sum: u32) -> bool {
        let (words, stats) = self.run(value, Timing::Off);
        assert_eq!(words, [value + sum; WORDS as usize]);
        stats.encoded_ahead
    }
}

#[test]
fn every_run_but_the_first_uses_what_the_last_one_encoded() {
    let mut chain = Chain::new(&open(), 20);
    let ahead: Vec<bool> = (0..6).map(|value| chain.adds(value, 20)).collect();
    assert_eq!(ahead, [false, true, true, true, true, true]);
    let (_, stats) = chain.run(0, Timing::Off);
    assert_eq!((stats.dispatches, stats.passes, stats.submits), (20, 1, 1));
    assert!(!stats.ahead.is_zero());
}

#[test]
fn commands_of_another_grid_are_dropped() {
    let mut chain = Chain::new(&open(), 3);
    for round in 0..40 {
        chain.adds(round, 3);
        chain.prepared.patch(&Patch { dispatch: 2, params: &[1], grid: [WORDS / 2, 1, 1] }).unwrap();
        let (words, stats) = chain.run(100 + round, Timing::Off);
        assert!(!stats.encoded_ahead);
        let half = WORDS as usize / 2;
        assert_eq!(words[..half], vec![103 + round; half], "the launches that are left");
        assert_eq!(words[half..], vec![round + 3; half], "untouched since the run before");
        chain.prepared.patch(&Patch { dispatch: 2, params: &[1], grid: [WORDS, 1, 1] }).unwrap();
    }
}

#[test]
fn other_parameters_keep_the_commands() {
    let mut chain = Chain::new(&open(), 3);
    chain.adds(0, 3);
    for amount in 2..40 {
        chain.prepared.patch(&Patch { dispatch: 1, params: &[amount], grid: [WORDS, 1, 1] }).unwrap();
        assert!(chain.adds(5, 2 + amount));
    }
}

#[test]
fn plans_that_alternate_keep_a_command_each() {
    let gpu = open();
    let mut plans = [Chain::new(&gpu, 2), Chain::new(&gpu, 9)];
    for round in 0..30 {
        let ahead = [plans[0].adds(round, 2), plans[1].adds(round, 9)];
        assert_eq!(ahead, [round > 0; 2]);
        if round % 10 == 3 {
            plans[1] = Chain::new(&gpu, 9);
            assert!(!plans[1].adds(round, 9), "a plan made anew has nothing yet");
        }
    }
}

#[test]
fn a_timed_run_neither_uses_nor_loses_the_way_of_production() {
    let mut chain = Chain::new(&open(), 4);
    chain.adds(1, 4);
    for timing in [Timing::Launches, Timing::Pass] {
        let (words, stats) = chain.run(7, timing);
        assert_eq!(words, [11; WORDS as usize]);
        assert!(!stats.encoded_ahead || !chain.gpu.caps().timestamps);
    }
    chain.adds(2, 4);
    assert!(chain.adds(3, 4));
}

#[test]
fn a_run_that_fails_leaves_a_recording_that_runs() {
    let mut chain = Chain::new(&open(), 4);
    chain.adds(1, 4);
    let mut refuse = |_: usize, _: &[u8]| Err(EngineError::Timeout(0));
    let Chain { gpu, prepared } = &mut chain;
    let refused = prepared.run(gpu, &[], &mut refuse, &mut Trace::off());
    assert_eq!(refused, Err(EngineError::Timeout(0)));
    assert!(chain.adds(2, 4));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let Chain { gpu, prepared } = &mut chain;
        prepared.run(gpu, &[], &mut |_, _| panic!("by the host"), &mut Trace::off())
    }));
    assert!(panicked.is_err());
    drop(chain);
}

#[test]
fn recordings_come_and_go_while_others_run() {
    let gpu = open();
    thread::scope(|scope| {
        for first in 0..2 {
            let gpu = &gpu;
            scope.spawn(move || {
                for round in 0..150 {
                    let mut chain = Chain::new(gpu, 3 + first);
                    assert!(!chain.adds(round, 3 + first));
                    assert!(chain.adds(round, 3 + first));
                }
            });
        }
        let steady = scope.spawn(|| {
            let mut chain = Chain::new(&gpu, 30);
            chain.adds(0, 30);
            assert!((0..200).all(|value| chain.adds(value, 30)));
        });
        steady.join().unwrap();
    });
}
