//! Cases of integer arithmetic, seen through the sizes that it decides.

use etwgpu_graph::DType::{F32, I32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::Array;

/// `op` of two integers, both from the host and from an input tensor, decides how much of a tensor is kept.
fn arithmetic(op: &str, a: i64, c: i64, expected: u32) -> Case {
    let mut b = Builder::new(format!("{op} of {a} and {c}"));
    let x = b.noise(F32, &[40]);
    let held = b.input(I32, &[3, 2], vec![9.0, 9.0, 9.0, 9.0, c as f64, 9.0]);
    let (first, second, result) = (b.integer(a), b.symbol(), b.symbol());
    b.node("et_vk.select_as_symint.default", &[held.into(), Arg::Int(0), Arg::Int(-1)], &[second]);
    b.node(op, &[first.into(), second.into()], &[result]);
    let kept = b.result(F32, &[40]);
    b.node("aten.slice_copy.Tensor", &[x.into(), Arg::Int(0), Arg::Int(0), result.into()], &[kept]);
    let case = b.finish(&[kept]);
    assert!(expected <= 40);
    case
}

/// The live size of a dimension, from behind.
fn size() -> Case {
    let mut b = Builder::new("size of a live dimension");
    let values = b.random.signed(3 * 7, 1.0);
    let x = b.input_below(&[3, 9], Array::new(F32, &[3, 7], values));
    let (size, half) = (b.symbol(), b.symbol());
    b.node("sym_size.int", &[x.into(), Arg::Int(-1)], &[size]);
    b.node("floordiv", &[size.into(), Arg::Int(2)], &[half]);
    let kept = b.result(F32, &[3, 9]);
    b.node("aten.slice_copy.Tensor", &[x.into(), Arg::Int(1), half.into(), size.into()], &[kept]);
    b.finish(&[kept])
}

/// Every case.
pub fn all() -> Vec<Case> {
    vec![
        arithmetic("add", 5, 7, 12),
        arithmetic("sub", 20, 7, 13),
        arithmetic("mul", 3, 11, 33),
        arithmetic("floordiv", 17, 5, 3),
        arithmetic("floordiv", -17, 5, 36),
        arithmetic("floordiv", -15, 5, 37),
        size(),
    ]
}
