//! Cases of 4-bit embedding tables.

use etwgpu_graph::DType::{self, F16, F32, I32, U8};

use crate::cases::{Arg, Builder, Case};
use crate::reference::Array;

struct Table {
    rows: u32,
    width: u32,
    group: u32,
    low_first: Arg,
    dtype: DType,
    scales: DType,
}

fn case(t: &Table, index: &[u32], bound: &[u32]) -> Case {
    let mut b = Builder::new(format!(
        "embedding_q4 [{}, {}] in groups of {} {:?} {:?} {:?} by {index:?} of {bound:?}",
        t.rows, t.width, t.group, t.low_first, t.dtype, t.scales
    ));
    let (row_bytes, groups) = (t.width / 2, t.width.div_ceil(t.group));
    let bytes = b.random.integers((t.rows * row_bytes) as usize, 0, 256);
    let scales = b.random.signed((t.rows * groups) as usize, 0.1);
    let weight = b.constant(U8, &[t.rows, row_bytes], bytes);
    let scales = b.constant(t.scales, &[t.rows, groups], scales);
    let picked = b.random.integers(index.iter().product::<u32>() as usize, 0, t.rows.into());
    let index = b.input_below(bound, Array::new(I32, index, picked));
    let out: Vec<u32> = bound.iter().copied().chain([t.width]).collect();
    let out = b.result(t.dtype, &out);
    let args = [weight.into(), scales.into(), i64::from(t.group).into(), index.into(), t.low_first.clone()];
    b.node("et_vk.embedding_q4gsw.default", &args, &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (width, group) in [(32, 32), (64, 8), (96, 32), (128, 64), (256, 128), (40, 8)] {
        let table = Table { rows: 33, width, group, low_first: Arg::Bool(true), dtype: F32, scales: F32 };
        cases.push(case(&table, &[1, 5], &[1, 5]));
        cases.push(case(&table, &[1, 3], &[1, 8]));
        cases.push(case(&Table { low_first: Arg::Bool(false), ..table }, &[7], &[7]));
        let table = Table { rows: 33, width, group, low_first: Arg::Int(1), dtype: F16, scales: F16 };
        cases.push(case(&table, &[2, 2], &[2, 2]));
        cases.push(case(&Table { dtype: F32, low_first: Arg::None, ..table }, &[300], &[300]));
    }
    cases
}
