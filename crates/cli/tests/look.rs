//! `dump` and `explain` on committed programs, compared with `snapshots/`.
//!
//! `ETWGPU_UPDATE_SNAPSHOTS=1` writes the snapshots instead.

mod common;

use std::path::Path;

use common::{TempProgram, data, delegate, look, program, shown, snapshot};
use etwgpu_cli::look::{Device, Sizes, report};
use etwgpu_cli::pte::Pte;
use etwgpu_kernels::LowerOptions;
use etwgpu_kernels::passes::PassOptions;
use etwgpu_record::Caps;

/// A linear layer over 17 rows.
const MANY_ROWS: &str = "q4gsw_4w_pf17_bias";

#[test]
fn dumps_of_every_stage() {
    let model = data("q4gsw_4w_m3");
    let dump = |stage: &str| shown(&["dump", &model, "--caps", "webgpu-floor", "--stop-after", stage]);
    let stages = ["parse", "decode", "passes", "lower"].map(dump);
    for pair in stages.windows(2) {
        assert!(pair[1].starts_with(&pair[0]) && pair[1] != pair[0], "a later stage only adds");
    }
    snapshot("q4gsw_4w_m3.webgpu-floor.dump", &stages[3]);
}

#[test]
fn dumps_at_live_sizes_and_values() {
    let model = data("sdpa_dynpos_d32_tiny");
    let dump = |value: &str| shown(&["dump", &model, "--caps", "h200", "--value", value]);
    snapshot("sdpa_dynpos_d32_tiny.h200.dump", &dump("input=7"));
    assert_eq!(dump("7"), dump("input=7"));
    assert_ne!(dump("8"), dump("7"), "the position is among the parameters");
}

#[test]
fn explanations_name_routes_and_refusals() {
    for (name, caps) in
        [("q4gsw_4w_n12", "webgpu-floor"), ("q4gsw_4w_n12", "h200"), (MANY_ROWS, "webgpu-floor")]
    {
        let text = shown(&["explain", &data(name), "--caps", caps]);
        assert!(text.contains("\n  route "), "{text}");
        snapshot(&format!("{name}.{caps}.explain"), &text);
    }
    let text = shown(&["explain", &data(MANY_ROWS), "--caps", "webgpu-floor"]);
    assert!(text.contains("\n  not "), "many rows do not fit a route for few: {text}");
    let attention = data("sdpa_dynpos_d32_tiny");
    let text = shown(&["explain", &attention, "--caps", "webgpu-floor", "--value", "5"]);
    snapshot("sdpa_dynpos_d32_tiny.webgpu-floor.explain", &text);
}

#[test]
fn routes_that_are_switched_off_are_refused() {
    let pte = Pte::open(data(MANY_ROWS).as_ref()).unwrap();
    let program = pte.program().unwrap();
    let delegate = &program.methods[0].delegates[0];
    let mut device =
        Device { caps: Caps::h200(), options: LowerOptions::default(), passes: PassOptions::default() };
    let taken: Vec<_> = report(delegate, &device, &Sizes::default()).unwrap().steps[0].routes.clone();
    device.options.avoid = taken.iter().map(ToString::to_string).collect();
    let step = &report(delegate, &device, &Sizes::default()).unwrap().steps[0];
    assert!(step.routes != taken && !step.routes.is_empty());
    assert!(step.refusals.iter().any(|r| taken.contains(&r.route) && r.reason == "switched off"), "{step:?}");
}

#[test]
fn explanations_as_json_say_the_same() {
    let text = shown(&["explain", &data(MANY_ROWS), "--caps", "webgpu-floor", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let [report] = &value["delegates"].as_array().unwrap()[..] else { panic!("{value}") };
    assert_eq!((&report["method"], &report["delegate"]), (&"forward".into(), &0.into()));
    assert_eq!(report["device"], "webgpu-floor");
    let steps = report["steps"].as_array().unwrap();
    let refusals: Vec<_> = steps.iter().flat_map(|step| step["refusals"].as_array().unwrap()).collect();
    assert!(
        !refusals.is_empty() && refusals.iter().all(|r| r["reason"].as_str().is_some_and(|t| !t.is_empty()))
    );
    let launches: usize = steps.iter().map(|step| step["launches"].as_array().unwrap().len()).sum();
    assert_eq!(report["totals"]["dispatches"], launches);
}

#[test]
fn every_preset_plans_every_program() {
    for name in ["q4gsw_4w_m3", "q4gsw_4w_n12", MANY_ROWS, "sdpa_dynpos_d32_tiny"] {
        for caps in Caps::presets() {
            let text = shown(&["explain", &data(name), "--caps", &caps.name]);
            assert!(text.contains(&format!("for {}\n", caps.name)), "{text}");
        }
    }
}

#[test]
fn programs_of_several_methods_and_delegates() {
    let (m3, attention) = (delegate("q4gsw_4w_m3"), delegate("sdpa_dynpos_d32_tiny"));
    let prefill = [("VulkanBackend", m3.clone())];
    let decode = [("OtherBackend", vec![1, 2, 3]), ("WgpuBackend", attention), ("VulkanBackend", m3)];
    let file = TempProgram::new("several", &program(&[("prefill", &prefill), ("decode", &decode)]));
    let explain = |more: &[&str]| look(&[&["explain", file.path(), "--caps", "intel"], more].concat());
    let headings = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("== ")).map(str::to_owned).collect()
    };

    let (text, result) = explain(&[]);
    assert_eq!(result, Ok(()));
    let expected = [
        "== method prefill, delegate 0: VulkanBackend",
        "== method decode, delegate 0: OtherBackend, of another backend",
        "== method decode, delegate 1: WgpuBackend",
        "== method decode, delegate 2: VulkanBackend",
    ];
    assert_eq!(headings(&text), expected);
    let (text, result) = explain(&["--method", "decode", "--delegate", "1", "--value", "3"]);
    assert_eq!((headings(&text), result), (vec![expected[2].to_owned()], Ok(())));
    let dump = shown(&["dump", file.path(), "--stop-after", "parse"]);
    assert!(dump.contains("method decode: delegates [OtherBackend, WgpuBackend, VulkanBackend]"), "{dump}");

    let error = |more: &[&str]| explain(more).1.unwrap_err();
    assert!(error(&["--value", "3"]).contains("this program has 3"));
    assert!(error(&["--method", "train"]).contains("no method `train`; there are [prefill, decode]"));
    assert!(error(&["--method", "decode", "--delegate", "0"]).contains("no delegate 0 of VulkanBackend"));
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (m3, attention) = (data("q4gsw_4w_m3"), data("sdpa_dynpos_d32_tiny"));
    let error = |model: &str, more: &[&str]| {
        look(&[&["explain", model, "--caps", "apple"], more].concat()).1.unwrap_err()
    };
    assert!(error(&m3, &["--shape", "9x128"]).contains("input 0 cannot have sizes [9, 128]"));
    assert!(error(&m3, &["--shape", "input7=1"]).contains("no input 7"));
    assert!(error(&m3, &["--shape", "axb"]).contains("no shape"));
    assert!(error(&m3, &["--value", "3"]).contains("does not depend on the value"));
    assert!(look(&["explain", &m3, "--caps", "abacus"]).1.unwrap_err().contains("webgpu-floor"));
    let beyond = error(&attention, &["--value", "1000000"]);
    assert!(beyond.contains("sdpa"), "a position beyond the cache: {beyond}");
}

#[test]
fn the_table_of_settings_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/knobs.md");
    let text = shown(&["knobs", "--markdown"]);
    let stale = "docs/knobs.md is stale: write it with `etwgpu-tool knobs --markdown`";
    assert!(std::fs::read_to_string(path).unwrap_or_default() == text, "{stale}");
}
