//! Cases of softmax and its logarithm.

use etwgpu_graph::DType::{self, F16, F32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Sizes and dimension: short and long lines, odd lengths, inner and outer dimensions, one element, nothing.
const LINES: &[(&[u32], i64)] = &[
    (&[4, 8], -1),
    (&[3, 7], 1),
    (&[3, 7], 0),
    (&[2, 5, 3], 1),
    (&[2, 5, 3], -3),
    (&[1, 6, 48, 48], -1),
    (&[2, 1000], 1),
    (&[5, 1], 1),
    (&[9], 0),
    (&[], 0),
    (&[], -1),
    (&[0, 4], 1),
    (&[4, 0], 1),
    (&[70000, 2], 1),
];

fn case(op: &str, dtype: DType, dims: &[u32], dim: i64, limit: f64) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {dims:?} along {dim} up to {limit}"));
    let values = b.random.signed(count(dims), limit);
    let x = b.input(dtype, dims, values);
    let out = b.result(dtype, dims);
    b.node(op, &[x.into(), dim.into(), Arg::Bool(false)], &[out]);
    b.finish(&[out])
}

/// Lines with hidden elements, as masks make them.
fn masked(dtype: DType) -> Case {
    let mut b = Builder::new(format!("softmax {dtype:?} with hidden elements"));
    let mut values = b.random.signed(6 * 40, 2.0);
    for row in 0..6 {
        values[row * 40 + 7 * row + 1..(row + 1) * 40].fill(f64::NEG_INFINITY);
    }
    values[3 * 40..3 * 40 + 5].fill(f64::NEG_INFINITY);
    let x = b.input(dtype, &[6, 40], values);
    let out = b.result(dtype, &[6, 40]);
    b.node("aten._softmax.default", &[x.into(), Arg::Int(-1), Arg::Bool(false)], &[out]);
    b.finish(&[out])
}

/// Lines shorter than their bound.
fn below_bound(op: &str) -> Case {
    let mut b = Builder::new(format!("{op} below bound"));
    let values = b.random.signed(3 * 5 * 2, 3.0);
    let x = b.input_below(&[8, 9, 2], Array::new(F32, &[3, 5, 2], values));
    let out = b.result(F32, &[8, 9, 2]);
    b.node(op, &[x.into(), Arg::Int(1), Arg::Bool(false)], &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = vec![masked(F32), masked(F16)];
    for op in ["aten._softmax.default", "aten._log_softmax.default"] {
        for dtype in [F32, F16] {
            cases.extend(LINES.iter().map(|&(dims, dim)| case(op, dtype, dims, dim, 4.0)));
            cases.push(case(op, dtype, &[3, 33], 1, 80.0));
        }
        cases.push(below_bound(op));
    }
    cases
}
