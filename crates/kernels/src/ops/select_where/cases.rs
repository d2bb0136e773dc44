//! Cases of the choice between two tensors.

use etwgpu_graph::DType::{self, Bool, F16, F32, I32};

use crate::cases::{Builder, Case};
use crate::reference::{Array, count};

/// Sizes of condition, both values and the result.
const SIZES: &[[&[u32]; 4]] = &[
    [&[8], &[8], &[8], &[8]],
    [&[3, 7], &[3, 7], &[3, 7], &[3, 7]],
    [&[1, 6, 48, 1], &[1, 6, 48, 48], &[1, 6, 48, 48], &[1, 6, 48, 48]],
    [&[5], &[3, 1], &[], &[3, 5]],
    [&[4, 1, 3], &[1], &[2, 1], &[4, 2, 3]],
    [&[], &[], &[], &[]],
    [&[0, 2], &[2], &[0, 2], &[0, 2]],
];

fn case(dtype: DType, [condition, a, c, out]: [&[u32]; 4]) -> Case {
    let mut b = Builder::new(format!("where {dtype:?} {condition:?} {a:?} {c:?}"));
    let truth = b.random.integers(count(condition), 0, 2);
    let high = if dtype == Bool { 2 } else { 100 };
    let (x, y) = (b.random.integers(count(a), 0, high), b.random.integers(count(c), 0, high));
    let (condition, x, y) = (b.input(Bool, condition, truth), b.input(dtype, a, x), b.input(dtype, c, y));
    let result = b.result(dtype, out);
    b.node("aten.where.self", &[condition.into(), x.into(), y.into()], &[result]);
    b.finish(&[result])
}

/// Every operand below its bound.
fn below_bound() -> Case {
    let mut b = Builder::new("where below bound");
    let truth = b.random.integers(3, 0, 2);
    let condition = b.input_below(&[9, 1], Array::new(Bool, &[3, 1], truth));
    let values = b.random.signed(15, 1.0);
    let x = b.input_below(&[9, 5], Array::new(F32, &[3, 5], values));
    let y = b.noise(F32, &[5]);
    let result = b.result(F32, &[9, 5]);
    b.node("aten.where.self", &[condition.into(), x.into(), y.into()], &[result]);
    b.finish(&[result])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let of_type = |dtype| SIZES.iter().map(move |&sizes| case(dtype, sizes));
    [F32, F16, I32, Bool].into_iter().flat_map(of_type).chain([below_bound()]).collect()
}
