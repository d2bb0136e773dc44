//! Cases of the logical operators.

use etwgpu_graph::DType::{self, Bool, F32, I32};

use crate::cases::{Builder, Case};
use crate::reference::{Array, count};

/// Sizes of both operands and the result: whole words, every tail, broadcasts, nothing, many workgroups.
const SIZES: &[(&[u32], &[u32], &[u32])] = &[
    (&[16], &[16], &[16]),
    (&[1], &[1], &[1]),
    (&[2, 3], &[2, 3], &[2, 3]),
    (&[7], &[7], &[7]),
    (&[], &[], &[]),
    (&[0], &[0], &[0]),
    (&[3, 5], &[5], &[3, 5]),
    (&[5, 1], &[1, 6], &[5, 6]),
    (&[1, 6, 48, 48], &[48, 1], &[1, 6, 48, 48]),
];

fn pair(op: &str, (a, c, out): (&[u32], &[u32], &[u32])) -> Case {
    let mut b = Builder::new(format!("{op} {a:?} {c:?}"));
    let (x, y) = (b.random.integers(count(a), 0, 2), b.random.integers(count(c), 0, 2));
    let (x, y) = (b.input(Bool, a, x), b.input(Bool, c, y));
    let result = b.result(Bool, out);
    b.node(op, &[x.into(), y.into()], &[result]);
    b.finish(&[result])
}

fn not(op: &str, dtype: DType, live: &[u32], bound: &[u32]) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {live:?} of {bound:?}"));
    let values = b.random.integers(count(live), 0, 2);
    let x = b.input_below(bound, Array::new(dtype, live, values));
    let result = b.result(Bool, bound);
    b.node(op, &[x.into()], &[result]);
    b.finish(&[result])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["and", "or", "xor"] {
        cases.extend(SIZES.iter().map(|&sizes| pair(&format!("aten.logical_{name}.default"), sizes)));
        cases.push(pair(&format!("aten.bitwise_{name}.Tensor"), SIZES[3]));
    }
    for op in ["aten.logical_not.default", "aten.bitwise_not.default"] {
        cases.extend(SIZES.iter().map(|(dims, _, _)| not(op, Bool, dims, dims)));
        cases.push(not(op, Bool, &[3, 3], &[5, 3]));
    }
    cases.push(not("aten.logical_not.default", F32, &[7], &[7]));
    cases.push(not("aten.logical_not.default", I32, &[2, 5], &[4, 5]));
    cases
}
