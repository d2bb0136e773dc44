//! Speed without ExecuTorch around it.

mod dispatch;
mod linear;
mod llm;
mod load;
mod probe;
mod sdpa;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// Launches that do next to nothing.
    Dispatch(dispatch::Options),
    /// Linear layers by kind, size and route.
    Linear(linear::Options),
    /// Prefill and decode of an exported decoder.
    Llm(llm::Options),
    /// Load, first runs and memory, each in a process of its own, with and without compiled shaders on disk.
    Load(load::Options),
    /// Every route of attention, against what the device can do.
    Sdpa(sdpa::Options),
}

/// Measures and prints a table.
pub fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Dispatch(options) => dispatch::run(options),
        Bench::Linear(options) => linear::run(options),
        Bench::Llm(options) => llm::run(options),
        Bench::Load(options) => load::run(options),
        Bench::Sdpa(options) => sdpa::run(options),
    }
}

/// Where figures go besides the table that is printed.
#[derive(Args)]
struct Output {
    /// Write the figures to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Output {
    /// Writes the figures of a benchmark on the adapter that runs took place on.
    fn write(&self, benchmark: &str, figures: Value) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let adapter: Value = serde_json::from_str(&etwgpu_runtime::adapter_info_json())?;
        let version = env!("CARGO_PKG_VERSION");
        let all = json!({"benchmark": benchmark, "version": version, "adapter": adapter, "figures": figures});
        std::fs::write(path, format!("{all:#}\n")).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Middle of the times, which it sorts.
pub(crate) fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    let at = |position: usize| times.get(position).copied().unwrap_or(f64::NAN);
    (at(times.len().saturating_sub(1) / 2) + at(times.len() / 2)) / 2.0
}
