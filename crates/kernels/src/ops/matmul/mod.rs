//! Products of two activations, batched or not.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::Dims;
use etwgpu_record::Caps;

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::binary::{broadcast, broadcast_strides};
use crate::ops::embedding_q4::float_is_half;
use crate::route::{Refusal, Route, require};
use crate::template::Template;
use crate::{invalid, unsupported};

/// `a [M, K] · b [K, N]`.
pub const MM: OpDef = OpDef::kernel(
    &["aten.mm.default"],
    |cx| Ok(vec![Problem::new(cx, 0, 2)?.out_dims()]),
    |lower| {
        let problem = Problem::new(&lower.cx, 0, 2)?;
        lower.choose(ROUTES, &problem)
    },
);

/// `a [B, M, K] · b [B, K, N]`.
pub const BMM: OpDef = OpDef::kernel(
    &["aten.bmm.default"],
    |cx| Ok(vec![Problem::new(cx, 0, 3)?.out_dims()]),
    |lower| {
        let problem = Problem::new(&lower.cx, 0, 3)?;
        lower.choose(ROUTES, &problem)
    },
);

/// `beta * addend + alpha * (a [M, K] · b [K, N])`; the addend broadcasts.
pub const ADDMM: OpDef = OpDef::kernel(
    &["aten.addmm.default"],
    |cx| Ok(vec![Problem::with_addend(cx)?.out_dims()]),
    |lower| {
        let problem = Problem::with_addend(&lower.cx)?;
        lower.choose(ROUTES, &problem)
    },
);

/// Ways to multiply, the most specific first.
pub const ROUTES: &[Route<Problem>] = &[
    Route { name: "matmul.tiled", fits: tiled_fits, record: |lower, problem| problem.record(lower, true) },
    Route {
        name: "matmul.elements",
        fits: |_, _| Ok(()),
        record: |lower, problem| problem.record(lower, false),
    },
];

/// Rows and columns of a tile.
const TILE: u32 = 64;

/// Fewest rows that are worth a tile.
const MIN_TILED_ROWS: u32 = 8;

fn tiled_fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    require(caps.max_invocations >= 256, "fewer than 256 invocations")?;
    require(problem.m >= MIN_TILED_ROWS, "fewer than 8 rows")
}

/// `out[B, M, N] = a[B, M, K] · b[B, K, N]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Pairs of matrices.
    pub batch: u32,
    /// Rows, live.
    pub m: u32,
    /// Columns, live.
    pub n: u32,
    /// Length of the sums, live.
    pub k: u32,
    a: TensorArg,
    b: TensorArg,
    addend: Option<Addend>,
}

/// What is added to a product.
#[derive(Clone, Debug, PartialEq)]
struct Addend {
    tensor: TensorArg,
    beta: f32,
    alpha: f32,
}

impl Problem {
    /// The product of arguments `first` and `first + 1`, both of rank `rank`.
    fn new(cx: &NodeCx<'_>, first: usize, rank: usize) -> Result<Self, OpError> {
        let (a, b) = (cx.tensor(first)?, cx.tensor(first + 1)?);
        let batch = if rank == 3 { a.dims.first().copied().unwrap_or(1) } else { 1 };
        let at = |tensor: &TensorArg, from_end: usize| tensor.dims[rank - from_end];
        let is_pair = a.dims.len() == rank
            && b.dims.len() == rank
            && at(&a, 1) == at(&b, 2)
            && (rank == 2 || b.dims[0] == batch);
        if !is_pair {
            return Err(invalid!("sizes {:?} and {:?} do not multiply", &a.dims[..], &b.dims[..]));
        }
        Ok(Self { batch, m: at(&a, 2), n: at(&b, 1), k: at(&a, 1), a, b, addend: None })
    }

    fn with_addend(cx: &NodeCx<'_>) -> Result<Self, OpError> {
        let mut problem = Self::new(cx, 1, 2)?;
        let tensor = cx.tensor(0)?;
        let out = problem.out_dims();
        if broadcast(&tensor.dims, &out)? != out {
            return Err(invalid!("sizes {:?} do not broadcast to {:?}", &tensor.dims[..], &out[..]));
        }
        let number = |index| cx.float_opt(index).map(|v| v.unwrap_or(1.0) as f32);
        problem.addend = Some(Addend { tensor, beta: number(3)?, alpha: number(4)? });
        Ok(problem)
    }

    fn out_dims(&self) -> Dims {
        let leading = &self.a.dims[..self.a.dims.len() - 2];
        leading.iter().copied().chain([self.m, self.n]).collect()
    }

    fn record(&self, lower: &mut Lower<'_>, tiled: bool) -> Result<(), OpError> {
        let wg: u32 = if tiled { 256 } else { 64 };
        let out = lower.cx.out(0)?;
        let addend = self.addend.as_ref();
        let has_one_type =
            self.b.dtype == self.a.dtype && addend.is_none_or(|d| d.tensor.dtype == self.a.dtype);
        if !has_one_type || out.dtype != self.a.dtype {
            return Err(unsupported!("{:?} times {:?} into {:?}", self.a.dtype, self.b.dtype, out.dtype));
        }
        let mut params = vec![self.batch, self.m, self.n, self.k];
        let mut bindings = vec![lower.read(&self.a), lower.read(&self.b), lower.write(&out)];
        if let Some(Addend { tensor, beta, alpha }) = addend {
            params.extend([alpha.to_bits(), beta.to_bits()]);
            params.extend(broadcast_strides(&tensor.dims, &out.dims));
            bindings.push(lower.read(tensor));
        }
        let tiles =
            u64::from(self.batch) * u64::from(self.m.div_ceil(TILE)) * u64::from(self.n.div_ceil(TILE));
        let groups = if tiled { tiles } else { out.numel().div_ceil(wg.into()) };
        let grid = lower.grid(groups);
        let shader = Template::new("matmul", include_str!("matmul.wgsl"))
            .set("WG", wg)
            .flag("F16", float_is_half(out.dtype)?)
            .flag("TILED", tiled)
            .flag("VECTOR", tiled && self.k.is_multiple_of(4) && self.n.is_multiple_of(4))
            .flag("ADDEND", addend.is_some())
            .shader();
        let ops = 2 * out.numel() * u64::from(self.k);
        lower.launch(Launch { shader, bindings, params, grid, ops })
    }
}
