//! Softmax and its logarithm along any dimension.

use crate::args::OpError;
use crate::reference::Eval;

fn lines(eval: &mut Eval<'_>, f: impl Fn(f64, f64, f64) -> f64) -> Result<(), OpError> {
    let mut x = eval.array(0)?.clone();
    let rank = x.dims.len().max(1) as i64;
    let dim = eval.cx().int(1)?.rem_euclid(rank) as usize;
    let length = x.dims.get(dim).map_or(1, |&d| d as usize);
    let inner: usize = x.dims.iter().skip(dim + 1).map(|&d| d as usize).product();
    for block in x.values.chunks_mut((length * inner).max(1)) {
        for i in 0..inner {
            let line: Vec<f64> = block.iter().skip(i).step_by(inner).copied().collect();
            let top = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = line.iter().map(|v| (v - top).exp()).sum();
            for v in block.iter_mut().skip(i).step_by(inner) {
                *v = f(*v, top, sum);
            }
        }
    }
    eval.set(0, &x.dims, x.values);
    Ok(())
}

/// `exp(x) / sum(exp(x))`.
pub fn softmax(eval: &mut Eval<'_>) -> Result<(), OpError> {
    lines(eval, |v, top, sum| (v - top).exp() / sum)
}

/// `x - log(sum(exp(x)))`.
pub fn log_softmax(eval: &mut Eval<'_>) -> Result<(), OpError> {
    lines(eval, |v, top, sum| v - top - sum.ln())
}
