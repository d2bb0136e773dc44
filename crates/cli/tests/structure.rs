//! What a decoder does for one token: launches, waits, uploads, bytes. Speed itself is not tested, but whatever it rests
//! on is: a fusion that no longer applies or a copy that came back fails here.
//!
//! `ETWGPU_UPDATE_SNAPSHOTS=1` accepts other numbers. Models beside the clone are compared where they exist.

mod common;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use common::{Demo, repository, snapshot};
use etwgpu_cli::look::{Device, Report, Sizes, report};
use etwgpu_cli::pte::Pte;
use etwgpu_graph::ValueId;
use etwgpu_kernels::ops::sdpa::caches_by_kind;
use etwgpu_kernels::passes::PassOptions;
use etwgpu_kernels::{LowerOptions, lower};
use etwgpu_record::{BufferDesc, BufferId, Caps, Dispatch, Recording};
use etwgpu_runtime::{RunStats, analyse};

const POSITION: i64 = 20;

const MODELS: &[&str] = &[
    "demo/adder.pte",
    "../shared/models/tiny_4w_dyn/model.pte",
    "../shared/models/tiny_8da4w_dyn/model.pte",
    "../shared/models/tiny_fp32_dyn/model.pte",
    "../shared/models/qwen3tiny_4w_dyn/model.pte",
    "../shared/models/qwen3tiny_8da4w_dyn/model.pte",
];

/// The plan of one token on a device.
fn decode(model: &Path, caps: Caps) -> Report {
    let pte = Pte::open(model).unwrap();
    let program = pte.program().unwrap();
    let sizes =
        Sizes { shapes: vec!["1x1".parse().unwrap()], values: vec![POSITION.to_string().parse().unwrap()] };
    let device = Device { caps, options: LowerOptions::default(), passes: PassOptions::default() };
    report(&program.methods[0].delegates[0], &device, &sizes).unwrap()
}

fn devices() -> [Caps; 3] {
    [Caps::webgpu_floor(), Caps::lavapipe(), Caps::h200()]
}

/// Name of a model for its snapshot: its folder's, or its own.
fn name(model: &Path) -> String {
    let stem = model.file_stem().unwrap().to_string_lossy();
    if stem == "model" {
        model.parent().unwrap().file_name().unwrap().to_string_lossy().into()
    } else {
        stem.into()
    }
}

#[test]
fn work_of_one_token() {
    let models = MODELS.iter().map(|model| repository().join(model)).filter(|model| model.exists());
    let mut compared = 0;
    for model in models {
        let mut text = String::new();
        for caps in devices() {
            let report = decode(&model, caps);
            let totals = &report.totals;
            let _ = writeln!(
                text,
                "{}: {} launches, {} barriers; bytes: {} moved, {} uploaded, {} read back, {} temporary",
                report.device,
                totals.dispatches,
                totals.barriers,
                totals.moved_bytes,
                totals.input_bytes,
                totals.output_bytes,
                totals.temp_bytes
            );
        }
        snapshot(&format!("{}.decode", name(&model)), &text);
        compared += 1;
    }
    assert!(compared > 0);
}

/// All caches of a kind lie in one buffer, where a device waits for what was done to any of them.
#[test]
fn caches_that_lie_together_cost_no_wait() {
    for path in MODELS.iter().map(|model| repository().join(model)).filter(|model| model.exists()) {
        let pte = Pte::open(&path).unwrap();
        let program = pte.program().unwrap();
        let model = analyse(program.methods[0].delegates[0].processed, &PassOptions::default()).unwrap();
        let kinds = caches_by_kind(&model.graph);
        assert!(kinds.iter().all(|kind| kind.len() >= 2), "{path:?}: {kinds:?}");
        for (caps, live) in devices()
            .into_iter()
            .flat_map(|caps| [model.single().unwrap(), model.bound.clone()].map(|live| (caps.clone(), live)))
        {
            let mut recording =
                lower(&model.planner(&caps, &LowerOptions::default()), &live).unwrap().recording;
            let apart = recording.barriers();
            let Recording { buffers, dispatches, .. } = &mut recording;
            for kind in &kinds {
                let is_of_kind = |buffer: BufferId| match &buffers[buffer.index()] {
                    BufferDesc::State { value, .. } => kind.contains(&ValueId(*value)),
                    _ => false,
                };
                let mut bound = dispatches.iter_mut().flat_map(|launch| &mut launch.bindings);
                let first = bound.find(|binding| is_of_kind(binding.buffer)).unwrap().buffer;
                bound.filter(|b| is_of_kind(b.buffer)).for_each(|binding| binding.buffer = first);
                let uses = |launch: &Dispatch| {
                    let uses = launch.bindings.iter().filter(|b| b.buffer == first);
                    uses.map(|b| b.access).collect::<HashSet<_>>().len()
                };
                assert!(dispatches.iter().map(uses).all(|uses| uses <= 1), "read and written at once");
            }
            assert_eq!(recording.barriers(), apart, "{path:?} on {}", caps.name);
        }
    }
}

#[test]
fn every_group_of_a_decoder_runs_fused() {
    // The smallest device has too few bindings for one of them.
    for caps in [Caps::lavapipe(), Caps::h200()] {
        let report = decode(&repository().join("demo/adder.pte"), caps);
        // A front and a back of attention, a front and a back of the feed-forward part, in each of three layers.
        assert!(report.fusions.len() >= 12, "{}: {:?}", report.device, report.fusions);
        for fusion in &report.fusions {
            assert_eq!(fusion.refusal, None, "{}: {fusion:?}", report.device);
        }
        let launches = report.totals.dispatches;
        assert!(
            launches <= 24,
            "{launches} launches on {} for three layers, embedding and head",
            report.device
        );
    }
}

#[test]
fn a_step_is_one_submission_and_two_uploads_of_shaders_that_are_compiled() {
    let mut demo = Demo::load();
    let compiled = demo.session.memory().pipelines;
    let caps = etwgpu_runtime::gpu(&demo.knobs).unwrap().caps().clone();
    let planned = decode(&Demo::path(), caps).totals.dispatches;
    let mut step = |position: i64| -> RunStats {
        let mut arguments = demo.arguments(5, position);
        demo.session.run(&mut arguments).unwrap()
    };
    step(POSITION);
    for position in POSITION + 1..POSITION + 5 {
        let stats = step(position);
        // The token, and all parameters at once.
        assert_eq!((stats.submits, stats.uploads), (1, 2));
        assert_eq!(stats.dispatches, planned);
    }
    assert_eq!(demo.session.memory().pipelines, compiled, "the load compiled what a single token takes");
}
