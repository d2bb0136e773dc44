//! Commands that look at the device and inside programs; none of them runs anything.

mod device;
mod dump;
mod explain;
mod info;
mod knobs;
mod passes;
mod sizes;
mod target;

use anyhow::Result;
use clap::Subcommand;

pub use device::Device;
pub use dump::Stage;
pub(crate) use explain::input as shown_input;
pub use explain::{Launch, Refused, Report, Step, report};
pub use knobs::markdown;
pub use passes::{FusionReport, PassReport};
pub(crate) use sizes::live;
pub use sizes::{Input, ShapeArg, ValueArg};
pub use target::{Sizes, Target, Usage};

/// A command that looks.
#[derive(Debug, Subcommand)]
pub enum Look {
    /// The adapter that delegates run on, its features and limits, and the others found.
    Info {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Every delegate of a program as text, stage by stage.
    Dump {
        /// Which delegates, at which sizes, for which device.
        #[command(flatten)]
        target: Target,
        /// Last stage to print.
        #[arg(long, value_enum, default_value = "lower")]
        stop_after: Stage,
    },
    /// The route that each step of every delegate takes, and why not another.
    Explain {
        /// Which delegates, at which sizes, for which device.
        #[command(flatten)]
        target: Target,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Every setting and its value.
    Knobs {
        /// Print the table of `docs/knobs.md`.
        #[arg(long)]
        markdown: bool,
    },
}

/// Runs a command. What it has to say is in `out`, also when it fails half-way.
pub fn run(command: &Look, out: &mut String) -> Result<()> {
    match command {
        Look::Info { json } => info::info(*json, out),
        Look::Dump { target, stop_after } => dump::dump(target, *stop_after, out),
        Look::Explain { target, json } => explain::explain(target, *json, out),
        Look::Knobs { markdown: true } => {
            out.push_str(&markdown());
            Ok(())
        }
        Look::Knobs { markdown: false } => {
            out.push_str(&knobs::values());
            Ok(())
        }
    }
}
