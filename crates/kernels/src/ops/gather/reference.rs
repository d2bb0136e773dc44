//! Rows picked by an index tensor.

use crate::args::OpError;
use crate::invalid;
use crate::reference::{Array, Eval};

/// `table[:, …, index, …]` with the index at dimension `dim`, its own sizes in that dimension's place.
fn pick(table: &Array, dim: usize, index: &Array) -> (Vec<u32>, Vec<f64>) {
    let sizes = table.sizes();
    let outer: usize = sizes[..dim].iter().product();
    let inner: usize = sizes[dim + 1..].iter().product();
    let mut values = Vec::new();
    for o in 0..outer {
        for &i in &index.values {
            let row = (i as i64).rem_euclid(sizes[dim] as i64) as usize;
            let from = (o * sizes[dim] + row) * inner;
            values.extend_from_slice(&table.values[from..from + inner]);
        }
    }
    let dims = table.dims[..dim].iter().chain(&index.dims).chain(&table.dims[dim + 1..]);
    (dims.copied().collect(), values)
}

/// `weight[indices]`.
pub fn embedding(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (dims, values) = pick(eval.array(0)?, 0, eval.array(1)?);
    eval.set(0, &dims, values);
    Ok(())
}

/// `self[…, index]` with the only index of the list at its position.
pub fn index(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let indices = eval.arrays(1)?;
    let dim = indices.iter().position(Option::is_some).ok_or_else(|| invalid!("no index"))?;
    let index = indices[dim].ok_or_else(|| invalid!("no index"))?;
    let (dims, values) = pick(eval.array(0)?, dim, index);
    eval.set(0, &dims, values);
    Ok(())
}
