//! What a decoder does for one token: launches, waits, uploads, bytes. Speed itself is not tested, but whatever it rests
//! on is: a fusion that no longer applies or a copy that came back fails here.
//!
//! `ETWGPU_UPDATE_SNAPSHOTS=1` accepts other numbers. Models beside the clone are compared where they exist.

mod common;

use std::fmt::Write as _;
use std::path::Path;

use common::{Demo, repository, snapshot};
use etwgpu_cli::look::{Device, Report, Sizes, report};
use etwgpu_cli::pte::Pte;
use etwgpu_kernels::LowerOptions;
use etwgpu_kernels::passes::PassOptions;
use etwgpu_record::Caps;
use etwgpu_runtime::RunStats;

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
