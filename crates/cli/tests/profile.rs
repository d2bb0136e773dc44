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
        assert!(launch.us >= 0.0 && launch.bytes > 0 && !launch.node_ids.is_empty(), "{launch:?}");
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
fn kernels_are_timed_in_sweeps_and_held_against_the_pass_and_the_other_end() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/adder.pte");
    let (path, json) = file("sweeps.json");
    let arguments = ["profile", model, "--length", "1", "--position", "7", "--runs", "4", "--json", &json];
    let text = shown(&[&arguments[..], &LIMITS].concat());
    let Measurement { kernels, .. } = Measurement::read(&path).unwrap();
    let (pass, count) = (kernels.pass_us.unwrap(), kernels.launches.len());
    assert!(kernels.sweeps == 4 && count >= 16);
    assert!(kernels.empty_us < 0.5 * pass, "{text}");
    let ratio = kernels.us() / pass;
    assert!((0.2..5.0).contains(&ratio), "{text}"); // Other programs may take the processor at any time.
    let zero = kernels.launches.iter().filter(|launch| launch.us == 0.0).count();
    assert!(zero >= kernels.negative && kernels.launches.iter().all(|launch| launch.us >= 0.0));
    assert_eq!(text.contains("came out below zero"), kernels.negative > 0, "{text}");
    assert!(kernels.launches.iter().all(|launch| launch.error_us.is_some_and(|error| error >= 0.0)));
    assert!(text.contains("each kernel: the median of 4 sweeps, known to "), "{text}");
    let mut at = 0;
    for part in &kernels.parts {
        let inside = &kernels.launches[part.first..part.first + part.launches];
        assert!(
            (part.us - inside.iter().map(|launch| launch.us).sum::<f64>()).abs() < 1e-6 * pass,
            "{part:?}"
        );
        assert!(part.first == at && part.launches > 0, "{part:?}");
        at += part.launches;
    }
    assert!(at == count && (2..=8).contains(&kernels.parts.len()));
    assert!(
        text.contains(&format!("check, {} parts timed from the step's end", kernels.parts.len())),
        "{text}"
    );

    let old = std::fs::read_to_string(&path).unwrap().replace("\"empty_us\"", "\"timer_us\"");
    std::fs::write(&path, old).unwrap();
    let error = run(&["profile", "--compare", &json, &json]).1.unwrap_err();
    assert!(error.contains("measure again") && error.contains("empty_us"), "{error}");
    std::fs::remove_file(path).unwrap();
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
