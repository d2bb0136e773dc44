//! Functions of truth values. On them the bitwise operators mean the same as the logical ones.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{DType, Dims};

use crate::args::{NodeCx, OpError};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::binary::{broadcast, broadcast_params};
use crate::ops::compare::{self, Other};
use crate::template::Template;
use crate::unsupported;

const WG: u32 = 256;

/// Whether `a` is zero.
pub const NOT: OpDef = OpDef::kernel(
    &["aten.logical_not.default", "aten.bitwise_not.default"],
    |cx| Ok(vec![cx.tensor(0)?.dims]),
    record_not,
);

/// `a and b`.
pub const AND: OpDef =
    OpDef::kernel(&["aten.logical_and.default", "aten.bitwise_and.Tensor"], shape, |lower| {
        record(lower, "logical_and", "AND")
    });

/// `a or b`.
pub const OR: OpDef = OpDef::kernel(&["aten.logical_or.default", "aten.bitwise_or.Tensor"], shape, |lower| {
    record(lower, "logical_or", "OR")
});

/// Either `a` or `b`.
pub const XOR: OpDef =
    OpDef::kernel(&["aten.logical_xor.default", "aten.bitwise_xor.Tensor"], shape, |lower| {
        record(lower, "logical_xor", "XOR")
    });

fn shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    broadcast(&cx.tensor(0)?.dims, &cx.tensor(1)?.dims).map(|dims| vec![dims])
}

fn record_not(lower: &mut Lower<'_>) -> Result<(), OpError> {
    let (a, out) = (lower.cx.tensor(0)?, lower.cx.out(0)?);
    if a.dtype != DType::Bool && lower.cx.node().op == "aten.logical_not.default" {
        return compare::record_with(lower, "logical_not", "EQ", &a, &Other::Number(0.0));
    }
    if a.dtype != DType::Bool || out.dtype != DType::Bool {
        return Err(unsupported!("{:?} into {:?}", a.dtype, out.dtype));
    }
    let bindings = vec![lower.read(&a), lower.write(&out)];
    let words = out.numel().div_ceil(4);
    let grid = lower.grid(words.div_ceil(WG.into()));
    let template = Template::new("logical_not", include_str!("logical.wgsl"));
    let shader = template.set("WG", WG).flag("NOT", true).shader();
    lower.launch(Launch {
        shader,
        bindings,
        params: vec![out.numel() as u32, words as u32],
        grid,
        ops: out.numel(),
    })
}

fn record(lower: &mut Lower<'_>, label: &'static str, function: &'static str) -> Result<(), OpError> {
    let (a, b, out) = (lower.cx.tensor(0)?, lower.cx.tensor(1)?, lower.cx.out(0)?);
    if [a.dtype, b.dtype, out.dtype] != [DType::Bool; 3] {
        return Err(unsupported!("{:?} with {:?} into {:?}", a.dtype, b.dtype, out.dtype));
    }
    let same = a.dims == out.dims && b.dims == out.dims;
    let words = out.numel().div_ceil(4);
    let mut params = vec![out.numel() as u32, words as u32];
    if !same {
        params.extend([0, 0]);
        params.extend(broadcast_params(&out, &[&a, &b]));
    }
    let bindings = vec![lower.read(&a), lower.write(&out), lower.read(&b)];
    let grid = lower.grid(words.div_ceil(WG.into()));
    let shader = Template::new(label, include_str!("logical.wgsl"))
        .set("WG", WG)
        .set("ELEMENT_BYTES", 1)
        .flag(function, true)
        .flag("BROADCAST", !same)
        .shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: out.numel() })
}
