//! Elementwise functions of two tensors, with broadcasting.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{DType, Dims};

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::strided::pad8;
use crate::template::Template;
use crate::{invalid, unsupported};

const WG: u32 = 256;

/// `a + alpha * b`.
pub const ADD: OpDef = OpDef::kernel(&["aten.add.Tensor"], shape, |lower| record(lower, "add", "ADD", true));
/// `a - alpha * b`.
pub const SUB: OpDef = OpDef::kernel(&["aten.sub.Tensor"], shape, |lower| record(lower, "sub", "SUB", true));
/// `a * b`.
pub const MUL: OpDef = OpDef::kernel(&["aten.mul.Tensor"], shape, |lower| record(lower, "mul", "MUL", false));
/// `a / b`.
pub const DIV: OpDef = OpDef::kernel(&["aten.div.Tensor"], shape, |lower| match lower.cx.out(0)?.dtype {
    DType::I32 => Err(unsupported!("a quotient of integers without a rounding mode")),
    _ => record(lower, "div", "DIV", false),
});
/// `a / b`, rounded as the mode in argument 2 says.
pub const DIV_MODE: OpDef =
    OpDef::kernel(&["aten.div.Tensor_mode"], shape, |lower| match lower.cx.text(2)? {
        "floor" => record(lower, "div_floor", "DIV_FLOOR", false),
        "trunc" => record(lower, "div_trunc", "DIV_TRUNC", false),
        mode => Err(unsupported!("rounding mode {mode}")),
    });
/// The smaller of two.
pub const MINIMUM: OpDef =
    OpDef::kernel(&["aten.minimum.default"], shape, |lower| record(lower, "minimum", "MINIMUM", false));
/// The larger of two.
pub const MAXIMUM: OpDef =
    OpDef::kernel(&["aten.maximum.default"], shape, |lower| record(lower, "maximum", "MAXIMUM", false));

fn shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    broadcast(&cx.tensor(0)?.dims, &cx.tensor(1)?.dims).map(|dims| vec![dims])
}

/// Sizes of the broadcast of two tensors.
pub(crate) fn broadcast(a: &[u32], b: &[u32]) -> Result<Dims, OpError> {
    let rank = a.len().max(b.len());
    let at = |dims: &[u32], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |j| dims[j]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(invalid!("sizes {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// Strides that repeat a tensor of sizes `from` over sizes `to`, innermost last.
pub(crate) fn broadcast_strides(from: &[u32], to: &[u32]) -> Dims {
    let mut stride = 1;
    let mut strides = Dims::new();
    for i in (0..to.len()).rev() {
        let size = (i + from.len()).checked_sub(to.len()).map_or(1, |j| from[j]);
        strides.push(if size == 1 { 0 } else { stride });
        stride *= size;
    }
    strides.reverse();
    strides
}

/// Sizes of `out`, then the strides that repeat each source over it, as shaders take them.
pub(crate) fn broadcast_params(out: &TensorArg, sources: &[&TensorArg]) -> Vec<u32> {
    let strides = sources.iter().flat_map(|source| pad8(&broadcast_strides(&source.dims, &out.dims), 0));
    pad8(&out.dims, 1).into_iter().chain(strides).collect()
}

fn record(
    lower: &mut Lower<'_>,
    label: &'static str,
    function: &'static str,
    has_alpha: bool,
) -> Result<(), OpError> {
    let (a, b, out) = (lower.cx.tensor(0)?, lower.cx.tensor(1)?, lower.cx.out(0)?);
    if a.dtype != out.dtype || b.dtype != out.dtype {
        return Err(unsupported!("{:?} with {:?} into {:?}", a.dtype, b.dtype, out.dtype));
    }
    if !matches!(out.dtype, DType::F32 | DType::F16 | DType::I32) {
        return Err(unsupported!("{:?} operands", out.dtype));
    }
    let is_int = out.dtype == DType::I32;
    let alpha = match (has_alpha, is_int) {
        (true, true) => lower.cx.int_or(2, 1)? as i32 as u32,
        (true, false) => (lower.cx.float_opt(2)?.unwrap_or(1.0) as f32).to_bits(),
        (false, _) => 1,
    };
    record_tensors(lower, label, function, alpha, [&a, &b], &out)
}

/// `silu(gate) * up` of tensors with as many elements.
pub(crate) fn record_swiglu(
    lower: &mut Lower<'_>,
    gate: &TensorArg,
    up: &TensorArg,
    out: &TensorArg,
) -> Result<(), OpError> {
    let flat = |t: &TensorArg| TensorArg { dims: out.dims.clone(), ..t.clone() };
    record_tensors(lower, "swiglu", "SWIGLU", 1, [&flat(gate), &flat(up)], out)
}

fn record_tensors(
    lower: &mut Lower<'_>,
    label: &'static str,
    function: &'static str,
    alpha: u32,
    [a, b]: [&TensorArg; 2],
    out: &TensorArg,
) -> Result<(), OpError> {
    let same = a.dims == out.dims && b.dims == out.dims;
    let items = if same { out.numel().div_ceil(4) } else { out.numel() };
    let mut params = vec![items as u32, alpha];
    if !same {
        params.extend([0, 0]);
        params.extend(broadcast_params(out, &[a, b]));
    }
    let bindings = vec![lower.read(a), lower.read(b), lower.write(out)];
    let grid = lower.grid(items.div_ceil(WG.into()));
    let shader = Template::new(label, include_str!("binary.wgsl"))
        .set("WG", WG)
        .flag(function, true)
        .flag("INT", out.dtype == DType::I32)
        .flag("F16", out.dtype == DType::F16)
        .flag("BROADCAST", !same)
        .shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: out.numel() })
}

#[cfg(test)]
mod tests {
    use super::{broadcast, broadcast_strides};

    #[test]
    fn sizes_align_on_the_right() {
        assert_eq!(broadcast(&[3, 1], &[2, 1, 4]).unwrap()[..], [2, 3, 4]);
        assert!(broadcast(&[3], &[2]).is_err());
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4])[..], [0, 1, 0]);
        assert_eq!(broadcast_strides(&[2, 1, 4], &[2, 3, 4])[..], [4, 0, 1]);
    }
}
