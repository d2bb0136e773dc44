//! The program itself: exit codes and where its words go.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{adapter, data};

fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_etwgpu-tool")).args(arguments).output().unwrap()
}

#[test]
fn exit_codes_tell_usage_from_failure() {
    let model = data("q4gsw_4w_n12");
    let code = |arguments: &[&str]| tool(arguments).status.code();
    assert_eq!(code(&["explain", &model, "--caps", "h200"]), Some(0));
    assert_eq!(code(&["knobs"]), Some(0));
    assert_eq!(code(&["explain", "/no/such/file.pte"]), Some(1));
    assert_eq!(code(&["explain", &model, "--caps", "h200", "--shape", "9x9x9x9"]), Some(1));
    assert_eq!(code(&["explain"]), Some(2));
    assert_eq!(code(&["dump", &model, "--stop-after", "noon"]), Some(2));
    assert_eq!(code(&["explain", &model, "--caps", "abacus"]), Some(2));
    assert_eq!(code(&["explain", &model, "--shape", "tokens=3"]), Some(2));
}

#[test]
fn errors_go_to_stderr_after_what_could_be_shown() {
    let output = tool(&["dump", &data("q4gsw_4w_n12"), "--caps", "h200", "--shape", "9x9x9x9"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(out.contains("-- passes\n") && !out.contains("totals\n"), "{out}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with("error: method forward, delegate 0: input 0 cannot have sizes"), "{err}");
}

#[test]
fn info_without_a_fitting_adapter_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etwgpu-tool"));
    let output = command.args(["info", "--json"]).env("ETWGPU_ADAPTER", "no such adapter").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value["error"].as_str().unwrap().contains("no such adapter"), "{value}");
    assert!(value["found"].is_array());
}

/// Runs the demo model in a process of its own that keeps compiled shaders in `folder`.
fn bench_with_cache(folder: &Path) -> Output {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/adder.pte");
    let mut command = Command::new(env!("CARGO_BIN_EXE_etwgpu-tool"));
    command.args(["bench", "llm", "--prefill", "3", "--context", "3", "--steps", "1"]).arg(model);
    command
        .env("ETWGPU_ADAPTER", adapter())
        .env("ETWGPU_CACHE_DIR", folder)
        .env("RUST_LOG", "etwgpu_engine=debug");
    command.output().unwrap()
}

#[test]
fn compiled_shaders_are_kept_where_asked_and_damage_does_no_harm() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cache-{}", std::process::id()));
    let run = |what: &str| -> String {
        let output = bench_with_cache(&folder);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{what}: {text}");
        text
    };
    let log = run("first");
    if log.contains("this device keeps no pipelines") {
        return;
    }
    assert!(log.contains(": 0 bytes"), "{log}");
    let files = || -> Vec<_> { fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    let stored = fs::read(file).unwrap();
    let log = run("second");
    assert!(log.contains(&format!(": {} bytes", stored.len() - 16)), "{log}");

    let half = stored.len() / 2;
    fs::write(file, &stored[..half]).unwrap();
    assert!(run("damaged").contains("is damaged: ignored"));
    assert!(fs::read(file).unwrap().len() > half, "it is replaced");

    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "no folder").unwrap();
    assert!(run("no folder").contains("cache_dir"));
    fs::remove_file(&folder).unwrap();
}

/// Runs a benchmark that succeeds: what it prints, and its figures.
fn bench(name: &str, arguments: &[&str]) -> (String, serde_json::Value) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.json", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_etwgpu-tool"));
    command.args(["bench", name]).args(arguments).arg("--json").arg(&file).env("ETWGPU_ADAPTER", adapter());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!((&value["benchmark"], value["adapter"]["name"].is_string()), (&name.into(), true));
    (String::from_utf8(output.stdout).unwrap(), value["figures"].clone())
}

#[test]
fn benchmarks_of_kernels_measure_what_was_asked() {
    let shapes = [
        "--shape",
        "1x64x64,9x64x64",
        "--kind",
        "4w,f32",
        "--rotate",
        "1",
        "--repeats",
        "1",
        "--bandwidth",
        "10",
    ];
    let (text, figures) = bench("linear", &shapes);
    let rows = figures["rows"].as_array().unwrap();
    for (kind, m) in [("4w", 1), ("4w", 9), ("f32", 1), ("f32", 9)] {
        let chosen = rows.iter().filter(|r| r["kind"] == kind && r["m"] == m && r["chosen"] == true);
        assert_eq!(chosen.count(), 1, "one route is taken for {kind} at {m}: {text}");
    }
    assert!(
        rows.iter().all(|r| ["seconds", "seconds_alone"].iter().all(|&s| r[s].as_f64().unwrap() > 0.0)
            && r["share_of_limit"].is_f64()),
        "{text}"
    );

    let gated =
        ["--gated", "--shape", "1x64x128", "--kind", "4w,8da4w,f32", "--rotate", "1", "--repeats", "1"];
    let (text, figures) = bench("linear", &gated);
    let rows: Vec<_> =
        figures["rows"].as_array().unwrap().iter().map(|r| (&r["kind"], &r["route"])).collect();
    assert_eq!(
        rows,
        [(&"4w".into(), &"fuse.swiglu".into()), (&"8da4w".into(), &"fuse.swiglu".into())],
        "{text}"
    );

    let (text, figures) = bench("dispatch", &["--launches", "20", "--repeats", "3"]);
    let barriers = |row: usize| figures["rows"][row]["barriers"].as_u64();
    assert_eq!((barriers(0), barriers(1)), (Some(19), Some(0)), "{text}");
}

#[test]
fn benchmarks_of_decoders_keep_to_what_the_program_takes() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/adder.pte");
    let model = model.to_str().unwrap();
    let (text, figures) = bench("llm", &[model, "--prefill", "3,500", "--context", "5,1000", "--steps", "2"]);
    assert!(text.contains("prefill 500: skipped, the program takes 1 to 127 tokens at once"), "{text}");
    assert!(text.contains("decode at 1000: skipped"), "{text}");
    assert_eq!(figures["prefill"].as_array().unwrap().len(), 1);
    let limits = ["prefill", "decode"].map(|kind| figures[kind][0]["limit_tok_per_s"].as_f64().unwrap());
    assert!(limits.iter().all(|limit| limit.is_finite() && *limit > 0.0), "{text}");
    assert_eq!(
        (figures["decode"].as_array().unwrap().len(), &figures["decode"][0]["submits"]),
        (1, &1.into())
    );

    let (text, figures) = bench("load", &[model, "--prompt", "500", "--repeats", "1"]);
    let rows = figures["rows"].as_array().unwrap();
    assert_eq!(
        rows.iter().map(|r| r["cache"].as_str().unwrap()).collect::<Vec<_>>(),
        ["none", "written", "read"]
    );
    assert!(rows.iter().all(|r| r["processes"][0]["load_s"].as_f64().unwrap() > 0.0), "{text}");
    let limit = figures["limit_s"].as_f64().unwrap();
    assert!(limit > 0.0 && limit < 1.0, "{text}");
}
