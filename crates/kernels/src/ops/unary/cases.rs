//! Cases of the unary operators.

use etwgpu_graph::DType::{self, F16, F32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Single elements, odd widths, whole vectors, nothing, many workgroups.
const SIZES: &[&[u32]] = &[&[], &[1], &[3], &[16], &[7, 5], &[2, 0], &[1000, 3]];

/// A unary operator over random elements up to `limit`.
pub fn case(op: &str, dtype: DType, dims: &[u32], limit: f64, rest: &[Arg]) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {dims:?} up to {limit} {rest:?}"));
    let values = b.random.signed(count(dims), limit);
    let x = b.input(dtype, dims, values);
    let out = b.result(dtype, dims);
    let args: Vec<Arg> = std::iter::once(x.into()).chain(rest.iter().cloned()).collect();
    b.node(op, &args, &[out]);
    b.finish(&[out])
}

/// Live sizes below the bound.
fn below_bound(op: &str) -> Case {
    let mut b = Builder::new(format!("{op} below bound"));
    let values = b.random.signed(9, 3.0);
    let x = b.input_below(&[5, 3], Array::new(F32, &[3, 3], values));
    let out = b.result(F32, &[5, 3]);
    b.node(op, &[x.into()], &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let sigmoid = "aten.sigmoid.default";
    let mut cases = vec![below_bound(sigmoid)];
    for dtype in [F32, F16] {
        cases.extend(SIZES.iter().map(|dims| case(sigmoid, dtype, dims, 8.0, &[])));
        cases.push(case(sigmoid, dtype, &[40], 200.0, &[]));
    }
    cases
}
