//! What an operator is to the planner.

use etwgpu_graph::Dims;

use crate::args::{NodeCx, OpError};
use crate::lower::Lower;

/// Live sizes of every output tensor, in order.
pub type ShapeFn = fn(&NodeCx<'_>) -> Result<Vec<Dims>, OpError>;

/// Whether live sizes and integers are such as the operator takes.
pub type CheckFn = fn(&NodeCx<'_>) -> Result<(), OpError>;

/// How an operator is evaluated.
#[derive(Clone, Copy)]
pub enum Body {
    /// Integer arithmetic on the host.
    Scalar(fn(&NodeCx<'_>) -> Result<i64, OpError>),
    /// The output is argument 0 under other sizes; it shares its storage wherever nothing mutates it later.
    Alias(ShapeFn),
    /// GPU work.
    Kernel {
        /// Output sizes from argument sizes; also checks whatever depends on live values.
        shape: ShapeFn,
        /// Records the work for the live sizes.
        lower: fn(&mut Lower<'_>) -> Result<(), OpError>,
    },
}

/// One operator, under every name that means it.
pub struct OpDef {
    /// Serialized names.
    pub names: &'static [&'static str],
    /// Evaluation.
    pub body: Body,
    /// Arguments that are written in place.
    pub mutates: &'static [usize],
    /// All that is left of `shape` where integers changed and no size did; for output sizes that follow from sizes alone.
    pub recheck: Option<CheckFn>,
}

impl OpDef {
    /// An operator that does GPU work and mutates nothing.
    pub const fn kernel(
        names: &'static [&'static str],
        shape: ShapeFn,
        lower: fn(&mut Lower<'_>) -> Result<(), OpError>,
    ) -> Self {
        Self { names, body: Body::Kernel { shape, lower }, mutates: &[], recheck: None }
    }
}
