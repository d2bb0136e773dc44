//! `x · wᵀ + bias`.

use crate::args::OpError;
use crate::reference::{Array, Eval};

/// Signed value of element `k` of row `n`: even elements in the low nibble, each stored as value + 8.
fn nibble(weight: &Array, n: usize, k: usize) -> f64 {
    let byte = weight.values[n * weight.width() + k / 2] as u8;
    f64::from(if k.is_multiple_of(2) { byte & 15 } else { byte >> 4 }) - 8.0
}

/// Row-by-row products; `w(n, k)` is the weight and `x(m, k)` the activation.
fn product(
    (rows, n, k): (usize, usize, usize),
    x: impl Fn(usize, usize) -> f64,
    w: impl Fn(usize, usize) -> f64,
    bias: Option<&Array>,
) -> Vec<f64> {
    let weights: Vec<f64> = (0..n * k).map(|i| w(i / k, i % k)).collect();
    let mut values = Vec::new();
    for m in 0..rows {
        let row: Vec<f64> = (0..k).map(|i| x(m, i)).collect();
        for c in 0..n {
            let sum: f64 = row.iter().zip(&weights[c * k..(c + 1) * k]).map(|(a, b)| a * b).sum();
            values.push(sum + bias.map_or(0.0, |b| b.values[c]));
        }
    }
    values
}

fn finish(eval: &mut Eval<'_>, n: usize, values: Vec<f64>) -> Result<(), OpError> {
    let mut dims = eval.array(0)?.dims.clone();
    if let Some(last) = dims.last_mut() {
        *last = n as u32;
    }
    eval.set(0, &dims, values);
    Ok(())
}

/// Float weights `[N, K]`.
pub fn float(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (x, weight, bias) = (eval.array(0)?, eval.array(1)?, eval.array_opt(2)?);
    let (n, k) = (weight.dims[0] as usize, x.width());
    let rows = x.values.len() / k;
    let values = product((rows, n, k), |m, i| x.values[m * k + i], |c, i| weight.values[c * k + i], bias);
    finish(eval, n, values)
}

/// Nibble weights with scales `[G, N]` of `group` elements along K.
pub fn q4(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (x, weight, scales, bias) = (eval.array(0)?, eval.array(1)?, eval.array(2)?, eval.array_opt(4)?);
    let group = eval.cx().int(3)? as usize;
    let (n, k) = (weight.dims[0] as usize, x.width());
    let rows = x.values.len() / k;
    let w = |c, i| nibble(weight, c, i) * scales.values[i / group * scales.width() + c];
    let values = product((rows, n, k), |m, i| x.values[m * k + i], w, bias);
    finish(eval, n, values)
}

/// As [`q4`], with activations rounded to 8 bits by a scale and zero point a row.
pub fn dynamic_q8_q4(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (x, scale, zero, weight) = (eval.array(0)?, eval.array(1)?, eval.array(2)?, eval.array(3)?);
    let (scales, bias) = (eval.array(5)?, eval.array_opt(7)?);
    let group = eval.cx().int(6)? as usize;
    let (n, k) = (weight.dims[0] as usize, x.width());
    let rows = x.values.len() / k;
    let quantised = |m: usize, i: usize| {
        let q = (x.values[m * k + i] / scale.values[m]).round_ties_even() + zero.values[m];
        scale.values[m] * (q.clamp(-128.0, 127.0) - zero.values[m])
    };
    let w = |c, i| nibble(weight, c, i) * scales.values[i / group * scales.width() + c];
    let values = product((rows, n, k), quantised, w, bias);
    finish(eval, n, values)
}
