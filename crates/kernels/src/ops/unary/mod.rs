//! Elementwise functions of one float tensor.

use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::embedding_q4::float_is_half;
use crate::template::Template;
use crate::unsupported;

/// `1 / (1 + exp(-x))`.
pub const SIGMOID: OpDef =
    OpDef::kernel(&["aten.sigmoid.default"], |cx| Ok(vec![cx.tensor(0)?.dims]), |lower| record(lower, "sigmoid", "SIGMOID"));

fn record(lower: &mut Lower<'_>, label: &'static str, function: &'static str) -> Result<(), OpError> {
    const WG: u32 = 256;
    let (x, out) = (lower.cx.tensor(0)?, lower.cx.out(0)?);
    if x.dtype != out.dtype {
        return Err(unsupported!("{:?} into {:?}", x.dtype, out.dtype));
    }
    let items = out.numel().div_ceil(4);
    let bindings = vec![lower.read(&x), lower.write(&out)];
    let grid = lower.grid(items.div_ceil(WG.into()));
    let shader = Template::new(label, include_str!("unary.wgsl"))
        .set("WG", WG)
        .flag(function, true)
        .flag("F16", float_is_half(out.dtype)?)
        .shader();
    lower.launch(Launch { shader, bindings, params: vec![items as u32], grid, ops: out.numel() })
}
