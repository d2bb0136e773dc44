//! Load, first runs and memory of a decoder: each figure from processes of their own, since a process compiles once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use etwgpu_runtime::Knobs;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::llm::Decoder;
use super::{Output, median};

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Exported decoder with inputs tokens and position.
    model: PathBuf,
    /// Tokens of the first prompt, at most what the program takes at once.
    #[arg(long, default_value_t = 128)]
    prompt: i32,
    /// Processes of each kind, of which the middle counts.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Measures this process and prints JSON: what the other processes do.
    #[arg(long, hide = true)]
    child: bool,
    #[command(flatten)]
    output: Output,
}

/// What one process measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Figures {
    /// Opening the device.
    device_s: f64,
    /// Loading, the device being open.
    load_s: f64,
    /// The first prompt, and the same again.
    first_prompt_s: f64,
    second_prompt_s: f64,
    /// The first single token, and another.
    first_token_s: f64,
    second_token_s: f64,
    /// Memory of the process's own at most while loading, above what it had with the device open. Pages of the mapped
    /// program do not count.
    peak_mib: f64,
}

/// Measures without compiled shaders on disk, while they are written, and with them.
pub(super) fn run(options: &Options) -> Result<()> {
    if options.child {
        println!("{}", serde_json::to_string(&measure(options)?)?);
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("etwgpu-bench-load-{}", std::process::id()));
    println!(
        "{:<26} {:>9} {:>9} {:>13} {:>9} {:>13} {:>9} {:>10}",
        "compiled shaders on disk",
        "device s",
        "load s",
        "1st prompt s",
        "2nd s",
        "1st token s",
        "2nd s",
        "peak MiB"
    );
    let mut rows = Vec::new();
    for (name, cache, repeats) in [
        ("none", None, options.repeats),
        ("written", Some(&folder), 1),
        ("read", Some(&folder), options.repeats),
    ] {
        let all = (0..repeats.max(1)).map(|_| child(options, cache.map(PathBuf::as_path)));
        let all: Vec<Figures> = all.collect::<Result<_>>()?;
        let middle = |of: fn(&Figures) -> f64| median(&mut all.iter().map(of).collect::<Vec<f64>>());
        println!(
            "{name:<26} {:>9.3} {:>9.3} {:>13.4} {:>9.4} {:>13.4} {:>9.4} {:>10.1}",
            middle(|f| f.device_s),
            middle(|f| f.load_s),
            middle(|f| f.first_prompt_s),
            middle(|f| f.second_prompt_s),
            middle(|f| f.first_token_s),
            middle(|f| f.second_token_s),
            middle(|f| f.peak_mib)
        );
        rows.push(json!({"cache": name, "processes": all}));
    }
    let _ = fs::remove_dir_all(&folder);
    let (bytes, rate) = (Decoder::load(&options.model)?.0.weight_bytes(), upload_rate()?);
    let limit = bytes as f64 / rate;
    println!(
        "limit of a load: {limit:.3} s, {:.1} MB of weights at {:.1} GB/s, as memory goes to the device",
        bytes as f64 / 1e6,
        rate / 1e9
    );
    println!("drivers may keep compiled shaders of their own; NVIDIA's does unless __GL_SHADER_DISK_CACHE=0");
    options.output.write("load", json!({
        "model": options.model, "prompt": options.prompt, "rows": rows, "limit_s": limit, "upload_bytes_per_s": rate,
    }))
}

/// Bytes per second from the host's memory to the device's, at best of some tries.
fn upload_rate() -> Result<f64> {
    let gpu = etwgpu_runtime::gpu(&Knobs::default())?;
    let bytes = vec![1; 128 << 20];
    let buffer = gpu.create_buffer("upload", bytes.len() as u64)?;
    let once = || -> Result<f64> {
        let started = Instant::now();
        gpu.upload(&buffer, &bytes)?;
        Ok(bytes.len() as f64 / started.elapsed().as_secs_f64())
    };
    (0..4).map(|_| once()).try_fold(0.0, |best: f64, rate| Ok(best.max(rate?)))
}

/// Measures in another process.
fn child(options: &Options, cache: Option<&Path>) -> Result<Figures> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["bench", "load", "--child", "--prompt"])
        .arg(options.prompt.to_string())
        .arg(&options.model);
    command.env("ETWGPU_CACHE_DIR", cache.unwrap_or(Path::new("")));
    let output = command.output().context("cannot start another process of this program")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn measure(options: &Options) -> Result<Figures> {
    let started = Instant::now();
    etwgpu_runtime::gpu(&Knobs::default())?;
    let device_s = started.elapsed().as_secs_f64();
    let (loaded, peak_mib) = with_peak(|| Decoder::load(&options.model));
    let (mut decoder, load_s) = loaded?;
    let prompt = options.prompt.clamp(1, decoder.bound);
    let mut step = |position, length| Ok::<f64, anyhow::Error>(decoder.step(position, length)?.total);
    Ok(Figures {
        device_s,
        load_s,
        first_prompt_s: step(0, prompt)?,
        second_prompt_s: step(0, prompt)?,
        first_token_s: step(prompt, 1)?,
        second_token_s: step(prompt, 1)?,
        peak_mib,
    })
}

/// Runs `work` and follows this process's own memory meanwhile, in MiB above what it had.
fn with_peak<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let done = AtomicBool::new(false);
    let before = own_mib();
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = before;
            while !done.load(Ordering::Relaxed) {
                peak = own_mib().max(peak);
                thread::sleep(Duration::from_millis(1));
            }
            peak
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        let peak = watch.join().unwrap_or(f64::NAN).max(own_mib());
        (result, peak - before)
    })
}

/// Memory of our own, as opposed to pages of mapped files.
fn own_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0)
    };
    (kib("RssAnon:") + kib("RssShmem:")) / 1024.0
}
