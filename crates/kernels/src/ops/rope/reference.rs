//! Rotary position embedding.

use crate::args::OpError;
use crate::reference::{Array, Eval};

/// Channels `2i` and `2i + 1` rotate by the angle in column `i` of the row of their position.
fn rotate_pairs(x: &Array, cos: &Array, sin: &Array) -> Vec<f64> {
    let [_, seq, heads, width] = x.sizes()[..] else { panic!("[B, S, H, D]") };
    let mut values = Vec::new();
    for (row, head) in x.values.chunks(width).enumerate() {
        let s = row / heads % seq;
        for i in 0..width / 2 {
            let (even, odd) = (head[2 * i], head[2 * i + 1]);
            let (c, s) = (cos.values[s * width / 2 + i], sin.values[s * width / 2 + i]);
            values.extend([even * c - odd * s, even * s + odd * c]);
        }
    }
    values
}

/// Channels `i` and `i + R/2` rotate, each by its own column; channels from `R` on stay.
fn rotate_halves(x: &Array, cos: &Array, sin: &Array, start: usize) -> Vec<f64> {
    let [_, seq, heads, width] = x.sizes()[..] else { panic!("[B, S, H, D]") };
    let turned = cos.width();
    let mut values = Vec::new();
    for (row, head) in x.values.chunks(width).enumerate() {
        let at = (start + row / heads % seq) * turned;
        let (c, s) = (&cos.values[at..at + turned], &sin.values[at..at + turned]);
        for i in 0..width {
            values.push(match i {
                i if i >= turned => head[i],
                i if i < turned / 2 => head[i] * c[i] - head[i + turned / 2] * s[i],
                i => head[i] * c[i] + head[i - turned / 2] * s[i],
            });
        }
    }
    values
}

fn rotate(eval: &mut Eval<'_>, f: impl Fn(&Array, &Array, &Array) -> Vec<f64>) -> Result<(), OpError> {
    for index in 0..2 {
        let x = eval.array(index)?;
        let (dims, values) = (x.dims.clone(), f(x, eval.array(2)?, eval.array(3)?));
        eval.set(index, &dims, values);
    }
    Ok(())
}

/// Interleaved pairs.
pub fn pairs(eval: &mut Eval<'_>) -> Result<(), OpError> {
    rotate(eval, rotate_pairs)
}

/// Rotated halves from a start position.
pub fn halves(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let start = eval.cx().int(4)? as usize;
    rotate(eval, |x, cos, sin| rotate_halves(x, cos, sin, start))
}
