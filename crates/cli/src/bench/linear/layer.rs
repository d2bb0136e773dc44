//! Layers that are measured: their sizes, their graphs, and the work that they are.

use std::str::FromStr;

use clap::ValueEnum;
use etwgpu_graph::{DType, Graph, Value, ValueId};

use crate::bench::probe::Builder;

/// Weights and activations of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// 4-bit weights.
    #[value(name = "4w")]
    Q4,
    /// 4-bit weights, activations quantised to 8 bits.
    #[value(name = "8da4w")]
    DynamicQ8Q4,
    /// Floats.
    #[value(name = "f32")]
    Float,
}

/// Rows, output channels, input channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) m: u32,
    pub(super) n: u32,
    pub(super) k: u32,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Result<Vec<u32>, _> = text.split('x').map(str::parse).collect();
        match sizes.as_deref() {
            Ok(&[m, n, k]) if m > 0 && n > 0 && k > 0 => Ok(Self { m, n, k }),
            _ => Err(format!("`{text}` is no MxNxK")),
        }
    }
}

/// One layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// Elements that share a scale.
    pub(super) group: u32,
    /// Whether it is gate and up of a feed-forward, half of the channels each, with the normalisation before and SiLU and
    /// product behind them.
    pub(super) gated: bool,
}

impl Layer {
    /// Layers whose weights take `bytes` together, within 4 GiB of everything and, once arithmetic takes longer than
    /// reading, some tera-operations.
    pub(super) fn copies(&self, bytes: u64) -> u64 {
        let for_bytes = (bytes / self.weight_bytes().max(1)).clamp(2, 64);
        let for_ops = (1e12 / self.ops()).max(2.0) as u64;
        for_bytes.min(for_ops).min(((4u64 << 30) / self.bytes()).max(1))
    }

    /// Layers of the same sizes, each with tensors of its own.
    pub(super) fn graph(&self, copies: u64) -> Graph {
        let mut b = Builder::default();
        for _ in 0..copies {
            let x = b.input(DType::F32, &[self.shape.m, self.shape.k]);
            if self.gated {
                self.add_gated(&mut b, x);
            } else {
                let given = self.given(&mut b);
                self.add(&mut b, x, self.shape.n, given);
            }
        }
        b.graph
    }

    /// Scales and zero points that come from outside, for the kind that has them.
    fn given(&self, b: &mut Builder) -> Option<[ValueId; 2]> {
        (self.kind == Kind::DynamicQ8Q4)
            .then(|| [DType::F32, DType::I8].map(|dtype| b.input(dtype, &[self.shape.m])))
    }

    /// Adds a layer of `n` channels; 8-bit activations have scales and zero points.
    fn add(&self, b: &mut Builder, x: ValueId, n: u32, qparams: Option<[ValueId; 2]>) -> ValueId {
        let Shape { m, k, .. } = self.shape;
        let groups = k.div_ceil(self.group);
        let (none, group) = (b.argument(Value::None), b.argument(Value::Int(self.group.into())));
        let out = b.tensor(DType::F32, &[m, n]);
        if self.kind == Kind::Float {
            let weight = b.weight(DType::F32, &[n, k]);
            b.node("aten.linear.default", &[x, weight, none], &[out]);
            return out;
        }
        let weight = b.weight(DType::U8, &[n, k.next_multiple_of(8) / 2]);
        let scales = b.weight(DType::F32, &[groups, n.next_multiple_of(4)]);
        let Some([scale, zero]) = qparams else {
            b.node("et_vk.linear_q4gsw.default", &[x, weight, scales, group, none], &[out]);
            return out;
        };
        let sums = b.weight(DType::I32, &[groups, n.next_multiple_of(8)]);
        let args = [x, scale, zero, weight, sums, scales, group, none];
        b.node("et_vk.linear_dq8ca_q4gsw.default", &args, &[out]);
        out
    }

    fn add_gated(&self, b: &mut Builder, x: ValueId) {
        let Shape { m, n, k } = self.shape;
        let (weight, eps) = (b.weight(DType::F32, &[k]), b.argument(Value::Double(1e-5)));
        let normed = b.tensor(DType::F32, &[m, k]);
        b.node("et_vk.rms_norm.default", &[x, weight, eps], &[normed]);
        let quantised = self.quantised(b, normed);
        let [gate, up] = [(); 2].map(|()| self.add(b, normed, n / 2, quantised));
        let [sigmoid, activated, out] = [(); 3].map(|()| b.tensor(DType::F32, &[m, n / 2]));
        b.node("aten.sigmoid.default", &[gate], &[sigmoid]);
        b.node("aten.mul.Tensor", &[gate, sigmoid], &[activated]);
        b.node("aten.mul.Tensor", &[activated, up], &[out]);
    }

    /// Scales and zero points of each row, for the kind that has them.
    fn quantised(&self, b: &mut Builder, x: ValueId) -> Option<[ValueId; 2]> {
        if self.kind != Kind::DynamicQ8Q4 {
            return None;
        }
        let outs = [DType::F32, DType::I8].map(|dtype| b.tensor(dtype, &[self.shape.m, 1]));
        let block = b.argument(Value::IntList(vec![1, self.shape.k.into()]));
        let [none, least, most] =
            [Value::None, Value::Int(-128), Value::Int(127)].map(|value| b.argument(value));
        b.node("torchao.choose_qparams_affine.default", &[x, none, block, none, least, most], &outs);
        Some(outs)
    }

    fn weight_bytes(&self) -> u64 {
        let Shape { n, k, .. } = self.shape;
        let (n, k) = (u64::from(n), u64::from(k));
        match self.kind {
            Kind::Float => n * k * 4,
            Kind::Q4 | Kind::DynamicQ8Q4 => n * k / 2 + n * k.div_ceil(self.group.into()) * 4,
        }
    }

    /// Bytes that any kernel has to move: weights, their scales, activations, results.
    pub(super) fn bytes(&self) -> u64 {
        let Shape { m, n, k } = self.shape;
        let results = if self.gated { n / 2 } else { n };
        self.weight_bytes() + u64::from(m) * (u64::from(results) + u64::from(k)) * 4
    }

    pub(super) fn ops(&self) -> f64 {
        let Shape { m, n, k } = self.shape;
        2.0 * f64::from(m) * f64::from(n) * f64::from(k)
    }
}
