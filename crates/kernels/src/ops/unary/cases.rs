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

/// Functions of any number, with their other arguments.
const ANYWHERE: &[(&str, &[Arg])] = &[
    ("aten.abs.default", &[]),
    ("aten.clamp.default", &[Arg::Float(-0.5), Arg::Int(1)]),
    ("aten.clamp.default", &[Arg::None, Arg::Float(0.25)]),
    ("aten.clamp.default", &[Arg::Int(0)]),
    ("aten.cos.default", &[]),
    ("aten.exp.default", &[]),
    ("aten.gelu.default", &[]),
    ("aten.gelu.default", &[Arg::Text("none")]),
    ("aten.gelu.default", &[Arg::Text("tanh")]),
    ("aten.hardswish.default", &[]),
    ("aten.hardtanh.default", &[Arg::Int(-1), Arg::Float(1.0)]),
    ("aten.leaky_relu.default", &[]),
    ("aten.leaky_relu.default", &[Arg::Float(0.3)]),
    ("aten.neg.default", &[]),
    ("aten.pow.Tensor_Scalar", &[Arg::Int(0)]),
    ("aten.pow.Tensor_Scalar", &[Arg::Float(2.0)]),
    ("aten.pow.Tensor_Scalar", &[Arg::Int(3)]),
    ("aten.pow.Tensor_Scalar", &[Arg::Int(4)]),
    ("aten.relu.default", &[]),
    ("aten.round.default", &[]),
    ("aten.sigmoid.default", &[]),
    ("aten.sin.default", &[]),
    ("aten.tanh.default", &[]),
];

/// Functions of positive numbers, with their other arguments.
const POSITIVE: &[(&str, &[Arg])] = &[
    ("aten.pow.Tensor_Scalar", &[Arg::Float(0.5)]),
    ("aten.pow.Tensor_Scalar", &[Arg::Float(-1.5)]),
    ("aten.rsqrt.default", &[]),
    ("aten.sqrt.default", &[]),
];

fn positive(op: &str, dtype: DType, rest: &[Arg]) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} of positive numbers {rest:?}"));
    let values = b.random.signed(35, 4.0).into_iter().map(|v| v.abs() + 0.05).collect();
    let x = b.input(dtype, &[7, 5], values);
    let out = b.result(dtype, &[7, 5]);
    let args: Vec<Arg> = std::iter::once(x.into()).chain(rest.iter().cloned()).collect();
    b.node(op, &args, &[out]);
    b.finish(&[out])
}

/// Far from zero, where a careless formula overflows.
fn extremes(op: &str) -> Case {
    let mut b = Builder::new(format!("{op} far out"));
    let x = b.input(F32, &[6], vec![-1e30, -1000.0, -0.0, 0.0, 1000.0, 1e30]);
    let out = b.result(F32, &[6]);
    b.node(op, &[x.into()], &[out]);
    b.finish(&[out])
}

/// Halfway between integers, and on them.
fn ties() -> Case {
    let mut b = Builder::new("round ties");
    let x = b.input(F32, &[8], vec![-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.0, 8388609.0]);
    let out = b.result(F32, &[8]);
    b.node("aten.round.default", &[x.into()], &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let sigmoid = "aten.sigmoid.default";
    let mut cases = vec![below_bound(sigmoid), below_bound("aten.tanh.default"), ties()];
    for op in ["tanh", "gelu", "relu", "abs", "hardswish"] {
        cases.push(extremes(&format!("aten.{op}.default")));
    }
    for dtype in [F32, F16] {
        cases.extend(SIZES.iter().map(|dims| case(sigmoid, dtype, dims, 8.0, &[])));
        cases.push(case(sigmoid, dtype, &[40], 200.0, &[]));
        cases.extend(ANYWHERE.iter().map(|(op, rest)| case(op, dtype, &[7, 9], 6.0, rest)));
        cases.extend(POSITIVE.iter().map(|(op, rest)| positive(op, dtype, rest)));
    }
    cases
}
