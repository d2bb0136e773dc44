//! Linear layers: float or 4-bit weights, float activations or activations quantised to 8 bits on the fly.
//!
//! 4-bit weights are rows of nibbles, the even element of a pair in the low nibble, each holding `value + 8`; a row
//! is padded to a multiple of eight. Scales arrive as `[groups, N]` and are resident transposed, so that one row's
//! scales lie together.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

pub(crate) mod coop;
mod coop_rows;
mod gemm;
pub(crate) mod gemv;
pub(crate) mod joint;
mod operands;
mod rows;

use etwgpu_graph::{DType, Dims};
use etwgpu_record::{Binding, WeightLayout};

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::Lower;
use crate::op::OpDef;
use crate::ops::embedding_q4::float_is_half;
use crate::route::Route;
use crate::template::Template;
use crate::{invalid, unsupported};
use operands::{Builder, scalars};

/// `x, weight [N, K], bias`.
pub const FLOAT: OpDef = OpDef::kernel(
    &["aten.linear.default"],
    |cx| Problem::float(cx).map(|p| vec![p.out_dims()]),
    |lower| {
        let problem = Problem::float(&lower.cx)?;
        lower.choose(ROUTES, &problem)
    },
);

/// `x, weight u8 [N, K/2], scales [G, N], group size, bias`.
pub const Q4: OpDef = OpDef::kernel(
    &["et_vk.linear_q4gsw.default"],
    |cx| Problem::q4(cx).map(|p| vec![p.out_dims()]),
    |lower| {
        let problem = Problem::q4(&lower.cx)?;
        lower.choose(ROUTES, &problem)
    },
);

/// `x, scale [M], zero point i8 [M], weight u8 [N, K/2], weight sums, scales [G, N], group size, bias`.
pub const DYNAMIC_Q8_Q4: OpDef = OpDef::kernel(
    &["et_vk.linear_dq8ca_q4gsw.default"],
    |cx| Problem::dynamic_q8_q4(cx).map(|p| vec![p.out_dims()]),
    |lower| {
        let problem = Problem::dynamic_q8_q4(&lower.cx)?;
        lower.choose(ROUTES, &problem)
    },
);

/// Ways to run a linear layer, the most specific first.
pub const ROUTES: &[Route<Problem>] = &[
    Route { name: "linear.gemv", fits: gemv::fits, record: gemv::record },
    Route { name: coop::NAME, fits: coop::fits, record: coop::record },
    Route { name: "linear.gemm", fits: gemm::fits, record: gemm::record },
    Route { name: "linear.rows", fits: |_, _| Ok(()), record: rows::record },
];

/// How weights are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// `f32` or `f16` rows.
    Float,
    /// Rows of nibbles with a scale for each group along K.
    Q4 {
        /// Elements that share a scale.
        group: u32,
        /// `[G, Np]` as serialized.
        scales: TensorArg,
    },
}

/// Parameters of activations that are quantised to 8 bits, a row at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicQ8 {
    pub(crate) scale: TensorArg,
    pub(crate) zero: TensorArg,
}

/// `out[M, N] = x[M, K] · weight[N, K]ᵀ + bias[N]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Rows of activations, live.
    pub m: u64,
    /// Output channels.
    pub n: u32,
    /// Input channels.
    pub k: u32,
    /// Storage of the weights.
    pub weights: Weights,
    pub(crate) x: TensorArg,
    pub(crate) weight: TensorArg,
    pub(crate) bias: Option<TensorArg>,
    pub(crate) dynamic: Option<DynamicQ8>,
    /// What is added to the product.
    residual: Option<TensorArg>,
    /// Where the result goes, if not to the node's output.
    out: Option<TensorArg>,
}

impl Problem {
    fn new(
        x: TensorArg,
        weight: TensorArg,
        weights: Weights,
        bias: Option<TensorArg>,
    ) -> Result<Self, OpError> {
        if x.dims.is_empty() || weight.dims.len() != 2 {
            return Err(invalid!("activations {:?} and weights {:?}", &x.dims[..], &weight.dims[..]));
        }
        let (m, n, k) = (x.rows(), weight.dims[0], x.width());
        if bias.as_ref().is_some_and(|b| b.numel() < u64::from(n)) {
            return Err(invalid!("bias shorter than {n}"));
        }
        Ok(Self { m, n, k, weights, x, weight, bias, dynamic: None, residual: None, out: None })
    }

    fn float(cx: &NodeCx<'_>) -> Result<Self, OpError> {
        let problem = Self::new(cx.tensor(0)?, cx.tensor(1)?, Weights::Float, cx.tensor_opt(2)?)?;
        if problem.weight.width() != problem.k {
            return Err(invalid!("weights of {} columns for {} channels", problem.weight.width(), problem.k));
        }
        if problem.weight.dtype != problem.x.dtype {
            return Err(unsupported!(
                "{:?} weights for {:?} activations",
                problem.weight.dtype,
                problem.x.dtype
            ));
        }
        Ok(problem)
    }

    /// A layer with 4-bit weights, whichever its activations.
    pub(crate) fn quantised(cx: &NodeCx<'_>) -> Result<Self, OpError> {
        if cx.node().op == Q4.names[0] { Self::q4(cx) } else { Self::dynamic_q8_q4(cx) }
    }

    fn q4(cx: &NodeCx<'_>) -> Result<Self, OpError> {
        let weights = q4_weights(cx.tensor(2)?, cx.int(3)?)?;
        Self::new(cx.tensor(0)?, cx.tensor(1)?, weights, cx.tensor_opt(4)?)?.checked_q4()?.checked_width(cx)
    }

    fn dynamic_q8_q4(cx: &NodeCx<'_>) -> Result<Self, OpError> {
        let weights = q4_weights(cx.tensor(5)?, cx.int(6)?)?;
        let mut problem =
            Self::new(cx.tensor(0)?, cx.tensor(3)?, weights, cx.tensor_opt(7)?)?.checked_q4()?;
        let dynamic = DynamicQ8 { scale: cx.tensor(1)?, zero: cx.tensor(2)? };
        if dynamic.scale.numel() != problem.m || dynamic.zero.numel() != problem.m {
            return Err(invalid!(
                "{} scales and {} zero points for {} rows",
                dynamic.scale.numel(),
                dynamic.zero.numel(),
                problem.m
            ));
        }
        float_is_half(dynamic.scale.dtype)?;
        if dynamic.zero.dtype != DType::I8 {
            return Err(unsupported!("{:?} zero points", dynamic.zero.dtype));
        }
        problem.dynamic = Some(dynamic);
        Ok(problem)
    }

    /// Padded weights cannot tell a shorter row of activations from the declared one.
    fn checked_width(self, cx: &NodeCx<'_>) -> Result<Self, OpError> {
        let declared = cx.bound(0)?.last().copied();
        if declared != Some(self.k) {
            return Err(invalid!("activations of {} channels, the program declares {declared:?}", self.k));
        }
        Ok(self)
    }

    fn checked_q4(self) -> Result<Self, OpError> {
        let Weights::Q4 { group, scales } = &self.weights else { return Ok(self) };
        if self.weight.dtype != DType::U8 || self.weight.width() != self.k.next_multiple_of(8) / 2 {
            return Err(invalid!(
                "weights {:?} {:?} for {} channels",
                self.weight.dtype,
                &self.weight.dims[..],
                self.k
            ));
        }
        if scales.dims.len() != 2
            || scales.dims[1] < self.n
            || u64::from(scales.dims[0]) * u64::from(*group) < self.k.into()
        {
            return Err(invalid!("scales {:?} for {} rows in groups of {group}", &scales.dims[..], self.n));
        }
        Ok(self)
    }

    fn out_dims(&self) -> Dims {
        let mut dims = self.x.dims.clone();
        if let Some(last) = dims.last_mut() {
            *last = self.n;
        }
        dims
    }

    /// Multiplications and additions.
    fn ops(&self) -> u64 {
        2 * self.m * u64::from(self.n) * u64::from(self.k)
    }

    /// The layer with a tensor added to its product; the sum goes to `out`.
    pub(crate) fn with_residual(mut self, residual: TensorArg, out: TensorArg) -> Self {
        self.residual = Some(residual);
        self.out = Some(out);
        self
    }

    /// Where the result goes.
    fn output(&self, lower: &Lower<'_>) -> Result<TensorArg, OpError> {
        let out = match &self.out {
            Some(out) => out.clone(),
            None => lower.cx.out(0)?,
        };
        if out.dtype != self.x.dtype {
            return Err(unsupported!("{:?} activations into {:?}", self.x.dtype, out.dtype));
        }
        Ok(out)
    }

    /// Template and bindings of the operands that `operands.wgsl` names.
    fn operands(
        &self,
        lower: &mut Lower<'_>,
        label: &'static str,
        text: &'static str,
    ) -> Result<(Template, Vec<Binding>), OpError> {
        let out = self.output(lower)?;
        let template = Template::new(label, text)
            .flag("F16", float_is_half(self.x.dtype)?)
            .flag("ANY_F16", self.floats().any(|t| t.dtype == DType::F16))
            .flag("DYNAMIC_Q8", self.dynamic.is_some())
            .flag("BIAS", self.bias.is_some())
            .flag("RESIDUAL", self.residual.is_some())
            .set("N", self.n)
            .set("K", self.k);
        let mut operands = Builder::new(lower, template);
        operands.read("x", "array<x_item>", &self.x);
        operands.read("weight", "array<weight_item>", &self.weight);
        operands.write("out", "array<elem>", &out);
        if let Weights::Q4 { group, scales } = &self.weights {
            operands.with(|t| t.flag("Q4", true).set("GROUP", *group).set("GROUPS", scales.dims[0]));
            let layout = WeightLayout::Transposed { rows: scales.dims[0], cols: scales.dims[1] };
            let binding = operands.lower.weight(scales, layout);
            operands.bind("scales", scalars(scales.dtype), binding);
        }
        if let Some(bias) = &self.bias {
            operands.read("bias", scalars(bias.dtype), bias);
        }
        if let Some(dynamic) = &self.dynamic {
            operands.read("x_scale", scalars(dynamic.scale.dtype), &dynamic.scale);
            operands.read("x_zero", "array<u32>", &dynamic.zero);
        }
        if let Some(residual) = &self.residual {
            operands.read("residual", "array<elem>", residual);
        }
        Ok((operands.template, operands.bindings))
    }

    /// Operands besides the activations that may be `f16` or `f32`.
    fn floats(&self) -> impl Iterator<Item = &TensorArg> {
        let scales = match &self.weights {
            Weights::Q4 { scales, .. } => Some(scales),
            Weights::Float => None,
        };
        let dynamic = self.dynamic.as_ref().map(|d| &d.scale);
        scales.into_iter().chain(&self.bias).chain(dynamic)
    }
}

fn q4_weights(scales: TensorArg, group: i64) -> Result<Weights, OpError> {
    match u32::try_from(group) {
        Ok(group) if group > 0 => Ok(Weights::Q4 { group, scales }),
        _ => Err(invalid!("group size {group}")),
    }
}
