//! Cases of reordered dimensions.

use etwgpu_graph::DType::{self, Bool, F16, F32, I32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Sizes and order.
const ORDERS: &[(&[u32], &[i64])] = &[
    (&[7], &[0]),
    (&[3, 5], &[1, 0]),
    (&[1, 6, 48, 64], &[0, 1, 3, 2]),
    (&[4, 3, 2, 5], &[2, 0, 1, 3]),
    (&[2, 3, 5], &[-1, 0, -2]),
    (&[2, 0, 5], &[2, 1, 0]),
    (&[], &[]),
    (&[2, 1, 3, 1, 2, 2, 1, 3], &[7, 5, 3, 1, 0, 2, 4, 6]),
];

fn permuted(bound: &[u32], order: &[i64]) -> Vec<u32> {
    order.iter().map(|d| bound[d.rem_euclid(bound.len() as i64) as usize]).collect()
}

fn case(op: &str, dtype: DType, bound: &[u32], live: &[u32], order: &[i64]) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {live:?} of {bound:?} to {order:?}"));
    let values = b.random.integers(count(live), 0, if dtype == Bool { 2 } else { 2000 });
    let x = b.input_below(bound, Array::new(dtype, live, values));
    let out = b.result(dtype, &permuted(bound, order));
    let args: &[Arg] = &[x.into(), order.into()];
    b.node(op, if op == "aten.t_copy.default" { &args[..1] } else { args }, &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = vec![case("aten.permute.default", F32, &[3, 4], &[3, 4], &[1, 0])];
    for dtype in [F32, I32, F16, Bool] {
        let all =
            ORDERS.iter().map(|(dims, order)| case("aten.permute_copy.default", dtype, dims, dims, order));
        cases.extend(all);
        cases.push(case("aten.permute_copy.default", dtype, &[2, 9, 3], &[2, 4, 3], &[1, 0, 2]));
        cases.push(case("aten.t_copy.default", dtype, &[9, 5], &[3, 5], &[1, 0]));
        cases.push(case("aten.t_copy.default", dtype, &[5], &[5], &[0]));
    }
    cases
}
