//! The same elements under other sizes.

use crate::args::OpError;
use crate::reference::Eval;

fn resize(eval: &mut Eval<'_>, dims: &[u32]) -> Result<(), OpError> {
    let values = eval.array(0)?.values.clone();
    eval.set(0, dims, values);
    Ok(())
}

/// A copy.
pub fn same_sizes(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let dims = eval.array(0)?.dims.clone();
    resize(eval, &dims)
}

/// The sizes of argument 1, where one -1 stands for whatever is left.
pub fn view(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let total = eval.array(0)?.values.len();
    let sizes = eval.cx().ints(1)?;
    let known: usize = sizes.iter().filter(|&&s| s >= 0).map(|&s| s as usize).product();
    let dims: Vec<u32> =
        sizes.iter().map(|&s| if s < 0 { (total / known) as u32 } else { s as u32 }).collect();
    resize(eval, &dims)
}

/// Without the dimensions of argument 1 that are declared as one.
pub fn squeeze(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let dims = eval.array(0)?.dims.clone();
    let declared = eval.cx().bound(0)?.clone();
    let rank = dims.len() as i64;
    let drop: Vec<usize> = eval.cx().ints(1)?.iter().map(|d| d.rem_euclid(rank) as usize).collect();
    let kept = (0..dims.len()).filter(|i| declared[*i] != 1 || !drop.contains(i));
    let kept: Vec<u32> = kept.map(|i| dims[i]).collect();
    resize(eval, &kept)
}

/// With a dimension of one at argument 1.
pub fn unsqueeze(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let mut dims: Vec<u32> = eval.array(0)?.dims.to_vec();
    let at = eval.cx().int(1)?.rem_euclid(dims.len() as i64 + 1);
    dims.insert(at as usize, 1);
    resize(eval, &dims)
}
