//! Timing changes nothing that is not timed, copes with many launches, and does without a device's timestamps.

mod common;

use std::sync::Arc;

use common::data;
use etwgpu_cli::host::Arguments;
use etwgpu_cli::profile::synthesise;
use etwgpu_cli::pte::Pte;
use etwgpu_engine::{AdapterChoice, Gpu, Phase, Prepared, RunStats, Timing, Trace};
use etwgpu_graph::WeightSource;
use etwgpu_record::{Access, Binding, BufferDesc, Dispatch, OutputCopy, Recording, Shader, dump};
use etwgpu_runtime::{Knobs, Session, analyse};

/// The adapter that tests run on: a GPU if there is one, or else lavapipe.
fn adapter() -> String {
    let named = std::env::var("ETWGPU_ADAPTER").ok().filter(|name| !name.is_empty());
    let default = || match Gpu::open(&AdapterChoice::default()) {
        Ok(gpu) => gpu.info().name.clone(),
        Err(_) => "llvmpipe".into(),
    };
    named.unwrap_or_else(default)
}

fn open(without_timestamps: bool) -> Arc<Gpu> {
    let choice = AdapterChoice { name: Some(adapter()), without_timestamps, ..AdapterChoice::default() };
    Gpu::open(&choice).unwrap()
}

/// A delegate loaded with or without the setting, and arguments for it.
fn load(model: &str, timestamp_query: &str) -> (Session, Arguments) {
    let pte = Pte::open(data(model).as_ref()).unwrap();
    let program = pte.program().unwrap();
    let delegate = &program.methods[0].delegates[0];
    let adapter = adapter();
    let options = [("timestamp_query", timestamp_query), ("adapter", adapter.as_str())];
    let knobs = Knobs::resolve(&delegate.compile_specs, &options);
    let model = analyse(delegate.processed, &knobs.passes()).unwrap();
    let arguments = Arguments::new(&model.graph, synthesise(&model, &model.bound).unwrap());
    let mut source = &program;
    let source: &mut dyn WeightSource = &mut source;
    (Session::load(delegate.processed, &knobs, source).unwrap(), arguments)
}

fn shape(stats: &RunStats) -> (usize, usize, usize) {
    (stats.dispatches, stats.passes, stats.submits)
}

#[test]
fn the_setting_changes_nothing_but_the_passes_of_timed_runs() {
    for model in ["q4gsw_4w_pf17_bias", "sdpa_dynpos_d32_tiny"] {
        let ((mut plain, arguments), (mut timed, _)) = (load(model, "0"), load(model, "1"));
        let run = |session: &mut Session| {
            let mut arguments = arguments.clone();
            let stats = session.run(&mut arguments).unwrap();
            (shape(&stats), arguments.arrays)
        };
        let (first, second) = (run(&mut plain), run(&mut timed));
        let launches = first.0.0;
        assert!(launches > 0);
        assert_eq!(first.0, (launches, 1, 1), "one pass in one submission");
        assert_eq!(second.0, (launches, launches, 1), "a pass a launch, still in one submission");
        assert!(first.1 == second.1, "the same outputs, bit by bit");
        let recordings = [&mut plain, &mut timed]
            .map(|session| session.profile(&mut arguments.clone(), Timing::Off).unwrap().lowered.recording);
        assert_eq!(recordings[0], recordings[1]);
        assert_eq!(dump(&recordings[0]), dump(&recordings[1]));
        let profile = plain.profile(&mut arguments.clone(), Timing::Launches).unwrap();
        assert_eq!(profile.trace.spans.len(), launches);
        assert_eq!(profile.lowered.recording, recordings[0], "timing is no part of a recording");
        for (timing, timed) in (0..=launches + 1).flat_map(|n| {
            let (first, after) = (n.min(launches), launches.saturating_sub(n));
            [(Timing::First(n), first), (Timing::After(n), after)]
        }) {
            let mut given = arguments.clone();
            let profile = plain.profile(&mut given, timing).unwrap();
            let passes = if timed < launches { 2 } else { 1 };
            assert_eq!(shape(&profile.stats), (launches, passes, 1), "{timing:?}");
            assert_eq!(profile.trace.spans.iter().map(|span| span.launches).collect::<Vec<_>>(), [timed]);
            assert!(given.arrays == first.1, "{timing:?}: the same outputs, bit by bit");
        }
        assert_eq!(run(&mut plain), first, "and leaves nothing behind");
    }
}

/// So many launches, each of which adds one to a word.
fn counting(launches: usize) -> Recording {
    let source = "@group(0) @binding(1) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(1) fn main() { x[0] += 1u; }";
    let mut recording = Recording::default();
    let buffer = recording.add_buffer(BufferDesc::Temp { size: 16 });
    let dispatch = Dispatch {
        shader: Shader { label: "count", source: source.into() },
        bindings: vec![Binding { buffer, offset: 0, size: 16, touched: 4, access: Access::ReadWrite }],
        grid: [1, 1, 1],
        bytes: 4,
        ops: 1,
        ..Dispatch::default()
    };
    recording.dispatches = vec![dispatch; launches];
    recording.outputs.push(OutputCopy { output: 0, buffer, size: 4 });
    recording
}

fn run(gpu: &Gpu, recording: &Recording, timing: Timing) -> (u32, RunStats, Trace) {
    let mut prepared = Prepared::new(gpu, recording, &|_| None).unwrap();
    let mut counted = 0;
    let mut sink = |_: usize, bytes: &[u8]| {
        counted = u32::from_le_bytes(bytes.try_into().unwrap());
        Ok(())
    };
    let mut trace = Trace::new(timing, true);
    let stats = prepared.run(gpu, &[], &mut sink, &mut trace).unwrap();
    (counted, stats, trace)
}

#[test]
fn more_launches_than_a_query_set_holds_are_timed() {
    const LAUNCHES: usize = 2500;
    let (counted, stats, trace) = run(&open(false), &counting(LAUNCHES), Timing::Launches);
    assert_eq!((counted as usize, shape(&stats)), (LAUNCHES, (LAUNCHES, LAUNCHES, 1)));
    let numbers: Vec<_> = trace.spans.iter().map(|span| span.dispatch).collect();
    assert_eq!(numbers, (0..LAUNCHES).collect::<Vec<_>>());
    assert!(trace.spans.iter().all(|span| span.duration() >= 0.0 && span.start >= 0.0));
    assert!(trace.spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "each waits for the last");
    let wait = trace.phases.iter().find(|p| p.phase == Phase::Wait).unwrap();
    let last = trace.spans.last().unwrap().end;
    assert!(last <= wait.end.as_nanos() as f64 * 1.01 + 1e6, "{last} ns is after {:?}", wait.end);
}

#[test]
fn the_pass_of_production_is_timed_as_a_whole() {
    let (_, stats, trace) = run(&open(false), &counting(20), Timing::Pass);
    assert_eq!(shape(&stats), (20, 1, 1));
    assert!(matches!(&trace.spans[..], [span] if span.launches == 20 && span.duration() > 0.0));
}

#[test]
fn the_first_launches_are_timed_and_all_run_once() {
    let gpu = open(false);
    let mut recording = counting(12);
    recording.dispatches[0].grid = [1, 0, 1];
    recording.dispatches[5].grid = [0, 1, 1];
    for (timing, passes, dispatch, launches) in [
        (Timing::First(0), 2, None, 0),
        (Timing::First(5), 2, Some(1), 5),
        (Timing::First(9), 2, Some(1), 9),
        (Timing::First(10), 1, Some(1), 10),
        (Timing::First(11), 1, Some(1), 10),
        (Timing::Pass, 1, Some(1), 10),
        (Timing::After(0), 1, Some(1), 10),
        (Timing::After(4), 2, Some(6), 6),
        (Timing::After(9), 2, Some(11), 1),
        (Timing::After(10), 2, None, 0),
        (Timing::After(11), 2, None, 0),
    ] {
        let (counted, stats, trace) = run(&gpu, &recording, timing);
        assert_eq!((counted, shape(&stats)), (10, (10, passes, 1)), "{timing:?}");
        let [span] = trace.spans[..] else { panic!("{timing:?}: {:?}", trace.spans) };
        assert_eq!(span.launches, launches, "{timing:?}");
        assert!(dispatch.is_none_or(|dispatch| span.dispatch == dispatch), "{timing:?}: {span:?}");
        assert!(span.duration() > 0.0 || launches == 0, "{timing:?}: {span:?}");
    }
    recording.dispatches.iter_mut().for_each(|dispatch| dispatch.grid = [0, 1, 1]);
    for timing in [Timing::Pass, Timing::First(0), Timing::After(0)] {
        let (_, stats, trace) = run(&gpu, &recording, timing);
        assert_eq!(shape(&stats), (0, 1, 1));
        assert!(trace.spans.is_empty(), "nothing to time");
    }
}

#[test]
fn a_timed_pass_takes_what_its_launches_take() {
    let (gpu, recording) = (open(false), counting(1000));
    let ways: [fn(usize) -> Timing; 2] = [Timing::First, |n| Timing::After(1000 - n)];
    for way in ways {
        let once = |n| run(&gpu, &recording, way(n)).2.spans[0].duration();
        // The least of some, as other programs may take the processor at any time.
        let [none, few, many] = [0, 100, 1000].map(|n| (0..5).map(|_| once(n)).fold(f64::INFINITY, f64::min));
        assert!(2.0 * none < few && 2.0 * few < many, "{none}, {few}, {many} ns");
    }
}

#[test]
fn a_device_without_timestamps_runs_as_ever() {
    let gpu = open(true);
    assert!(!gpu.caps().timestamps);
    for timing in [Timing::Off, Timing::Pass, Timing::Launches, Timing::First(2), Timing::After(2)] {
        let (counted, stats, trace) = run(&gpu, &counting(3), timing);
        assert_eq!((counted, shape(&stats)), (3, (3, 1, 1)));
        assert!(trace.spans.is_empty() && !trace.phases.is_empty());
    }
}
