//! Cases of the binary operators.

use etwgpu_graph::DType::{self, F16, F32, I32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Sizes of both operands and the result: equal, odd, broadcast in every place, scalar, empty, many workgroups.
const SIZES: &[(&[u32], &[u32], &[u32])] = &[
    (&[4, 8], &[4, 8], &[4, 8]),
    (&[3, 7], &[3, 7], &[3, 7]),
    (&[1], &[1], &[1]),
    (&[], &[], &[]),
    (&[0, 4], &[0, 4], &[0, 4]),
    (&[2, 3, 4], &[4], &[2, 3, 4]),
    (&[4], &[2, 3, 4], &[2, 3, 4]),
    (&[2, 1, 4], &[1, 3, 1], &[2, 3, 4]),
    (&[5, 1], &[1, 6], &[5, 6]),
    (&[], &[3, 5], &[3, 5]),
    (&[3, 5], &[1], &[3, 5]),
    (&[2, 1, 2, 1, 2, 1, 2, 1], &[1, 3, 1, 2, 1, 2, 1, 5], &[2, 3, 2, 2, 2, 2, 2, 5]),
    (&[301, 300], &[301, 300], &[301, 300]),
    (&[301, 300], &[300], &[301, 300]),
];

fn values(b: &mut Builder, dtype: DType, dims: &[u32]) -> Vec<f64> {
    match dtype {
        I32 => b.random.integers(count(dims), -1000, 1000),
        _ => b.random.signed(count(dims), 2.0),
    }
}

fn case(op: &str, dtype: DType, (a, c, out): (&[u32], &[u32], &[u32]), alpha: Option<Arg>) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {a:?} {c:?} {alpha:?}"));
    let (x, y) = (values(&mut b, dtype, a), values(&mut b, dtype, c));
    let (x, y) = (b.input(dtype, a, x), b.input(dtype, c, y));
    let result = b.result(dtype, out);
    let args: Vec<Arg> = [x.into(), y.into()].into_iter().chain(alpha).collect();
    b.node(op, &args, &[result]);
    b.finish(&[result])
}

/// Results that leave 32 bits wrap around.
fn wrapping(op: &str) -> Case {
    let mut b = Builder::new(format!("{op} wraps"));
    let x = b.input(I32, &[4], vec![2147483647.0, -2147483648.0, 65537.0, -3.0]);
    let y = b.input(I32, &[4], vec![2.0, -3.0, 65539.0, 2147483647.0]);
    let result = b.result(I32, &[5]);
    b.node(op, &[x.into(), y.into()], &[result]);
    b.finish(&[result])
}

/// Divisors of both signs, away from zero; among the quotients are whole numbers.
fn quotient(op: &str, dtype: DType, mode: Option<Arg>) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {mode:?}"));
    let x = b.random.integers(45, -20, 21);
    let x = b.input(dtype, &[5, 9], x);
    let y = b.input(dtype, &[9], vec![-8.0, -4.0, -3.0, -1.0, 1.0, 2.0, 4.0, 7.0, 16.0]);
    let result = b.result(dtype, &[5, 9]);
    let args: Vec<Arg> = [x.into(), y.into()].into_iter().chain(mode).collect();
    b.node(op, &args, &[result]);
    b.finish(&[result])
}

/// Live sizes below the bound, on one side of a broadcast.
fn below_bound(op: &str) -> Case {
    let mut b = Builder::new(format!("{op} below bound"));
    let values = b.random.signed(21, 1.0);
    let x = b.input_below(&[8, 7], Array::new(F32, &[3, 7], values));
    let y = b.noise(F32, &[7]);
    let result = b.result(F32, &[8, 7]);
    b.node(op, &[x.into(), y.into()], &[result]);
    b.finish(&[result])
}

/// A tensor with itself, and a constant operand.
fn shared_and_constant(op: &str) -> Case {
    let mut b = Builder::new(format!("{op} shared operand"));
    let x = b.noise(F32, &[3, 5]);
    let weight = b.constant(F32, &[5], vec![0.5, -1.0, 2.0, 3.0, -0.25]);
    let (twice, result) = (b.result(F32, &[3, 5]), b.result(F32, &[3, 5]));
    b.node(op, &[x.into(), x.into()], &[twice]);
    b.node(op, &[weight.into(), twice.into()], &[result]);
    b.finish(&[result, twice])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [F32, F16, I32] {
        for op in ["aten.minimum.default", "aten.maximum.default"] {
            cases.extend([SIZES[1], SIZES[5], SIZES[7]].map(|sizes| case(op, dtype, sizes, None)));
        }
        cases.extend(
            ["floor", "trunc"].map(|mode| quotient("aten.div.Tensor_mode", dtype, Some(Arg::Text(mode)))),
        );
        if dtype != I32 {
            cases.push(quotient("aten.div.Tensor", dtype, None));
        }
    }
    for op in ["aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor"] {
        for dtype in [F32, F16, I32] {
            cases.extend(SIZES.iter().map(|&sizes| case(op, dtype, sizes, None)));
            if op != "aten.mul.Tensor" {
                let same = SIZES[1];
                cases.push(case(op, dtype, same, Some(Arg::Int(2))));
                cases.push(case(op, dtype, same, Some(Arg::None)));
                cases.push(case(op, dtype, SIZES[7], Some(Arg::Int(-3))));
                if dtype != I32 {
                    cases.push(case(op, dtype, same, Some(Arg::Float(-0.5))));
                }
            }
        }
        cases.extend([wrapping(op), below_bound(op), shared_and_constant(op)]);
    }
    cases
}
