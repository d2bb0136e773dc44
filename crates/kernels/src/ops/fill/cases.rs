//! Cases of the fills.

use etwgpu_graph::DType::{self, Bool, F16, F32, I32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::Array;

/// No dimensions, odd tails, nothing, many workgroups.
const SIZES: &[&[i64]] = &[&[], &[1], &[3, 5], &[2, 8], &[4, 0], &[300, 301]];

fn sized(op: &str, dtype: DType, sizes: &[i64], number: Option<Arg>) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {sizes:?} of {number:?}"));
    let dims: Vec<u32> = sizes.iter().map(|&s| s as u32).collect();
    let out = b.result(dtype, &dims);
    let args: Vec<Arg> = [Arg::Ints(sizes.to_vec())].into_iter().chain(number).collect();
    b.node(op, &args, &[out]);
    b.finish(&[out])
}

/// Sizes of another tensor, of another type and below its bound.
fn like(op: &str, dtype: DType, number: Option<Arg>) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} of {number:?}"));
    let x = b.input_below(&[6, 3], Array::new(F32, &[2, 3], vec![0.5; 6]));
    let out = b.result(dtype, &[6, 3]);
    let args: Vec<Arg> = [x.into()].into_iter().chain(number).collect();
    b.node(op, &args, &[out]);
    b.finish(&[out])
}

fn scalar(dtype: DType, number: Arg) -> Case {
    let mut b = Builder::new(format!("scalar_tensor {dtype:?} of {number:?}"));
    let out = b.result(dtype, &[]);
    b.node("aten.scalar_tensor.default", &[number], &[out]);
    b.finish(&[out])
}

/// A size that the host passes.
fn symbolic() -> Case {
    let mut b = Builder::new("full of a symbolic size");
    let rows = b.integer(3);
    let out = b.result(F32, &[7, 5]);
    let sizes = Arg::List(vec![rows.into(), Arg::Int(5)]);
    b.node("aten.full.default", &[sizes, Arg::Float(-2.5)], &[out]);
    b.finish(&[out])
}

/// A number that the host passes.
fn symbolic_number(dtype: DType) -> Case {
    let mut b = Builder::new(format!("scalar_tensor {dtype:?} of a symbolic number"));
    let number = b.integer(37);
    let out = b.result(dtype, &[]);
    b.node("aten.scalar_tensor.default", &[number.into()], &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = vec![
        symbolic(),
        symbolic_number(F32),
        symbolic_number(I32),
        scalar(F32, Arg::Float(f64::NEG_INFINITY)),
        scalar(F16, Arg::Float(0.1)),
    ];
    cases.extend([scalar(I32, Arg::Float(-7.0)), scalar(F32, Arg::Int(3)), scalar(Bool, Arg::Bool(true))]);
    for dtype in [F32, F16, I32, Bool] {
        for sizes in SIZES {
            cases.push(sized("aten.full.default", dtype, sizes, Some(Arg::Int(3))));
            cases.push(sized("aten.zeros.default", dtype, sizes, None));
            cases.push(sized("aten.ones.default", dtype, sizes, None));
        }
        cases.push(like("aten.full_like.default", dtype, Some(Arg::Int(0))));
        cases.push(like("aten.full_like.default", dtype, Some(Arg::Float(2.0))));
        cases.push(like("aten.zeros_like.default", dtype, None));
        cases.push(like("aten.ones_like.default", dtype, None));
    }
    cases
}
