//! Products of two activations.

use crate::args::OpError;
use crate::reference::{Array, Eval};

/// `a [.., M, K] · b [.., K, N]`, batch by batch.
fn product(a: &Array, b: &Array) -> (Vec<u32>, Vec<f64>) {
    let rank = a.dims.len();
    let (a_sizes, b_sizes) = (a.sizes(), b.sizes());
    let (m, k, n) = (a_sizes[rank - 2], a_sizes[rank - 1], b_sizes[rank - 1]);
    let batches: usize = a_sizes[..rank - 2].iter().product();
    let mut values = Vec::new();
    for batch in 0..batches {
        for row in 0..m {
            for column in 0..n {
                let term =
                    |i: usize| a.values[(batch * m + row) * k + i] * b.values[(batch * k + i) * n + column];
                values.push((0..k).map(term).sum());
            }
        }
    }
    let dims = [&a.dims[..rank - 1], &b.dims[rank - 1..]].concat();
    (dims, values)
}

/// Product of arguments 0 and 1.
pub fn matmul(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (dims, values) = product(eval.array(0)?, eval.array(1)?);
    eval.set(0, &dims, values);
    Ok(())
}

/// `beta * self + alpha * (a · b)`; `self` broadcasts.
pub fn addmm(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let number = |index| eval.cx().float_opt(index).map(|v| v.unwrap_or(1.0));
    let (beta, alpha) = (number(3)?, number(4)?);
    let addend = eval.array(0)?;
    let (dims, mut values) = product(eval.array(1)?, eval.array(2)?);
    let columns = dims[1] as usize;
    let has_rows = addend.dims.len() == 2 && addend.dims[0] != 1;
    for (i, value) in values.iter_mut().enumerate() {
        let column = if addend.width() == 1 { 0 } else { i % columns };
        let row = if has_rows { i / columns } else { 0 };
        *value = alpha * *value + beta * addend.values[row * addend.width() + column];
    }
    eval.set(0, &dims, values);
    Ok(())
}
