//! Benchmarks that need no model, on small problems.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use etwgpu_engine::{AdapterChoice, Gpu};
use serde_json::Value;

/// The adapter that tests run on: a GPU if there is one, or else lavapipe.
fn adapter() -> String {
    let named = std::env::var("ETWGPU_ADAPTER").ok().filter(|name| !name.is_empty());
    let fallback = || if Gpu::open(&AdapterChoice::default()).is_ok() { "" } else { "llvmpipe" };
    named.unwrap_or_else(|| fallback().into())
}

fn bench(arguments: &[&str]) -> (String, Value) {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let number = CALLS.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("etwgpu-bench-{}-{number}.json", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_etwgpu-tool"));
    command.env("ETWGPU_ADAPTER", adapter()).args(["bench", "sdpa", "--json"]).arg(&file).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let figures = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    (text, figures)
}

#[test]
fn every_route_of_attention_is_measured_and_agrees() {
    let small = [
        "--shape",
        "4/2/32",
        "--context",
        "70",
        "--prefill",
        "20",
        "--rotate",
        "1",
        "--chain",
        "3",
        "--runs",
        "1",
    ];
    let limits = ["--bandwidth", "100", "--flops", "1", "--matrix-flops", "1"];
    let (text, all) = bench(&[&small[..], &limits].concat());
    assert!(!text.contains("OFF BY") && !text.contains("skipped"), "{text}");
    let arms = all["figures"]["arms"].as_array().unwrap();
    let count = |route: &str, queries: u64| {
        let is_it = |arm: &&Value| arm["route"] == route && arm["queries"] == queries;
        arms.iter().filter(is_it).count()
    };
    // Once for each type of cache.
    for route in ["sdpa.naive", "sdpa.naive_coalesced", "sdpa.naive_skipping", "sdpa.materialized"] {
        assert_eq!((count(route, 1), count(route, 20)), (2, 2), "{route}: {text}");
    }
    assert_eq!((count("sdpa.flash_decoding", 1), count("sdpa.flash", 20)), (2, 2), "{text}");
    for arm in arms {
        let positive = |key: &str| arm[key].as_f64().is_some_and(|v| v > 0.0);
        assert!(["us", "gb_per_s", "tflop_per_s", "of_limit", "x_naive"].into_iter().all(positive), "{arm}");
        assert!(arm["largest_difference"].as_f64().unwrap() < 1e-2, "{arm}");
    }
}

#[test]
fn arms_are_chosen_by_parts_of_their_names() {
    let (text, all) = bench(&[
        "--shape",
        "2/1/16",
        "--context",
        "9",
        "--prefill",
        "0",
        "--cache",
        "f32",
        "--arm",
        "decoding",
        "--runs",
        "1",
        "--rotate",
        "1",
        "--bandwidth",
        "100",
        "--flops",
        "1",
        "--matrix-flops",
        "1",
    ]);
    let arms = all["figures"]["arms"].as_array().unwrap();
    assert_eq!(arms.len(), 1, "{text}");
    assert_eq!(arms[0]["route"], "sdpa.flash_decoding");
}
