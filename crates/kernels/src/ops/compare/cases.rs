//! Cases of the comparisons.

use etwgpu_graph::DType::{self, Bool, F16, F32, I32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

const OPS: &[&str] = &["eq", "ne", "lt", "le", "gt", "ge"];

/// Sizes of both operands and the result: odd tails, broadcasts in every place, scalars, nothing, many workgroups.
const SIZES: &[(&[u32], &[u32], &[u32])] = &[
    (&[8], &[8], &[8]),
    (&[3, 7], &[3, 7], &[3, 7]),
    (&[], &[], &[]),
    (&[0, 3], &[0, 3], &[0, 3]),
    (&[2, 3, 5], &[5], &[2, 3, 5]),
    (&[5, 1], &[1, 7], &[5, 7]),
    (&[3], &[], &[3]),
    (&[2, 1, 2, 1, 2, 1, 2, 1], &[1, 3, 1, 2, 1, 2, 1, 5], &[2, 3, 2, 2, 2, 2, 2, 5]),
    (&[301, 30], &[301, 1], &[301, 30]),
];

/// Few different values, so that many are equal.
fn operand(b: &mut Builder, dtype: DType, dims: &[u32]) -> Array {
    Array::new(dtype, dims, b.random.integers(count(dims), -2, 3))
}

fn tensors(op: &str, dtype: DType, (a, c, out): (&[u32], &[u32], &[u32])) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {a:?} {c:?}"));
    let (x, y) = (operand(&mut b, dtype, a), operand(&mut b, dtype, c));
    let (x, y) = (b.input_below(a, x), b.input_below(c, y));
    let result = b.result(Bool, out);
    b.node(&format!("aten.{op}.Tensor"), &[x.into(), y.into()], &[result]);
    b.finish(&[result])
}

/// Compares edge values and whole numbers with `number`; rows below their bound.
fn number(op: &str, dtype: DType, number: &Arg) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} with {number:?}"));
    let mut values = operand(&mut b, dtype, &[3, 7]).values;
    if dtype == I32 {
        values[..3].copy_from_slice(&[2147483647.0, -2147483648.0, 16777217.0]);
    } else {
        values[..4].copy_from_slice(&[f64::INFINITY, f64::NEG_INFINITY, 0.1, -0.0]);
    }
    let x = b.input_below(&[5, 7], Array::new(dtype, &[3, 7], values));
    let result = b.result(Bool, &[5, 7]);
    b.node(&format!("aten.{op}.Scalar"), &[x.into(), number.clone()], &[result]);
    b.finish(&[result])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in OPS {
        for dtype in [F32, F16, I32] {
            cases.extend(SIZES.iter().map(|&sizes| tensors(op, dtype, sizes)));
            for arg in [Arg::Int(1), Arg::Float(-1.0), Arg::Float(0.1), Arg::Float(f64::NEG_INFINITY)] {
                cases.push(number(op, dtype, &arg));
            }
        }
        cases.push(number(op, I32, &Arg::Int(16_777_216)));
    }
    cases
}
