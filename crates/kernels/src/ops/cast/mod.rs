//! Elements under another type.

#[cfg(feature = "reference")]
pub mod cases;

use etwgpu_graph::DType;

use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::copy::record_copy;
use crate::template::Template;
use crate::unsupported;

/// The elements of argument 0 in the type of the output. A dimension order does not matter: all tensors are row-major.
pub const TO_COPY: OpDef = OpDef::kernel(
    &["aten._to_copy.default", "dim_order_ops._to_dim_order_copy.default"],
    |cx| Ok(vec![cx.tensor(0)?.dims]),
    lower,
);

fn lower(lower: &mut Lower<'_>) -> Result<(), OpError> {
    const WG: u32 = 256;
    let (x, out) = (lower.cx.tensor(0)?, lower.cx.out(0)?);
    if x.dtype == out.dtype {
        return record_copy(lower);
    }
    let refused = || unsupported!("{:?} elements into {:?}", x.dtype, out.dtype);
    let from = match x.dtype {
        DType::Bool | DType::U8 => "FROM_U8",
        DType::I8 => "FROM_I8",
        DType::I32 => "FROM_I32",
        DType::F16 => "FROM_F16",
        DType::F32 => "FROM_F32",
        DType::F64 | DType::I64 => return Err(refused()),
    };
    let to = match out.dtype {
        DType::Bool => "TO_BOOL",
        DType::U8 | DType::I8 => "TO_BYTE",
        DType::I32 => "TO_I32",
        DType::F16 => "TO_F16",
        DType::F32 => "TO_F32",
        DType::F64 | DType::I64 => return Err(refused()),
    };
    let quads = out.numel().div_ceil(4);
    let bindings = vec![lower.read(&x), lower.write(&out)];
    let grid = lower.grid(quads.div_ceil(WG.into()));
    let shader = Template::new("cast", include_str!("cast.wgsl"))
        .set("WG", WG)
        .flag(from, true)
        .flag(to, true)
        .flag("FLOAT", matches!(x.dtype, DType::F16 | DType::F32))
        .shader();
    lower.launch(Launch { shader, bindings, params: vec![quads as u32], grid, ops: 0 })
}
