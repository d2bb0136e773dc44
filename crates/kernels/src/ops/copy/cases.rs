//! Cases of views and clones, alone and where sharing storage would be wrong.

use etwgpu_graph::DType::{self, Bool, F16, F32, I32, U8};
use etwgpu_graph::ValueId;

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

fn one(op: &str, dtype: DType, dims: &[u32], arg: Arg, out: &[u32]) -> Case {
    let mut b = Builder::new(format!("{op} {dtype:?} {dims:?} {arg:?}"));
    let values = b.random.integers(count(dims), 0, 2);
    let x = b.input(dtype, dims, values);
    let result = b.result(dtype, out);
    b.node(op, &[x.into(), arg], &[result]);
    b.finish(&[result])
}

/// A view with a symbolic size, its input below the bound.
fn symbolic_view() -> Case {
    let mut b = Builder::new("view of symbolic sizes");
    let values = b.random.signed(12, 1.0);
    let x = b.input_below(&[5, 4], Array::new(F32, &[3, 4], values));
    let (rows, result) = (b.symbol(), b.result(F32, &[1, 5, 2, 2]));
    b.node("sym_size.int", &[x.into(), Arg::Int(0)], &[rows]);
    let sizes = Arg::List(vec![Arg::Int(1), rows.into(), Arg::Int(2), Arg::Int(-1)]);
    b.node("aten.view_copy.default", &[x.into(), sizes], &[result]);
    b.finish(&[result])
}

/// A dimension whose live size happens to be one stays.
fn squeeze_of_live_one() -> Case {
    let mut b = Builder::new("squeeze keeps a dynamic dimension");
    let x = b.input_below(&[1, 5, 1, 3], Array::new(F32, &[1, 1, 1, 3], vec![1.0, 2.0, 3.0]));
    let result = b.result(F32, &[5, 3]);
    b.node("aten.squeeze_copy.dims", &[x.into(), Arg::Ints(vec![0, 1, 2])], &[result]);
    b.finish(&[result])
}

fn appended(b: &mut Builder, cache: ValueId, position: i64) {
    let row = b.noise(F32, &[1, 1, 1, 4]);
    b.node("update_cache.default", &[row.into(), cache.into(), Arg::Int(position)], &[cache]);
}

/// Copies of a cache from before and after each write; `dtype` 4 elements a row.
fn snapshots() -> Case {
    let mut b = Builder::new("clones of a cache that changes");
    let start = b.random.signed(12, 1.0);
    let cache = b.constant(F32, &[1, 3, 1, 4], start);
    let copies: Vec<ValueId> = (0..3).map(|_| b.result(F32, &[1, 3, 1, 4])).collect();
    let view = b.result(F32, &[12]);
    b.node("aten.clone.default", &[cache.into()], &[copies[0]]);
    b.node("aten.view_copy.default", &[copies[0].into(), Arg::Ints(vec![12])], &[view]);
    appended(&mut b, cache, 0);
    b.node("aten.clone.default", &[cache.into()], &[copies[1]]);
    appended(&mut b, cache, 2);
    b.node("aten.clone.default", &[cache.into()], &[copies[2]]);
    b.finish(&[copies[0], view, copies[1], copies[2], cache])
}

/// Writing into a copy leaves its source alone.
fn written_copy() -> Case {
    let mut b = Builder::new("a clone that is written");
    let start = b.random.signed(12, 1.0);
    let source = b.input(F32, &[1, 3, 1, 4], start);
    let copy = b.result(F32, &[1, 3, 1, 4]);
    b.node("aten.clone.default", &[source.into()], &[copy]);
    appended(&mut b, copy, 1);
    b.finish(&[source, copy])
}

/// Inputs and weights handed out under other sizes, one of them twice.
fn passed_through() -> Case {
    let mut b = Builder::new("inputs and weights as outputs");
    let (x, weight) = (b.noise(F32, &[2, 3]), b.constant(F32, &[5], vec![1.0, 2.0, 3.0, 4.0, 5.0]));
    let (x_view, weight_view) = (b.result(F32, &[6]), b.result(F32, &[5, 1]));
    b.node("aten.view_copy.default", &[x.into(), Arg::Ints(vec![-1])], &[x_view]);
    b.node("aten.unsqueeze_copy.default", &[weight.into(), Arg::Int(-1)], &[weight_view]);
    b.finish(&[x_view, weight_view, x, x_view])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let view = "aten.view_copy.default";
    let mut cases =
        vec![symbolic_view(), squeeze_of_live_one(), snapshots(), written_copy(), passed_through()];
    for dtype in [F32, F16, I32, U8, Bool] {
        cases.push(one(view, dtype, &[2, 15], Arg::Ints(vec![3, -1]), &[3, 10]));
        cases.push(one("aten.clone.default", dtype, &[7], Arg::None, &[7]));
    }
    cases.push(one(view, F32, &[0, 4], Arg::Ints(vec![2, 0]), &[2, 0]));
    cases.push(one(view, F32, &[1], Arg::Ints(vec![]), &[]));
    cases.push(one("aten.alias_copy.default", F32, &[3, 3], Arg::None, &[3, 3]));
    cases.push(one("dim_order_ops._clone_dim_order.default", F32, &[3, 3], Arg::None, &[3, 3]));
    cases.push(one("aten.squeeze_copy.dims", F32, &[1, 3, 1, 2], Arg::Ints(vec![0, -2, 1]), &[3, 2]));
    cases.push(one("aten.squeeze_copy.dim", F32, &[1, 3], Arg::Int(0), &[3]));
    cases.push(one("aten.unsqueeze_copy.default", F32, &[3, 2], Arg::Int(1), &[3, 1, 2]));
    cases.push(one("aten.unsqueeze_copy.default", F32, &[3, 2], Arg::Int(-1), &[3, 2, 1]));
    cases
}
