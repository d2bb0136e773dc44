//! Cases of per-row scales and zero points.

use etwgpu_graph::DType::{self, F16, F32, I8};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Parameters of rows `live` of a tensor bounded by `bound`; both outputs are declared with sizes `declared`.
fn case(name: &str, dtype: DType, bound: &[u32], live: &[u32], declared: &[u32], values: Vec<f64>) -> Case {
    let mut b = Builder::new(format!("qparams {name} {dtype:?} {live:?} of {bound:?} as {declared:?}"));
    let values = if values.is_empty() { b.random.signed(count(live), 3.0) } else { values };
    let x = b.input_below(bound, Array::new(dtype, live, values));
    let width = i64::from(bound[bound.len() - 1]);
    let block: Vec<i64> = std::iter::repeat_n(1, bound.len() - 1).chain([width]).collect();
    let (scale, zero) = (b.result(F32, declared), b.result(I8, declared));
    let range = [Arg::Int(-128), Arg::Int(127)];
    let head = [x.into(), Arg::Text("ASYMMETRIC"), Arg::Ints(block), Arg::Int(1)];
    let args: Vec<Arg> = head.into_iter().chain(range).chain([Arg::None, Arg::None, Arg::None]).collect();
    b.node("torchao.choose_qparams_affine.default", &args, &[scale, zero]);
    b.finish(&[scale, zero])
}

/// Scales of 16 bits, as programs of halves declare them.
fn half_scales(rows: u32) -> Case {
    let mut b = Builder::new(format!("qparams half scales of {rows} rows"));
    let values = b.random.signed(rows as usize * 36, 3.0);
    let x = b.input_below(&[1, 9, 36], Array::new(F16, &[1, rows, 36], values));
    let (scale, zero) = (b.result(F16, &[1, 9, 1]), b.result(I8, &[1, 9, 1]));
    let block = Arg::Ints(vec![1, 1, 36]);
    let args = [x.into(), Arg::Text("ASYMMETRIC"), block, Arg::Int(1), Arg::Int(-128), Arg::Int(127)];
    b.node("torchao.choose_qparams_affine.default", &args, &[scale, zero]);
    b.finish(&[scale, zero])
}

/// All zeros, too small a range on either side, one sign only, far outliers.
fn edges() -> Case {
    let rows: [[f64; 5]; 8] = [
        [0.0; 5],
        [1e-4, 0.0, 3e-5, 0.0, 0.0],
        [-1e-4, 0.0, -3e-5, 0.0, 0.0],
        [-1e-3, 2e-3, 0.0, 0.0, 1e-3],
        [1.0, 2.0, 3.0, 4.0, 5.0],
        [-1.0, -2.0, -3.0, -4.0, -5.5],
        [-1e6, 1.0, 2.0, 3.0, 4.0],
        [0.25, -0.75, 0.5, 0.125, 0.0],
    ];
    case("edges", F32, &[8, 5], &[8, 5], &[8], rows.concat())
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = vec![edges()];
    for rows in 1..=5 {
        cases.push(case("rows", F32, &[1, rows, 64], &[1, rows, 64], &[1, rows, 1], vec![]));
        cases.push(case("rows", F32, &[1, 17, 36], &[1, rows, 36], &[1, 17], vec![]));
    }
    for width in [1, 3, 31, 32, 33, 257, 1030] {
        cases.push(case("width", F32, &[6, width], &[6, width], &[6, 1], vec![]));
    }
    cases.push(case("flat", F32, &[2, 9, 8], &[2, 3, 8], &[18], vec![]));
    cases.extend([1, 3, 4, 9].map(half_scales));
    cases.push(case("half", F16, &[7, 40], &[7, 40], &[7], vec![]));
    cases
}
