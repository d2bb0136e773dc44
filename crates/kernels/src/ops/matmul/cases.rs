//! Cases of products.

use etwgpu_graph::DType::{self, F16, F32};

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Rows, length of the sums, columns: one row, tails of tiles and of vectors, nothing, empty sums.
const SIZES: &[[u32; 3]] = &[
    [1, 64, 64],
    [1, 33, 7],
    [7, 12, 20],
    [8, 16, 64],
    [48, 64, 48],
    [64, 64, 64],
    [65, 20, 68],
    [130, 35, 67],
    [9, 1, 1],
    [16, 0, 5],
    [0, 4, 4],
    [5, 4, 0],
];

fn mm(dtype: DType, [m, k, n]: [u32; 3]) -> Case {
    let mut b = Builder::new(format!("mm {dtype:?} {m}x{k}x{n}"));
    let (x, y) = (b.noise(dtype, &[m, k]), b.noise(dtype, &[k, n]));
    let out = b.result(dtype, &[m, n]);
    b.node("aten.mm.default", &[x.into(), y.into()], &[out]);
    b.finish(&[out])
}

fn bmm(dtype: DType, batch: u32, [m, k, n]: [u32; 3]) -> Case {
    let mut b = Builder::new(format!("bmm {dtype:?} {batch}x{m}x{k}x{n}"));
    let (x, y) = (b.noise(dtype, &[batch, m, k]), b.noise(dtype, &[batch, k, n]));
    let out = b.result(dtype, &[batch, m, n]);
    b.node("aten.bmm.default", &[x.into(), y.into()], &[out]);
    b.finish(&[out])
}

/// Every size below its bound, as in attention over a growing context.
fn below_bound(live: [u32; 3]) -> Case {
    let [m, k, n] = live;
    let mut b = Builder::new(format!("bmm {live:?} below bound"));
    let mut below = |bound: &[u32], dims: &[u32]| {
        let values = b.random.signed(count(dims), 1.0);
        b.input_below(bound, Array::new(F32, dims, values))
    };
    let (x, y) = (below(&[3, 40, 48], &[3, m, k]), below(&[3, 48, 80], &[3, k, n]));
    let out = b.result(F32, &[3, 40, 80]);
    b.node("aten.bmm.default", &[x.into(), y.into()], &[out]);
    b.finish(&[out])
}

fn addmm(dtype: DType, addend: &[u32], [m, k, n]: [u32; 3], numbers: &[Arg]) -> Case {
    let mut b = Builder::new(format!("addmm {dtype:?} {addend:?} {m}x{k}x{n} {numbers:?}"));
    let c = b.noise(dtype, addend);
    let (x, y) = (b.noise(dtype, &[m, k]), b.noise(dtype, &[k, n]));
    let out = b.result(dtype, &[m, n]);
    let args: Vec<Arg> = [c.into(), x.into(), y.into()].into_iter().chain(numbers.iter().cloned()).collect();
    b.node("aten.addmm.default", &args, &[out]);
    b.finish(&[out])
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = vec![below_bound([1, 16, 33]), below_bound([20, 48, 80]), below_bound([40, 7, 64])];
    for dtype in [F32, F16] {
        cases.extend(SIZES.iter().map(|&sizes| mm(dtype, sizes)));
        for batch in [0, 1, 6] {
            cases.extend([[1, 32, 40], [48, 64, 48], [9, 5, 3]].map(|sizes| bmm(dtype, batch, sizes)));
        }
        for sizes in [[3, 8, 12], [70, 16, 72]] {
            cases.push(addmm(dtype, &[sizes[2]], sizes, &[]));
            cases.push(addmm(dtype, &[sizes[0], sizes[2]], sizes, &[Arg::Float(0.5), Arg::Int(-2)]));
            cases.push(addmm(dtype, &[sizes[0], 1], sizes, &[Arg::Int(2)]));
            cases.push(addmm(dtype, &[1], sizes, &[Arg::Int(0), Arg::Int(1)]));
        }
    }
    cases
}
