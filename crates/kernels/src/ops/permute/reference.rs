//! The same elements with dimensions in another order.

use crate::args::OpError;
use crate::reference::{Eval, flat, positions};

fn reorder(eval: &mut Eval<'_>, order: &[usize]) -> Result<(), OpError> {
    let x = eval.array(0)?;
    let own = x.sizes();
    let sizes: Vec<usize> = order.iter().map(|&d| own[d]).collect();
    let element = |at: Vec<usize>| {
        let mut source = vec![0; own.len()];
        for (&dim, &i) in order.iter().zip(&at) {
            source[dim] = i;
        }
        x.values[flat(&own, &source)]
    };
    let values = positions(&sizes).map(element).collect();
    let dims: Vec<u32> = sizes.iter().map(|&s| s as u32).collect();
    eval.set(0, &dims, values);
    Ok(())
}

/// Dimensions in the order that argument 1 gives.
pub fn permute(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let rank = eval.array(0)?.dims.len() as i64;
    let order: Vec<usize> = eval.cx().ints(1)?.iter().map(|d| d.rem_euclid(rank) as usize).collect();
    reorder(eval, &order)
}

/// Rows become columns.
pub fn transpose(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let order: Vec<usize> = (0..eval.array(0)?.dims.len()).rev().collect();
    reorder(eval, &order)
}
