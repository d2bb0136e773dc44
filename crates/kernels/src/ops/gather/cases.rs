//! Cases of embedding tables and single indices.

use etwgpu_graph::DType::{self, Bool, F16, F32, I32, U8};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

fn table(b: &mut Builder, dtype: DType, dims: &[u32]) -> Vec<f64> {
    match dtype {
        F32 | F16 => b.random.signed(count(dims), 2.0),
        Bool => b.random.integers(count(dims), 0, 2),
        _ => b.random.integers(count(dims), 0, 100),
    }
}

fn embedding(dtype: DType, rows: u32, width: u32, index: &[u32], bound: &[u32]) -> Case {
    let mut b = Builder::new(format!("embedding {dtype:?} [{rows}, {width}] by {index:?} of {bound:?}"));
    let values = table(&mut b, dtype, &[rows, width]);
    let weight = b.constant(dtype, &[rows, width], values);
    let mut picked = b.random.integers(count(index), 0, rows.into());
    if let Some(last) = picked.last_mut() {
        *last = f64::from(rows - 1);
    }
    let index = b.input_below(bound, Array::new(I32, index, picked));
    let out: Vec<u32> = bound.iter().copied().chain([width]).collect();
    let out = b.result(dtype, &out);
    b.node("aten.embedding.default", &[weight.into(), index.into()], &[out]);
    b.finish(&[out])
}

/// An index at dimension `dim`, counting from the end in places.
fn index(dtype: DType, dims: &[u32], dim: usize, index: &[u32]) -> Case {
    let mut b = Builder::new(format!("index {dtype:?} {dims:?} at {dim} by {index:?}"));
    let values = table(&mut b, dtype, dims);
    let source = b.input(dtype, dims, values);
    let size = i64::from(dims[dim]);
    let picked = b.random.integers(count(index), -size, size);
    let out: Vec<u32> = dims[..dim].iter().chain(index).chain(&dims[dim + 1..]).copied().collect();
    let index = b.input(I32, index, picked);
    let out = b.result(dtype, &out);
    let list: Vec<Arg> = std::iter::repeat_n(Arg::None, dim).chain([index.into()]).collect();
    b.node("aten.index.Tensor", &[source.into(), Arg::List(list)], &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    vec![
        embedding(F32, 50, 64, &[1, 5], &[1, 5]),
        embedding(F32, 50, 64, &[1, 2], &[1, 9]),
        embedding(F32, 7, 5, &[3], &[3]),
        embedding(F32, 7, 1, &[], &[]),
        embedding(F32, 300, 260, &[130], &[200]),
        embedding(F16, 20, 32, &[2, 3], &[2, 3]),
        embedding(U8, 20, 12, &[4], &[4]),
        index(F32, &[13], 0, &[6]),
        index(F32, &[6, 5], 0, &[3]),
        index(F32, &[6, 5, 3], 1, &[2, 2]),
        index(F32, &[2, 3, 4, 5], 3, &[4]),
        index(I32, &[9, 2], 0, &[4]),
        index(F16, &[5, 4], 0, &[7]),
        // Rows that do not end on a word.
        embedding(F16, 9, 5, &[7], &[9]),
        embedding(F16, 9, 1, &[3], &[3]),
        embedding(U8, 9, 3, &[5], &[5]),
        index(F16, &[4, 3], 0, &[6]),
        index(F16, &[3, 4, 5], 1, &[2, 3]),
        index(Bool, &[7], 0, &[9]),
        index(U8, &[2, 5, 3], 2, &[4]),
        // Nothing picked, and rows of nothing.
        embedding(F32, 5, 4, &[0], &[3]),
        index(F16, &[5, 3], 0, &[0]),
        index(F32, &[5, 0], 0, &[2]),
    ]
}
