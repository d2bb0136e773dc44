//! Cases of slices and selections.

use etwgpu_graph::DType::{self, Bool, F16, F32, I32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Sizes, dimension, start, end, step, size of the result along the dimension.
type Slice = (&'static [u32], i64, Option<i64>, Option<i64>, i64, u32);

/// Ends past the size, from behind, crossed; steps; odd tails; inner and outer dimensions.
const SLICES: &[Slice] = &[
    (&[10], 0, Some(2), Some(7), 1, 5),
    (&[10], 0, None, None, 1, 10),
    (&[10], -1, Some(-3), Some(i64::MAX), 1, 3),
    (&[10], 0, Some(-30), Some(-8), 1, 2),
    (&[10], 0, Some(1), Some(99), 4, 3),
    (&[10], 0, Some(7), Some(3), 1, 0),
    (&[3, 9, 5], 1, Some(1), Some(8), 3, 3),
    (&[3, 9, 5], 2, Some(1), Some(4), 1, 3),
    (&[3, 9, 5], -3, Some(2), Some(3), 1, 1),
    (&[2, 1, 2, 3, 1, 2, 2, 5], 7, Some(1), None, 2, 2),
    (&[90, 100], 1, Some(3), Some(99), 1, 96),
];

fn slice(dtype: DType, (dims, dim, start, end, step, len): Slice) -> Case {
    let mut b = Builder::new(format!("slice {dtype:?} {dims:?} along {dim}: {start:?}..{end:?} by {step}"));
    let values = b.random.integers(count(dims), 0, if dtype == Bool { 2 } else { 120 });
    let x = b.input(dtype, dims, values);
    let mut out = dims.to_vec();
    out[dim.rem_euclid(dims.len() as i64) as usize] = len;
    let result = b.result(dtype, &out);
    b.node(
        "aten.slice_copy.Tensor",
        &[x.into(), dim.into(), start.into(), end.into(), step.into()],
        &[result],
    );
    b.finish(&[result])
}

fn select(dtype: DType, dims: &[u32], dim: i64, index: i64) -> Case {
    let mut b = Builder::new(format!("select {dtype:?} {dims:?} {index} of {dim}"));
    let values = b.random.integers(count(dims), 0, if dtype == Bool { 2 } else { 120 });
    let x = b.input(dtype, dims, values);
    let mut out = dims.to_vec();
    out.remove(dim.rem_euclid(dims.len() as i64) as usize);
    let result = b.result(dtype, &out);
    b.node("aten.select_copy.int", &[x.into(), dim.into(), index.into()], &[result]);
    b.finish(&[result])
}

/// A window that the host moves, over rows below their bound.
fn moving_window(start: i64) -> Case {
    let mut b = Builder::new(format!("slice from a symbolic {start}"));
    let values = b.random.signed(6 * 3, 1.0);
    let x = b.input_below(&[9, 3], Array::new(F32, &[6, 3], values));
    let (start, end, width) = (b.integer(start), b.symbol(), Arg::Int(2));
    b.node("add", &[start.into(), width], &[end]);
    let result = b.result(F32, &[9, 3]);
    b.node("aten.slice_copy.Tensor", &[x.into(), Arg::Int(0), start.into(), end.into()], &[result]);
    b.finish(&[result])
}

/// What the host's integer leaves of rows below their bound, counted from behind where it is negative.
fn moving_tail(start: i64) -> Case {
    let mut b = Builder::new(format!("slice from a symbolic {start} on"));
    let values = b.random.signed(6 * 3, 1.0);
    let x = b.input_below(&[9, 3], Array::new(F32, &[6, 3], values));
    let start = b.integer(start);
    let result = b.result(F32, &[9, 3]);
    b.node("aten.slice_copy.Tensor", &[x.into(), Arg::Int(0), start.into(), Arg::Int(i64::MAX)], &[result]);
    b.finish(&[result])
}

/// A slice, a selection and a permutation that take everything as it lies, and another permutation, of what is computed.
fn everything() -> Case {
    let mut b = Builder::new("slice, select and permute everything");
    let input = b.noise(F32, &[1, 5, 3]);
    let [x, slice, swapped, turned] =
        [[1, 5, 3], [1, 5, 3], [5, 1, 3], [3, 5, 1]].map(|dims| b.result(F32, &dims));
    let [row, after] = [(); 2].map(|()| b.result(F32, &[5, 3]));
    let [to_swap, to_turn] = [[1, 0, 2], [2, 1, 0]].map(|order| Arg::Ints(order.to_vec()));
    b.node("aten.neg.default", &[input.into()], &[x]);
    b.node("aten.slice_copy.Tensor", &[x.into(), Arg::Int(1), Arg::Int(0), Arg::Int(5)], &[slice]);
    b.node("aten.select_copy.int", &[slice.into(), Arg::Int(0), Arg::Int(0)], &[row]);
    b.node("aten.permute_copy.default", &[x.into(), to_swap], &[swapped]);
    b.node("aten.permute_copy.default", &[x.into(), to_turn], &[turned]);
    b.node("aten.neg.default", &[row.into()], &[after]);
    b.finish(&[x, slice, row, swapped, turned, after])
}

/// Everything of what changes later: the copy stays as it was.
fn everything_before_a_change() -> Case {
    let mut b = Builder::new("slice everything before a change");
    let (input, rows) = (b.noise(F32, &[1, 6, 2, 4]), b.noise(F32, &[1, 2, 2, 4]));
    let [cache, before] = [(); 2].map(|()| b.result(F32, &[1, 6, 2, 4]));
    b.node("aten.neg.default", &[input.into()], &[cache]);
    b.node("aten.slice_copy.Tensor", &[cache.into(), Arg::Int(1), Arg::Int(0), Arg::Int(6)], &[before]);
    b.node("update_cache.default", &[rows.into(), cache.into(), Arg::Int(3)], &[cache]);
    b.finish(&[before, cache])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = [0, 3, 4, 5, 8].into_iter().map(moving_window).collect();
    cases.extend([-9, -2, 0, 1, 7].into_iter().map(moving_tail));
    cases.extend([everything(), everything_before_a_change()]);
    for dtype in [F32, I32, F16, Bool] {
        cases.extend(SLICES.iter().map(|&s| slice(dtype, s)));
        cases.push(select(dtype, &[7], 0, -1));
        cases.push(select(dtype, &[4, 5, 3], 0, 2));
        cases.push(select(dtype, &[4, 5, 3], 1, -5));
        cases.push(select(dtype, &[4, 5, 3], -1, 1));
    }
    cases
}
