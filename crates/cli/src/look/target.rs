//! Which delegates to look at, at which sizes, on which device.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use etwgpu_record::Caps;

use super::device::preset;
use super::sizes::{ShapeArg, ValueArg};
use crate::pte::{Delegate, Program, Pte};

/// Names that this backend registers under.
const BACKENDS: [&str; 2] = ["VulkanBackend", "WgpuBackend"];

/// A contradiction in the command's arguments.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A program, and which of its delegates.
#[derive(Args, Debug)]
pub struct Target {
    /// The program, a .pte file.
    pub model: PathBuf,
    /// Only this method; all without.
    #[arg(long)]
    pub method: Option<String>,
    /// Only the delegate at this position of its method; all without.
    #[arg(long)]
    pub delegate: Option<usize>,
    #[command(flatten)]
    /// Live sizes.
    pub sizes: Sizes,
    /// Plan for a preset instead of this machine: webgpu-floor, lavapipe, h200, apple, amd64 or intel.
    #[arg(long, value_name = "PRESET", value_parser = preset)]
    pub caps: Option<Caps>,
}

/// Live sizes and values of a delegate's inputs; everything is at its bound without.
#[derive(Args, Clone, Debug, Default)]
pub struct Sizes {
    /// Live sizes of the inputs in order, such as `1x5,1`, or of one input, such as `input1=1x5`; `_` leaves an
    /// input at its bound, `scalar` has no sizes. `input=` means the first input.
    #[arg(long = "shape", value_delimiter = ',')]
    pub shapes: Vec<ShapeArg>,
    /// Value of an input that sizes or positions are read from, such as `input1=7` or `7`. `input=` means the only
    /// such input.
    #[arg(long = "value", allow_hyphen_values = true)]
    pub values: Vec<ValueArg>,
}

/// One delegate of a program.
#[derive(Debug)]
pub(crate) struct Chosen<'p, 'a> {
    pub(crate) method: &'a str,
    pub(crate) position: usize,
    pub(crate) delegate: &'p Delegate<'a>,
}

impl Chosen<'_, '_> {
    /// Whether the delegate is for this backend.
    pub(crate) fn is_ours(&self) -> bool {
        BACKENDS.contains(&self.delegate.id)
    }

    /// What is wrong, and where.
    pub(crate) fn place(&self) -> String {
        format!("method {}, delegate {}", self.method, self.position)
    }
}

impl Target {
    pub(crate) fn open(&self) -> Result<Pte> {
        Pte::open(&self.model)
    }

    pub(crate) fn name(&self) -> String {
        self.model.display().to_string()
    }

    /// The delegates asked for, those of other backends among them.
    pub(crate) fn choose<'p, 'a>(&self, program: &'p Program<'a>) -> Result<Vec<Chosen<'p, 'a>>> {
        let mut chosen = Vec::new();
        let names = || program.methods.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
        if let Some(wanted) = &self.method {
            let known = program.methods.iter().any(|method| method.name == wanted);
            known.then_some(()).with_context(|| format!("no method `{wanted}`; there are [{}]", names()))?;
        }
        for method in program.methods.iter().filter(|m| self.method.as_deref().is_none_or(|w| w == m.name)) {
            let delegates = method.delegates.iter().enumerate();
            let wanted = delegates.filter(|(position, _)| self.delegate.is_none_or(|w| w == *position));
            let of_method = |(position, delegate)| Chosen { method: method.name, position, delegate };
            chosen.extend(wanted.map(of_method));
        }
        let ours = chosen.iter().filter(|c| c.is_ours()).count();
        if ours == 0 {
            let which = self.delegate.map_or("no delegate".to_owned(), |w| format!("no delegate {w}"));
            anyhow::bail!("{which} of {} in the methods [{}]", BACKENDS.join(" or "), names());
        }
        if ours > 1 && !(self.sizes.shapes.is_empty() && self.sizes.values.is_empty()) {
            let text = format!(
                "--shape and --value are for one delegate, this program has {ours}: name it with --method and --delegate"
            );
            return Err(Usage(text).into());
        }
        Ok(chosen)
    }

    /// The only delegate of this backend among those asked for.
    pub(crate) fn choose_one<'p, 'a>(&self, program: &'p Program<'a>) -> Result<Chosen<'p, 'a>> {
        let mut ours = self.choose(program)?.into_iter().filter(Chosen::is_ours);
        match (ours.next(), ours.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Usage("several delegates: name one with --method and --delegate".into()).into()),
        }
    }
}
