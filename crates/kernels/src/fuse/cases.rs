//! Cases of fusions: parts of a decoder, as they are fused and as they must not be.

use etwgpu_graph::DType::{self, F16, F32, I8, I32};
use etwgpu_graph::ValueId;

use crate::cases::{Arg, Builder, Case};
use crate::ops::linear::cases::q4_weights;
use crate::reference::Array;

/// A decoder's sizes.
#[derive(Clone, Copy, Debug)]
struct Decoder {
    seq: u32,
    bound: u32,
    width: u32,
    /// Group sizes of the first three layers.
    groups: [u32; 3],
    dtype: DType,
    /// Activations are quantised to 8 bits.
    dynamic: bool,
    norm: bool,
    bias: bool,
}

const BASE: Decoder = Decoder {
    seq: 1,
    bound: 9,
    width: 64,
    groups: [32; 3],
    dtype: F32,
    dynamic: false,
    norm: true,
    bias: false,
};

/// Parameters of a row's quantisation.
type Quantised = [ValueId; 2];

impl Decoder {
    fn input(&self, b: &mut Builder, width: u32) -> ValueId {
        let values = if self.dynamic && !self.norm {
            (0..self.seq).flat_map(|_| quantised_row(b, width)).collect()
        } else {
            b.random.signed((self.seq * width) as usize, 2.0)
        };
        b.input_below(&[1, self.bound, width], Array::new(self.dtype, &[1, self.seq, width], values))
    }

    fn row(&self, b: &mut Builder, width: u32) -> ValueId {
        b.result(self.dtype, &[1, self.bound, width])
    }

    /// The input, normalised where the decoder asks for it.
    fn normed(&self, b: &mut Builder, x: ValueId) -> ValueId {
        if !self.norm {
            return x;
        }
        let weight = b.random.signed(self.width as usize, 1.5);
        let weight = b.constant(self.dtype, &[self.width], weight);
        let out = self.row(b, self.width);
        b.node("et_vk.rms_norm.default", &[x.into(), weight.into(), Arg::Float(1e-5)], &[out]);
        out
    }

    fn quantise(&self, b: &mut Builder, x: ValueId, width: u32) -> Option<Quantised> {
        if !self.dynamic {
            return None;
        }
        let rows = [1, self.bound, 1];
        let (scale, zero) = (b.result(self.dtype, &rows), b.result(I8, &rows));
        let block = Arg::Ints(vec![1, 1, i64::from(width)]);
        let args = [x.into(), Arg::None, block, Arg::None, Arg::Int(-128), Arg::Int(127)];
        b.node("torchao.choose_qparams_affine.default", &args, &[scale, zero]);
        Some([scale, zero])
    }

    /// The decoder with the group size of layer `i` for its first.
    fn of(&self, i: usize) -> Self {
        Self { groups: [self.groups[i % 3]; 3], ..*self }
    }

    /// A layer to `n` channels, over parameters that are given or its own.
    fn linear(&self, b: &mut Builder, x: ValueId, k: u32, n: u32, given: Option<Quantised>) -> ValueId {
        let own = if given.is_none() { self.quantise(b, x, k) } else { None };
        let (weight, scales) = q4_weights(b, self.dtype, n, k, self.groups[0]);
        let bias: Arg = if self.bias {
            let values = b.random.signed(n as usize, 1.0);
            b.constant(self.dtype, &[n], values).into()
        } else {
            Arg::None
        };
        let out = self.row(b, n);
        let group = Arg::Int(self.groups[0].into());
        match given.or(own) {
            Some([scale, zero]) => {
                let groups = k.div_ceil(self.groups[0]);
                let sums = b.constant(I32, &[groups, n], vec![0.0; (groups * n) as usize]);
                let args =
                    [x, scale, zero, weight, sums, scales].map(Arg::Id).into_iter().chain([group, bias]);
                b.node("et_vk.linear_dq8ca_q4gsw.default", &args.collect::<Vec<_>>(), &[out]);
            }
            None => {
                let args = [x.into(), weight.into(), scales.into(), group, bias];
                b.node("et_vk.linear_q4gsw.default", &args, &[out]);
            }
        }
        out
    }

    fn binary(&self, b: &mut Builder, op: &str, x: ValueId, y: ValueId, width: u32) -> ValueId {
        let out = self.row(b, width);
        b.node(op, &[x.into(), y.into()], &[out]);
        out
    }

    /// `count` layers over one normalised input; with `shared`, over one choice of parameters.
    fn layers(&self, count: u32, shared: bool) -> Case {
        let mut b = Builder::new(format!("{count} linears {self:?} shared {shared}"));
        let x = self.input(&mut b, self.width);
        let normed = self.normed(&mut b, x);
        let given = if shared { self.quantise(&mut b, normed, self.width) } else { None };
        let sizes = [40, 12, 64, 8];
        let layer = |i: usize| self.of(i).linear(&mut b, normed, self.width, sizes[i], given);
        let outs: Vec<ValueId> = (0..count as usize).map(layer).collect();
        b.finish(&outs)
    }

    /// A layer whose normalised input the host reads too.
    fn exposed_norm(&self) -> Case {
        let mut b = Builder::new(format!("exposed norm {self:?}"));
        let x = self.input(&mut b, self.width);
        let normed = self.normed(&mut b, x);
        let out = self.linear(&mut b, normed, self.width, 24, None);
        b.finish(&[normed, out])
    }

    /// Gate and up; `swapped` exchanges the factors of both products, `exposed` hands the gate to the host.
    fn swiglu(&self, swapped: bool, exposed: bool) -> Case {
        let mut b = Builder::new(format!("swiglu {self:?} {swapped} {exposed}"));
        let hidden = 72;
        let x = self.input(&mut b, self.width);
        let normed = self.normed(&mut b, x);
        let given = self.quantise(&mut b, normed, self.width);
        let gate = self.linear(&mut b, normed, self.width, hidden, given);
        let up = self.of(1).linear(&mut b, normed, self.width, hidden, given);
        let sigmoid = self.row(&mut b, hidden);
        b.node("aten.sigmoid.default", &[gate.into()], &[sigmoid]);
        let order = |x, y| if swapped { (y, x) } else { (x, y) };
        let (first, second) = order(gate, sigmoid);
        let activated = self.binary(&mut b, "aten.mul.Tensor", first, second, hidden);
        let (first, second) = order(activated, up);
        let out = self.binary(&mut b, "aten.mul.Tensor", first, second, hidden);
        b.finish(&[out, gate][..if exposed { 2 } else { 1 }])
    }

    /// A layer and the sum behind it.
    fn residual(&self, swapped: bool) -> Case {
        let mut b = Builder::new(format!("residual {self:?} {swapped}"));
        let (x, other) = (self.input(&mut b, self.width), self.input(&mut b, 48));
        let normed = self.normed(&mut b, x);
        let product = self.linear(&mut b, normed, self.width, 48, None);
        let (first, second) = if swapped { (other, product) } else { (product, other) };
        let out = self.binary(&mut b, "aten.add.Tensor", first, second, 48);
        b.finish(&[out])
    }

    /// The sum of two layers' outputs, and a layer of that sum onto itself.
    fn two_products(&self) -> Case {
        let mut b = Builder::new(format!("two products {self:?}"));
        let x = self.input(&mut b, self.width);
        let first = self.linear(&mut b, x, self.width, 64, None);
        let second = self.linear(&mut b, x, self.width, 64, None);
        let sum = self.binary(&mut b, "aten.add.Tensor", first, second, 64);
        let third = self.linear(&mut b, sum, 64, 64, None);
        let out = self.binary(&mut b, "aten.add.Tensor", sum, third, 64);
        b.finish(&[out])
    }

    /// Projections, rotation, cache write and attention; caches are compared too.
    fn attention(&self, heads: u32, kv_heads: u32, head: u32, position: i64, halves: Option<u32>) -> Case {
        let mut b =
            Builder::new(format!("attention {self:?} {heads} {kv_heads} {head} at {position} {halves:?}"));
        let capacity = 40;
        let x = self.input(&mut b, self.width);
        let normed = self.normed(&mut b, x);
        let given = self.quantise(&mut b, normed, self.width);
        let start = b.integer(position);
        let [q, k, v] = [(0, heads), (1, kv_heads), (2, kv_heads)].map(|(i, h)| {
            let flat = self.of(i).linear(&mut b, normed, self.width, h * head, given);
            let out = b.result(self.dtype, &[1, self.bound, h, head]);
            let sizes = vec![1, -1, i64::from(h), i64::from(head)];
            b.node("aten.view_copy.default", &[flat.into(), Arg::Ints(sizes)], &[out]);
            out
        });
        let (rows, bound, width) = match halves {
            Some(width) => (capacity, capacity, width),
            None => (self.seq, self.bound, head / 2),
        };
        let [cos, sin] = [(); 2].map(|()| {
            let values = b.random.signed((rows * width) as usize, 1.0);
            b.input_below(&[bound, width], Array::new(self.dtype, &[rows, width], values))
        });
        let turned = [heads, kv_heads].map(|h| b.result(self.dtype, &[1, self.bound, h, head]));
        let tables: Vec<Arg> = [q, k, cos, sin].map(Arg::Id).into();
        match halves {
            Some(_) => {
                let args: Vec<Arg> = tables.into_iter().chain([start.into()]).collect();
                b.node("et_vk.apply_rotary_emb_hf.default", &args, &turned);
            }
            None => b.node("et_vk.apply_rotary_emb.default", &tables, &turned),
        }
        let caches = [(); 2].map(|()| {
            let values = b.random.signed((capacity * kv_heads * head) as usize, 1.0);
            b.constant(self.dtype, &[1, capacity, kv_heads, head], values)
        });
        let out = b.result(self.dtype, &[1, self.bound, heads, head]);
        let values = [turned[0], turned[1], v, caches[0], caches[1], start].map(Arg::Id);
        let rest = [Arg::Int(1), Arg::None, Arg::Float(0.0), Arg::Bool(true), Arg::None];
        b.node("sdpa_with_kv_cache.default", &values.into_iter().chain(rest).collect::<Vec<_>>(), &[out]);
        b.finish(&[out, caches[0], caches[1]])
    }
}

/// Activations of a row whose quantisation has a scale that is a power of two, off the points where rounding could go
/// either way; exact in a half.
fn quantised_row(b: &mut Builder, width: u32) -> Vec<f64> {
    let zero = b.random.integers(1, -60, 61)[0];
    let steps = b.random.integers(width as usize, -127, 127);
    let offs = b.random.integers(width as usize, -1, 2);
    let mut values: Vec<f64> =
        steps.iter().zip(offs).map(|(step, off)| (step - zero + off / 4.0) / 512.0).collect();
    values[0] = (-128.0 - zero) / 512.0;
    values[1] = (127.0 - zero) / 512.0;
    values
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend([(F32, false), (F32, true), (F16, false), (F16, true)].into_iter().flat_map(mixed));
    for (dtype, dynamic) in [(F32, false), (F32, true), (F16, false)] {
        let base = Decoder { dtype, dynamic, ..BASE };
        // Fused kernels do not round the normalised row to a half as the reference does; over many rows some element shows.
        for seq in if dtype == F16 { [1, 2, 4, 9] } else { [1, 2, 8, 9] } {
            let at = Decoder { seq, ..base };
            cases.extend([at.layers(3, true), at.swiglu(false, false), at.residual(false)]);
            cases.push(at.attention(4, 2, 16, 7, None));
            cases.push(at.attention(2, 2, 32, 30, Some(32)));
        }
        cases.extend((1..=4).map(|count| base.layers(count, false)));
        let plain = Decoder { norm: false, ..base };
        let biased = Decoder { bias: true, width: 96, ..base };
        let wide = Decoder { width: 2080, seq: 2, ..base };
        // Long enough for whole matrices; the deep one shares out K.
        let long = Decoder { seq: 20, bound: 24, ..base };
        // In double precision some of very many activations lie on the other side of a quantisation step.
        let deep = Decoder { width: if dynamic { 512 } else { 2048 }, bias: true, norm: !dynamic, ..long };
        cases.extend([long.layers(3, true), long.attention(4, 2, 16, 7, None)]);
        cases.extend([long.attention(2, 2, 32, 0, Some(32)), deep.layers(3, false)]);
        for at in [plain, biased, wide, long, deep] {
            cases.extend([at.layers(2, true), at.swiglu(true, false), at.residual(true)]);
        }
        cases.extend([plain.attention(8, 1, 64, 0, None), biased.attention(4, 4, 8, 39, Some(8))]);
        cases.extend([base.exposed_norm(), base.swiglu(false, true), plain.two_products()]);
        cases.push(base.attention(2, 1, 32, 3, Some(16)));
    }
    cases
}

/// Rows for whole matrices whose layers have groups of different sizes: scales of each come one by one or four at a time,
/// and parts of a shared-out K begin among those four.
fn mixed((dtype, dynamic): (DType, bool)) -> Vec<Case> {
    let base = Decoder { dtype, dynamic, seq: 12, bound: 16, groups: [32, 128, 64], bias: true, ..BASE };
    // Normalised halves lie anywhere between quantisation steps, and devices round them differently.
    let base = Decoder { norm: !(dynamic && dtype == F16), ..base };
    let plain = Decoder { norm: false, ..base };
    let deep = Decoder { width: 2048, ..plain };
    let sizes = [
        Decoder { width: 256, ..base },
        Decoder { width: 96, groups: [32, 96, 32], ..base },
        deep,
        Decoder { groups: [1024, 32, 128], bias: false, ..deep },
    ];
    let parts = |at: Decoder| [at.layers(3, true), at.swiglu(false, false), at.residual(false)];
    let mut cases: Vec<Case> = sizes.into_iter().flat_map(parts).collect();
    cases.push(Decoder { width: 1152, ..plain }.swiglu(true, false));
    cases.push(Decoder { width: 256, groups: [64, 32, 128], ..base }.attention(4, 2, 16, 7, None));
    cases
}
