//! Elementwise functions of one tensor.

use crate::args::OpError;
use crate::reference::Eval;

/// Applies `f` to every element.
pub fn map(eval: &mut Eval<'_>, f: impl Fn(f64) -> f64) -> Result<(), OpError> {
    let x = eval.array(0)?.clone();
    eval.set(0, &x.dims, x.values.into_iter().map(f).collect());
    Ok(())
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, |x| 1.0 / (1.0 + (-x).exp()))
}
