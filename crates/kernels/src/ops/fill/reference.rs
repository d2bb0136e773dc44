//! Tensors of equal elements.

use crate::args::OpError;
use crate::reference::{Eval, count};

fn fill(eval: &mut Eval<'_>, dims: &[u32], number: f64) {
    eval.set(0, dims, vec![number; count(dims)]);
}

fn sizes(eval: &Eval<'_>) -> Result<Vec<u32>, OpError> {
    Ok(eval.cx().ints(0)?.iter().map(|&s| s as u32).collect())
}

fn like(eval: &Eval<'_>) -> Result<Vec<u32>, OpError> {
    Ok(eval.array(0)?.dims.to_vec())
}

/// Sizes, number.
pub fn full(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (dims, number) = (sizes(eval)?, eval.cx().float(1)?);
    fill(eval, &dims, number);
    Ok(())
}

/// A tensor that gives the sizes, number.
pub fn full_like(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (dims, number) = (like(eval)?, eval.cx().float(1)?);
    fill(eval, &dims, number);
    Ok(())
}

/// A number as a tensor without dimensions.
pub fn scalar_tensor(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let number = eval.cx().float(0)?;
    fill(eval, &[], number);
    Ok(())
}

/// Zeros of given sizes.
pub fn zeros(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let dims = sizes(eval)?;
    fill(eval, &dims, 0.0);
    Ok(())
}

/// As many zeros as another tensor has elements.
pub fn zeros_like(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let dims = like(eval)?;
    fill(eval, &dims, 0.0);
    Ok(())
}

/// Ones of given sizes.
pub fn ones(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let dims = sizes(eval)?;
    fill(eval, &dims, 1.0);
    Ok(())
}

/// As many ones as another tensor has elements.
pub fn ones_like(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let dims = like(eval)?;
    fill(eval, &dims, 1.0);
    Ok(())
}
