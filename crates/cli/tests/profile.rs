//! `profile` and `memory` on committed programs.

mod common;

use std::path::PathBuf;
use std::sync::Once;

use clap::Parser;
use common::data;
use etwgpu_cli::memory;
use etwgpu_cli::profile::{self, Measurement};
use etwgpu_engine::{AdapterChoice, Gpu};

#[derive(Parser)]
enum Command {
    Profile(profile::Options),
    Memory(memory::Options),
}

/// What a command prints, and its error.
fn run(arguments: &[&str]) -> (String, Result<(), String>) {
    static ADAPTER: Once = Once::new();
    ADAPTER.call_once(|| {
        let named = std::env::var("ETWGPU_ADAPTER").is_ok_and(|name| !name.is_empty());
        if !named && Gpu::open(&AdapterChoice::default()).is_err() {
            etwgpu_runtime::set_option("adapter", "llvmpipe").unwrap();
        }
    });
    let mut text = String::new();
    let result = match Command::try_parse_from([&["etwgpu-tool"], arguments].concat()) {
        Ok(Command::Profile(options)) => profile::run(&options, &mut text),
        Ok(Command::Memory(options)) => memory::run(&options, &mut text),
        Err(error) => return (text, Err(error.to_string())),
    };
    (text, result.map_err(|error| format!("{error:#}")))
}

fn shown(arguments: &[&str]) -> String {
    let (text, result) = run(arguments);
    result.unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"));
    text
}

fn file(name: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

/// Limits that are given, so that none is measured.
const LIMITS: [&str; 6] = ["--bandwidth", "100", "--flops", "1", "--matrix-flops", "10"];

#[test]
fn a_profile_has_every_launch_in_its_table_files_and_pictures() {
    let model = data("sdpa_dynpos_d32_tiny");
    let [(json_path, json), (trace_path, trace), (svg_path, svg)] = ["a.json", "a.trace", "a.svg"].map(file);
    let mut arguments = vec!["profile", &model, "--position", "7", "--runs", "3"];
    arguments.extend(LIMITS);
    arguments.extend(["--json", &json, "--trace", &trace, "--roofline", &svg]);
    let table = shown(&arguments);
    let measurement = Measurement::read(&json_path).unwrap();
    assert_eq!((measurement.limits.gb_per_s, measurement.limits.tflop_per_s), (100.0, 1.0));
    assert!(measurement.inputs.iter().any(|input| input.ends_with("= [7]")), "{:?}", measurement.inputs);
    assert!(measurement.kernels.launches.len() >= 2 && measurement.run_us > 0.0);
    for launch in &measurement.kernels.launches {
        assert!(launch.us > 0.0 && launch.bytes > 0 && !launch.node_ids.is_empty(), "{launch:?}");
        assert_eq!(launch.node_ids.len(), launch.operators.len());
        assert!(table.contains(&launch.kernel), "{table}");
    }
    assert!(table.contains("sdpa.flash_decoding"), "{table}");

    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&trace_path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |category: &str| events.iter().filter(|e| e["cat"] == category).collect::<Vec<_>>();
    let (host, kernels) = (of("host"), of("kernel"));
    assert_eq!(kernels.len(), measurement.kernels.launches.len());
    let wait = host.iter().find(|e| e["name"] == "ETWGPU_WAIT").unwrap();
    let end = |e: &serde_json::Value| e["ts"].as_f64().unwrap() + e["dur"].as_f64().unwrap();
    let latest = kernels.iter().map(|e| end(e)).fold(0.0, f64::max);
    assert!(latest <= end(wait) + 1000.0, "kernels end at {latest}, the wait at {}", end(wait));

    let picture = std::fs::read_to_string(&svg_path).unwrap();
    let discs = measurement.kernels.launches.iter().filter(|l| l.operations > 0).count();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(discs > 0 && picture.matches("<circle").count() >= 1 && !picture.contains("NaN"), "{picture}");
    assert_eq!(picture.matches("<polyline").count(), 2, "a roof for each kind of arithmetic");

    let same = shown(&["profile", "--compare", &json, &json]);
    let ratios = same.lines().filter(|line| line.contains("    1.00 ")).count();
    assert!(ratios >= 3, "{same}");
    for path in [json_path, trace_path, svg_path] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn kernels_add_up_to_the_pass_and_are_held_against_windows() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/adder.pte");
    let (path, json) = file("windows.json");
    let arguments = ["profile", model, "--length", "1", "--position", "7", "--runs", "3", "--json", &json];
    let text = shown(&[&arguments[..], &LIMITS].concat());
    let Measurement { kernels, .. } = Measurement::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let (pass, count) = (kernels.pass_us.unwrap(), kernels.launches.len());
    let by_construction = pass - kernels.timer_us;
    assert!(kernels.timer_us >= 0.0 && count >= 16);
    if kernels.timer_us > 0.0 {
        assert!(kernels.us() >= by_construction * (1.0 - 1e-9), "{text}");
        assert!(kernels.lifted > 0 || kernels.us() <= by_construction * (1.0 + 1e-9), "{text}");
    }
    assert_eq!(text.contains("kernels would be below"), kernels.lifted > 0, "{text}");
    assert_eq!(kernels.checks.iter().map(|check| check.launches).collect::<Vec<_>>(), [2, 4, 8]);
    for check in &kernels.checks {
        let mut at = 0;
        for window in &check.windows {
            let inside = &kernels.launches[window.first..window.first + window.launches];
            let predicted = kernels.timer_us + inside.iter().map(|launch| launch.us).sum::<f64>();
            assert!((window.predicted_us - predicted).abs() < 1e-6 * predicted, "{window:?}");
            assert!(window.first == at && window.us > 0.0);
            at += window.launches;
        }
        assert!(at == count || at + 1 == count, "every launch but a last one alone");
        assert!(text.contains(&format!("check, passes of {} kernels:", check.launches)), "{text}");
    }
}

#[test]
fn limits_are_measured_when_they_are_not_given() {
    let text = shown(&["profile", &data("q4gsw_4w_m3"), "--runs", "1"]);
    let limits = text.lines().find_map(|line| line.strip_prefix("limits: ")).unwrap();
    let numbers: Vec<f64> = limits.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(numbers.len() >= 2 && numbers.iter().all(|&n| n > 0.0), "{limits}");
}

#[test]
fn wrong_arguments_say_what_is_wrong() {
    let error = |arguments: &[&str]| run(arguments).1.unwrap_err();
    assert!(error(&["profile", &data("q4gsw_4w_m3"), "--flops", "0"]).contains("above zero"));
    assert!(error(&["profile", &data("q4gsw_4w_m3"), "--caps", "apple"]).contains("this machine's adapter"));
    assert!(
        error(&["profile", "--compare", "no-such.json", "none.json"]).contains("cannot read no-such.json")
    );
    assert!(error(&["profile", "--compare", &data("q4gsw_4w_m3")]).contains("AFTER"));
    assert!(error(&["profile", &data("q4gsw_4w_m3"), "--length", "999"]).contains("cannot have sizes"));
    assert!(error(&["profile", &data("sdpa_dynpos_d32_tiny"), "--position", "1000000"]).contains("sdpa"));
    assert!(error(&["memory", &data("q4gsw_4w_m3"), "--caps", "apple"]).contains("this machine's adapter"));
}

#[test]
fn memory_tells_device_host_and_context() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/adder.pte");
    let value: serde_json::Value =
        serde_json::from_str(&shown(&["memory", model, "--shape", "1x4", "--value", "3", "--json"])).unwrap();
    let number = |key: &str| value[key].as_u64().unwrap_or_else(|| panic!("{key}: {value}"));
    assert_eq!((number("caches"), number("context")), (6, 128));
    assert_eq!(number("states"), number("context") * number("bytes_per_position"));
    assert!(number("scratch") > 0 && number("staging") > 0 && number("pipelines") > 0);
    if cfg!(target_os = "linux") {
        assert!(number("host_peak_at_load") >= number("host_before_load"));
    }
    let text = shown(&["memory", model, "--shape", "1x4", "--value", "3"]);
    assert!(text.contains("twice the context would add") && text.contains("staging of outputs"), "{text}");
    assert!(shown(&["memory", &data("q4gsw_4w_m3")]).contains("no KV caches"));
}
