//! A choice between two tensors, element by element.

use crate::args::OpError;
use crate::reference::{Array, Eval, flat, positions};

/// `condition ? a : b`, with broadcasting.
pub fn choose(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let sources = [eval.array(0)?, eval.array(1)?, eval.array(2)?];
    let rank = sources.iter().map(|s| s.dims.len()).max().unwrap_or(0);
    let padded = sources.map(|s| [vec![1; rank - s.dims.len()], s.sizes()].concat());
    let size = |d: usize| padded.iter().map(|p| p[d]).find(|&s| s != 1).unwrap_or(1);
    let sizes: Vec<usize> = (0..rank).map(size).collect();
    let element = |which: usize, at: &[usize]| {
        let own = &padded[which];
        let source: &Array = sources[which];
        let position: Vec<usize> = own.iter().zip(at).map(|(&s, &i)| if s == 1 { 0 } else { i }).collect();
        source.values[flat(own, &position)]
    };
    let values =
        positions(&sizes).map(|at| element(if element(0, &at) != 0.0 { 1 } else { 2 }, &at)).collect();
    let dims: Vec<u32> = sizes.iter().map(|&s| s as u32).collect();
    eval.set(0, &dims, values);
    Ok(())
}
