//! Embedding rows stored as 4-bit integers with a scale a group.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{DType, Dims};

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::template::Template;
use crate::{invalid, unsupported};

/// `weight u8 [V, E/2], scales [V, G], group size, indices i32, low nibble first?`.
pub const EMBEDDING_Q4: OpDef = OpDef::kernel(&["et_vk.embedding_q4gsw.default"], shape, lower);

fn shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    let (weight, indices) = (cx.tensor(0)?, cx.tensor(3)?);
    let mut dims = indices.dims;
    dims.try_push(weight.width() * 2).map_err(|_| invalid!("the result has too many dimensions"))?;
    Ok(vec![dims])
}

fn lower(lower: &mut Lower<'_>) -> Result<(), OpError> {
    const WG: u32 = 64;
    let cx = &lower.cx;
    let (weight, scales, indices, out) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(3)?, cx.out(0)?);
    let (group, low_first) = (cx.int(2)?, cx.bool_or(4, true)?);
    let width = weight.width() * 2;
    if group <= 0 || group % 8 != 0 || width % 8 != 0 {
        return Err(unsupported!("rows of {width} in groups of {group}; both must be multiples of 8"));
    }
    if i64::from(scales.width()) * group < i64::from(width) || scales.dims[0] < weight.dims[0] {
        return Err(invalid!(
            "scales {:?} do not cover weights of {width} in groups of {group}",
            &scales.dims[..]
        ));
    }
    if indices.dtype != DType::I32 || weight.dtype != DType::U8 {
        return Err(unsupported!("{:?} weights picked by {:?}", weight.dtype, indices.dtype));
    }
    let f16 = float_is_half(out.dtype)?;
    let words = out.numel() / 8;
    let params = vec![words as u32, width / 8, scales.width(), group as u32 / 8, weight.dims[0]];
    let picked = |table: &TensorArg| indices.numel() * u64::from(table.width()) * table.dtype.size();
    let bindings = vec![
        lower.read(&weight).touching(picked(&weight)),
        lower.read(&scales).touching(picked(&scales)),
        lower.read(&indices),
        lower.write(&out),
    ];
    let grid = lower.grid(words.div_ceil(WG.into()));
    let shader = Template::new("embedding_q4", include_str!("embedding_q4.wgsl"))
        .set("WG", WG)
        .flag("F16", f16)
        .flag("SCALES_F16", float_is_half(scales.dtype)?)
        .flag("LOW_FIRST", low_first)
        .shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: 0 })
}

/// Whether a float type is `f16`; other types than `f16` and `f32` are refused.
pub(crate) fn float_is_half(dtype: DType) -> Result<bool, OpError> {
    match dtype {
        DType::F32 => Ok(false),
        DType::F16 => Ok(true),
        other => Err(unsupported!("{other:?} where a float tensor is expected")),
    }
}
