//! Where the time of a run goes, kernel by kernel.

mod chrome;
mod collect;
mod compare;
mod inputs;
mod kernels;
mod limits;
mod measurement;
mod roofline;
mod sweeps;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

pub use chrome::trace;
pub use collect::measure;
pub use compare::compare;
pub use inputs::synthesise;
pub use kernels::Kernels;
pub use limits::{Given, Limits};
pub use measurement::{LaunchTime, Measurement, PhaseTime};
pub use roofline::svg;
pub use sweeps::Part;
pub use table::{Row, lines, rows, table};

use crate::look::{Input, ShapeArg, Sizes, Target, ValueArg};

/// What to profile, and what to write.
#[derive(Args, Debug)]
pub struct Options {
    /// Which delegate, at which sizes.
    #[command(flatten)]
    target: Target,
    /// Compare two files that `--json` wrote, in place of MODEL and here, instead of running anything.
    #[arg(long, requires = "after")]
    compare: bool,
    /// The second file to compare.
    #[arg(requires = "compare")]
    after: Option<PathBuf>,
    /// Tokens of a decoder: short for `--shape 0=1xN`.
    #[arg(long, value_name = "N")]
    length: Option<u32>,
    /// Position of a decoder's first token: short for `--value input=N`.
    #[arg(long, value_name = "N")]
    position: Option<i64>,
    /// Untimed runs, and sweeps over the kernels as far as they fit half a minute; each time is a median over them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    #[command(flatten)]
    limits: Given,
    /// Write everything that was measured, for `--compare`.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a Chrome trace, which ui.perfetto.dev opens: phases of the host and kernels on one time line.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a roofline picture.
    #[arg(long, value_name = "FILE")]
    roofline: Option<PathBuf>,
}

/// Profiles a delegate, or compares two measurements; what it has to say is in `out`.
pub fn run(options: &Options, out: &mut String) -> Result<()> {
    if let (true, Some(after)) = (options.compare, &options.after) {
        let [before, after] = [&options.target.model, after].map(|path| Measurement::read(path));
        out.push_str(&compare(&before?, &after?));
        return Ok(());
    }
    let measurement = measure(options)?;
    out.push_str(&table(&measurement));
    write(options.json.as_deref(), || Ok(serde_json::to_string_pretty(&measurement)?))?;
    write(options.trace.as_deref(), || Ok(trace(&measurement).to_string()))?;
    write(options.roofline.as_deref(), || Ok(svg(&measurement)))
}

fn write(path: Option<&Path>, text: impl FnOnce() -> Result<String>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()?).with_context(|| format!("cannot write {}", path.display()))
}

impl Options {
    /// The target's sizes, and the short forms written out.
    fn sizes(&self) -> Sizes {
        let mut sizes = self.target.sizes.clone();
        if let Some(length) = self.length {
            let dims = [1, length].into_iter().collect();
            sizes.shapes.push(ShapeArg { input: Input::At(0), dims: Some(dims) });
        }
        if let Some(position) = self.position {
            sizes.values.push(ValueArg { input: Input::Any, elements: vec![position] });
        }
        sizes
    }
}
