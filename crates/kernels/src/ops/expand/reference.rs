//! A tensor repeated along dimensions of size one and along new ones.

use crate::args::OpError;
use crate::reference::{Eval, flat, positions};

/// Sizes in argument 1; -1 keeps a dimension's size.
pub fn expand(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let given = eval.cx().ints(1)?;
    let x = eval.array(0)?;
    let own = [vec![1; given.len() - x.dims.len()], x.sizes()].concat();
    let sizes: Vec<usize> =
        given.iter().zip(&own).map(|(&size, &own)| if size < 0 { own } else { size as usize }).collect();
    let source =
        |at: Vec<usize>| own.iter().zip(at).map(|(&s, i)| if s == 1 { 0 } else { i }).collect::<Vec<_>>();
    let values = positions(&sizes).map(|at| x.values[flat(&own, &source(at))]).collect();
    let dims: Vec<u32> = sizes.iter().map(|&s| s as u32).collect();
    eval.set(0, &dims, values);
    Ok(())
}
