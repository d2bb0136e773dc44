//! Speed without ExecuTorch around it.

mod llm;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// Prefill and decode of an exported decoder.
    Llm(llm::Options),
}

/// Measures and prints a table.
pub fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Llm(options) => llm::run(options),
    }
}

/// Middle of the times, which it sorts.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
