//! Elementwise functions of two broadcast tensors.

use crate::args::OpError;
use crate::reference::{Eval, flat, positions};

/// Applies `f` to every pair of elements that broadcasting brings together.
pub fn broadcast2(eval: &mut Eval<'_>, f: impl Fn(f64, f64) -> f64) -> Result<(), OpError> {
    let (a, b) = (eval.array(0)?, eval.array(1)?);
    let rank = a.dims.len().max(b.dims.len());
    let padded = |sizes: Vec<usize>| -> Vec<usize> {
        std::iter::repeat_n(1, rank - sizes.len()).chain(sizes).collect()
    };
    let (a_sizes, b_sizes) = (padded(a.sizes()), padded(b.sizes()));
    let sizes: Vec<usize> = a_sizes.iter().zip(&b_sizes).map(|(&x, &y)| if x == 1 { y } else { x }).collect();
    let element = |values: &[f64], own: &[usize], at: &[usize]| {
        let position: Vec<usize> =
            own.iter().zip(at).map(|(&size, &i)| if size == 1 { 0 } else { i }).collect();
        values[flat(own, &position)]
    };
    let values = positions(&sizes)
        .map(|at| f(element(&a.values, &a_sizes, &at), element(&b.values, &b_sizes, &at)))
        .collect();
    let dims: Vec<u32> = sizes.iter().map(|&s| s as u32).collect();
    eval.set(0, &dims, values);
    Ok(())
}

fn alpha(eval: &Eval<'_>) -> Result<f64, OpError> {
    Ok(eval.cx().float_opt(2)?.unwrap_or(1.0))
}

/// `a + alpha * b`.
pub fn add(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let alpha = alpha(eval)?;
    broadcast2(eval, |a, b| a + alpha * b)
}

/// `a - alpha * b`.
pub fn sub(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let alpha = alpha(eval)?;
    broadcast2(eval, |a, b| a - alpha * b)
}

/// `a * b`.
pub fn mul(eval: &mut Eval<'_>) -> Result<(), OpError> {
    broadcast2(eval, |a, b| a * b)
}

/// `a / b`.
pub fn div(eval: &mut Eval<'_>) -> Result<(), OpError> {
    broadcast2(eval, |a, b| a / b)
}

/// `a / b`, rounded down or toward zero.
pub fn div_mode(eval: &mut Eval<'_>) -> Result<(), OpError> {
    match eval.cx().text(2)? {
        "floor" => broadcast2(eval, |a, b| (a / b).floor()),
        _ => broadcast2(eval, |a, b| (a / b).trunc()),
    }
}

/// The smaller of two.
pub fn minimum(eval: &mut Eval<'_>) -> Result<(), OpError> {
    broadcast2(eval, f64::min)
}

/// The larger of two.
pub fn maximum(eval: &mut Eval<'_>) -> Result<(), OpError> {
    broadcast2(eval, f64::max)
}
