//! Parts of a tensor.

use crate::args::OpError;
use crate::reference::{Eval, flat, positions};

/// Output element at `position` is the source element at `source(position)`.
fn pick(
    eval: &mut Eval<'_>,
    sizes: &[usize],
    source: impl Fn(Vec<usize>) -> Vec<usize>,
) -> Result<(), OpError> {
    let x = eval.array(0)?;
    let own = x.sizes();
    let values = positions(sizes).map(|at| x.values[flat(&own, &source(at))]).collect();
    let dims: Vec<u32> = sizes.iter().map(|&s| s as u32).collect();
    eval.set(0, &dims, values);
    Ok(())
}

/// `self[start:end:step]` along one dimension, as Python reads it.
pub fn slice(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let mut sizes = eval.array(0)?.sizes();
    let cx = eval.cx();
    let dim = cx.int_or(1, 0)?.rem_euclid(sizes.len() as i64) as usize;
    let size = sizes[dim] as i64;
    let clamp = |v: i64| if v < 0 { (v + size).clamp(0, size) } else { v.clamp(0, size) };
    let (start, end) = (clamp(cx.int_or(2, 0)?), clamp(cx.int_or(3, i64::MAX)?));
    let step = cx.int_or(4, 1)?;
    let picked: Vec<i64> = (start..end).step_by(step as usize).collect();
    sizes[dim] = picked.len();
    pick(eval, &sizes, |mut at| {
        at[dim] = picked[at[dim]] as usize;
        at
    })
}

/// One index of a dimension, which disappears.
pub fn select(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let mut sizes = eval.array(0)?.sizes();
    let dim = eval.cx().int_or(1, 0)?.rem_euclid(sizes.len() as i64) as usize;
    let index = eval.cx().int(2)?.rem_euclid(sizes[dim] as i64) as usize;
    sizes.remove(dim);
    pick(eval, &sizes, |mut at| {
        at.insert(dim, index);
        at
    })
}
