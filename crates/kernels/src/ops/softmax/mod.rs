//! Softmax and its logarithm along any dimension.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::Dims;

use crate::args::{NodeCx, OpError};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::embedding_q4::float_is_half;
use crate::ops::rms_norm::workgroup;
use crate::template::Template;
use crate::unsupported;

/// `exp(x) / sum(exp(x))`.
pub const SOFTMAX: OpDef =
    OpDef::kernel(&["aten._softmax.default"], shape, |lower| record(lower, "softmax", false));
/// `x - log(sum(exp(x)))`.
pub const LOG_SOFTMAX: OpDef =
    OpDef::kernel(&["aten._log_softmax.default"], shape, |lower| record(lower, "log_softmax", true));

fn shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    let x = cx.tensor(0)?;
    x.dim(cx.int(1)?)?;
    Ok(vec![x.dims])
}

fn record(lower: &mut Lower<'_>, label: &'static str, is_log: bool) -> Result<(), OpError> {
    let (x, out) = (lower.cx.tensor(0)?, lower.cx.out(0)?);
    if x.dtype != out.dtype {
        return Err(unsupported!("{:?} into {:?}", x.dtype, out.dtype));
    }
    let dim = x.dim(lower.cx.int(1)?)?;
    let length = x.dims.get(dim).copied().unwrap_or(1);
    let stride: u32 = x.dims.iter().skip(dim + 1).product();
    let lines = x.numel().checked_div(length.into()).unwrap_or(0);
    let bindings = vec![lower.read(&x), lower.write(&out)];
    let grid = lower.grid(lines);
    let shader = Template::new(label, include_str!("softmax.wgsl"))
        .set("WG", workgroup(length, lower.caps()))
        .flag("LOG", is_log)
        .flag("F16", float_is_half(x.dtype)?)
        .flag("SUBGROUPS", lower.caps().subgroups.is_some())
        .shader();
    lower.launch(Launch {
        shader,
        bindings,
        params: vec![lines as u32, length, stride],
        grid,
        ops: 5 * x.numel(),
    })
}
