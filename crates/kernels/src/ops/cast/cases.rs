//! Cases of casts. Their reference is `copy`'s: the type of the result decides how elements are rounded.

use etwgpu_graph::DType::{self, Bool, F16, F32, I8, I32, U8};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

const TYPES: [DType; 6] = [Bool, U8, I8, I32, F16, F32];

/// Elements that every type but `Bool` and `U8` holds up to their sign, and fractions.
fn case(op: &str, from: DType, to: DType, bound: &[u32], live: &[u32]) -> Case {
    let mut b = Builder::new(format!("{op} {from:?} {live:?} of {bound:?} to {to:?}"));
    let low = if from == U8 || to == U8 { 0 } else { -100 };
    let values = b.random.integers(count(live), low, 101);
    let fraction = if matches!(from, F16 | F32) { 0.25 } else { 0.0 };
    let values = values.into_iter().enumerate().map(|(i, v)| match i % 3 {
        0 => 0.0,
        _ => v + fraction,
    });
    let x = b.input_below(bound, Array::new(from, live, values.collect()));
    let out = b.result(to, bound);
    let mut args = vec![x.into(), Arg::None, Arg::None, Arg::None, Arg::None, Arg::Bool(false)];
    args.push(if op == "aten._to_copy.default" { Arg::None } else { Arg::Ints(vec![]) });
    b.node(op, &args, &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for from in TYPES {
        for to in TYPES {
            cases.push(case("aten._to_copy.default", from, to, &[3, 7], &[3, 7]));
            cases.push(case("dim_order_ops._to_dim_order_copy.default", from, to, &[5, 9], &[2, 9]));
        }
    }
    cases.push(case("aten._to_copy.default", I32, F32, &[], &[]));
    cases.push(case("aten._to_copy.default", F32, I32, &[0, 4], &[0, 4]));
    cases.push(case("aten._to_copy.default", F32, Bool, &[301, 30], &[301, 30]));
    cases
}
