//! Cases of root-mean-square normalisation.

use etwgpu_graph::DType::{self, F16, F32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

fn case(dtype: DType, bound: &[u32], live: &[u32], eps: Arg, limit: f64) -> Case {
    let mut b = Builder::new(format!("rms_norm {dtype:?} {live:?} of {bound:?} eps {eps:?} up to {limit}"));
    let values = b.random.signed(count(live), limit);
    let x = b.input_below(bound, Array::new(dtype, live, values));
    let width = bound[bound.len() - 1];
    let weight = b.random.signed(width as usize, 2.0);
    let weight = b.constant(dtype, &[width], weight);
    let out = b.result(dtype, bound);
    b.node("et_vk.rms_norm.default", &[x.into(), weight.into(), eps], &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [F32, F16] {
        for width in [1, 4, 5, 30, 64, 100, 129, 1028, 2050] {
            cases.push(case(dtype, &[3, width], &[3, width], Arg::Float(1e-5), 1.0));
        }
        cases.push(case(dtype, &[2, 9, 64], &[2, 3, 64], Arg::Float(1e-6), 4.0));
        cases.push(case(dtype, &[64], &[64], Arg::None, 1.0));
    }
    cases.push(case(F32, &[2, 16], &[2, 16], Arg::Int(1), 1e-3));
    cases.push(case(F32, &[2, 16], &[2, 16], Arg::None, 1e-5));
    cases.push(case(F32, &[300, 8], &[300, 8], Arg::Float(1e-5), 100.0));
    cases
}
