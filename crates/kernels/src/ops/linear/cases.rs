//! Cases of linear layers.

use etwgpu_graph::DType::{self, F16, F32, I8, I32, U8};
use etwgpu_graph::ValueId;

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Which operator, with its element types.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Float(DType),
    /// Activations, scales.
    Q4(DType, DType),
    /// Activations quantised to 8 bits; activations, scales.
    DynamicQ8Q4(DType, DType),
}

#[derive(Clone, Copy, Debug)]
struct Layer<'a> {
    kind: Kind,
    /// Live sizes of the activations without channels.
    rows: &'a [u32],
    /// Bound of those.
    bound: &'a [u32],
    n: u32,
    k: u32,
    group: u32,
    bias: Option<DType>,
}

impl Layer<'_> {
    fn name(&self) -> String {
        let Self { kind, rows, bound, n, k, group, bias } = self;
        let group =
            if matches!(kind, Kind::Float(_)) { String::new() } else { format!(" in groups of {group}") };
        format!("linear {kind:?} {rows:?} of {bound:?}, {k} to {n}{group}, bias {bias:?}")
    }

    fn dtype(&self) -> DType {
        let (Kind::Float(dtype) | Kind::Q4(dtype, _) | Kind::DynamicQ8Q4(dtype, _)) = self.kind;
        dtype
    }

    fn case(&self) -> Case {
        let mut b = Builder::new(self.name());
        let dims = |rows: &[u32], width| rows.iter().copied().chain([width]).collect::<Vec<u32>>();
        let out = b.result(self.dtype(), &dims(self.bound, self.n));
        let (live, bound) = (dims(self.rows, self.k), dims(self.bound, self.k));
        match self.kind {
            Kind::Float(dtype) => {
                let values = b.random.signed(count(&live), 1.0);
                let x = b.input_below(&bound, Array::new(dtype, &live, values));
                let weight = b.random.signed((self.n * self.k) as usize, 0.5);
                let weight = b.constant(dtype, &[self.n, self.k], weight);
                let bias = self.bias(&mut b, self.n);
                b.node("aten.linear.default", &[x.into(), weight.into(), bias], &[out]);
            }
            Kind::Q4(dtype, scales) => {
                let values = b.random.signed(count(&live), 1.0);
                let x = b.input_below(&bound, Array::new(dtype, &live, values));
                let (weight, scales) = q4_weights(&mut b, scales, self.n, self.k, self.group);
                let bias = self.bias(&mut b, self.n.next_multiple_of(4));
                let args = [x.into(), weight.into(), scales.into(), i64::from(self.group).into(), bias];
                b.node("et_vk.linear_q4gsw.default", &args, &[out]);
            }
            Kind::DynamicQ8Q4(dtype, scales) => {
                let [x, scale, zero] = self.quantised_rows(&mut b, dtype, &live, &bound);
                let (weight, scales) = q4_weights(&mut b, scales, self.n, self.k, self.group);
                let (groups, padded) = (self.k.div_ceil(self.group), self.n.next_multiple_of(8));
                let sums = b.constant(I32, &[groups, padded], vec![0.0; (groups * padded) as usize]);
                let bias = self.bias(&mut b, self.n.next_multiple_of(4));
                let group = Arg::Int(self.group.into());
                let args =
                    [x, scale, zero, weight, sums, scales].map(Arg::Id).into_iter().chain([group, bias]);
                b.node("et_vk.linear_dq8ca_q4gsw.default", &args.collect::<Vec<_>>(), &[out]);
            }
        }
        b.finish(&[out])
    }

    fn bias(&self, b: &mut Builder, length: u32) -> Arg {
        let Some(dtype) = self.bias else { return Arg::None };
        let values = b.random.signed(length as usize, 2.0);
        b.constant(dtype, &[length], values).into()
    }

    /// Activations that lie off the points where rounding to 8 bits could go either way, some beyond its range.
    fn quantised_rows(&self, b: &mut Builder, dtype: DType, live: &[u32], bound: &[u32]) -> [ValueId; 3] {
        let rows = count(self.rows);
        let zeros = b.random.integers(rows, -60, 61);
        // Powers of two keep every activation exact in a half.
        let steps = b.random.integers(rows, 4, 9);
        let scales: Vec<f64> =
            steps.iter().map(|s| (-s).exp2() * if dtype == F16 { 1.0 } else { 1.1 }).collect();
        let mut values = Vec::new();
        for (scale, zero) in scales.iter().zip(&zeros) {
            for _ in 0..self.k {
                let step = b.random.integers(1, -150, 150)[0] - zero;
                let off = b.random.integers(1, -1, 2)[0] / 4.0;
                values.push((step + off) * scale);
            }
        }
        let x = b.input_below(bound, Array::new(dtype, live, values));
        let scale = b.input_below(self.bound, Array::new(dtype, self.rows, scales));
        let zero = b.input_below(self.bound, Array::new(I8, self.rows, zeros));
        [x, scale, zero]
    }
}

/// Rows padded with zeros (nibble 8) to a multiple of eight, scales `[G, N]` to a multiple of four.
pub(crate) fn q4_weights(b: &mut Builder, dtype: DType, n: u32, k: u32, group: u32) -> (ValueId, ValueId) {
    let row_bytes = k.next_multiple_of(8) / 2;
    let mut bytes = b.random.integers((n * row_bytes) as usize, 0, 256);
    for row in bytes.chunks_mut(row_bytes as usize) {
        row[(k / 2) as usize..].fill(f64::from(0x88));
    }
    let (groups, padded) = (k.div_ceil(group), n.next_multiple_of(4));
    let mut scales = b.random.signed((groups * padded) as usize, 0.1);
    for row in scales.chunks_mut(padded as usize) {
        row[n as usize..].fill(0.0);
    }
    (b.constant(U8, &[n, row_bytes], bytes), b.constant(dtype, &[groups, padded], scales))
}

/// Rows around the ends of tiles.
const ROWS: &[u32] = &[1, 2, 3, 4, 5, 17, 64, 65, 96];

/// Channels out, channels in, group: tails of every width, every group size, one and several chunks.
const CHANNELS: &[(u32, u32, u32)] = &[
    (1, 12, 12),
    (3, 36, 36),
    (5, 36, 8),
    (7, 20, 4),
    (12, 32, 8),
    (9, 64, 32),
    (64, 64, 64),
    (66, 96, 32),
    (65, 128, 128),
    (136, 256, 64),
    (24, 160, 32),
    (40, 44, 44),
];

/// Every case.
pub fn all() -> Vec<Case> {
    let kinds = [
        Kind::Float(F32),
        Kind::Float(F16),
        Kind::Q4(F32, F32),
        Kind::Q4(F16, F16),
        Kind::DynamicQ8Q4(F32, F32),
        Kind::DynamicQ8Q4(F16, F16),
    ];
    let mut cases = Vec::new();
    for kind in kinds {
        let base = Layer { kind, rows: &[], bound: &[], n: 70, k: 96, group: 32, bias: None };
        for m in ROWS {
            let rows = [*m];
            cases.push(Layer { rows: &rows, bound: &rows, ..base }.case());
        }
        for (i, &(n, k, group)) in CHANNELS.iter().enumerate() {
            let bias = (i % 2 == 0).then_some(base.dtype());
            for rows in [[1], [6]] {
                cases.push(Layer { rows: &rows, bound: &rows, n, k, group, bias, ..base }.case());
            }
        }
        cases.extend(shapes(base).iter().map(Layer::case));
        if !matches!(kind, Kind::Float(_)) {
            cases.extend(matrices(base));
        }
    }
    cases
}

/// What whole matrices need: rows around the ends of tiles, K of odd numbers of steps, scales that come one by one and
/// four at a time, parts of K that begin among those four.
fn matrices(base: Layer<'static>) -> Vec<Case> {
    let bias = Some(base.dtype());
    let at = |m: u32, n, k, group, bias| Layer { rows: &[m], bound: &[m], n, k, group, bias, ..base }.case();
    let rows = [9, 127, 128, 129, 257].map(|m| at(m, 132, 96, 32, bias));
    let depths = [
        (160, 32),
        (192, 64),
        (384, 96),
        (512, 128),
        (768, 256),
        (1024, 128),
        (1152, 32),
        (2048, 128),
        (2048, 1024),
    ];
    let depths = depths.map(|(k, group)| at(12, 68, k, group, None));
    // N that is no whole number of vectors, which other routes take.
    rows.into_iter().chain(depths).chain([at(12, 70, 1024, 64, bias), at(129, 132, 128, 32, bias)]).collect()
}

/// Leading dimensions, live rows below the bound, long rows, mixed types.
fn shapes(base: Layer<'static>) -> Vec<Layer<'static>> {
    let bias = Some(base.dtype());
    let mut layers = vec![
        Layer { rows: &[1, 3], bound: &[1, 70], bias, ..base },
        Layer { rows: &[2, 1, 5], bound: &[2, 1, 9], ..base },
        Layer { rows: &[1, 1], bound: &[1, 128], n: 64, k: 64, group: 32, ..base },
        Layer { rows: &[128], bound: &[128], n: 128, k: 128, group: 32, bias, ..base },
        Layer { rows: &[70], bound: &[70], n: 200, k: 64, group: 16, bias, ..base },
        Layer { rows: &[2], bound: &[2], n: 7, k: 2080, group: 32, ..base },
        Layer { rows: &[1], bound: &[1], n: 2100, k: 32, group: 32, ..base },
    ];
    match base.kind {
        Kind::Float(dtype) => {
            layers.push(Layer { rows: &[3], bound: &[3], n: 5, k: 7, ..base });
            layers.push(Layer { rows: &[9], bound: &[9], n: 6, k: 33, ..base });
            if dtype == F16 {
                layers.push(Layer { rows: &[3], bound: &[3], bias: Some(F32), ..base });
            }
        }
        Kind::Q4(F32, _) => {
            layers.push(Layer { rows: &[1], bound: &[1], kind: Kind::Q4(F32, F16), bias: Some(F16), ..base });
            layers.push(Layer { rows: &[5], bound: &[5], kind: Kind::Q4(F16, F32), bias: Some(F32), ..base });
            // So many channels that large tiles pay although K is short.
            layers.push(Layer { rows: &[9], bound: &[9], n: 26_000, k: 128, group: 32, bias, ..base });
            // Several registers of weights an invocation, with and without a tail.
            layers.push(Layer { rows: &[1], bound: &[1], n: 5, k: 16416, group: 32, ..base });
            layers.push(Layer { rows: &[3], bound: &[3], n: 3, k: 8192, group: 128, ..base });
        }
        Kind::DynamicQ8Q4(F32, _) => {
            layers.push(Layer { rows: &[2], bound: &[2], n: 6, k: 8192, group: 64, ..base });
        }
        Kind::Q4(..) | Kind::DynamicQ8Q4(..) => {}
    }
    layers
}
