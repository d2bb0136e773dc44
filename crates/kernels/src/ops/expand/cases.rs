//! Cases of repeated tensors.

use etwgpu_graph::DType::{self, Bool, F16, F32, I32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Sizes, requested sizes, result.
const SIZES: &[(&[u32], &[i64], &[u32])] = &[
    (&[3, 1], &[3, 4], &[3, 4]),
    (&[3, 1], &[2, -1, 5], &[2, 3, 5]),
    (&[], &[2, 3], &[2, 3]),
    (&[1, 7], &[-1, -1], &[1, 7]),
    (&[1], &[0], &[0]),
    (&[1, 2, 1, 3], &[5, 2, 300, 3], &[5, 2, 300, 3]),
];

fn case(dtype: DType, (dims, sizes, out): (&[u32], &[i64], &[u32])) -> Case {
    let mut b = Builder::new(format!("expand {dtype:?} {dims:?} to {sizes:?}"));
    let values = b.random.integers(count(dims), 0, if dtype == Bool { 2 } else { 100 });
    let x = b.input(dtype, dims, values);
    let out = b.result(dtype, out);
    b.node("aten.expand_copy.default", &[x.into(), sizes.into(), Arg::Bool(false)], &[out]);
    b.finish(&[out])
}

/// Sizes that mix numbers and an integer that the host passes; rows below their bound.
fn symbolic() -> Case {
    let mut b = Builder::new("expand to a symbolic size");
    let values = b.random.signed(3, 1.0);
    let x = b.input_below(&[8, 1], Array::new(F32, &[3, 1], values));
    let heads = b.integer(2);
    let out = b.result(F32, &[4, 8, 5]);
    let sizes = Arg::List(vec![heads.into(), Arg::Int(-1), Arg::Int(5)]);
    b.node("aten.expand_copy.default", &[x.into(), sizes], &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let of_type = |dtype| SIZES.iter().map(move |&sizes| case(dtype, sizes));
    [F32, I32, F16, Bool].into_iter().flat_map(of_type).chain([symbolic()]).collect()
}
