//! Tensors of equal elements.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{DType, Dims};
use half::f16;

use crate::args::{NodeCx, OpError};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::template::Template;
use crate::{invalid, unsupported};

/// Sizes, number.
pub const FULL: OpDef = OpDef::kernel(&["aten.full.default"], sizes, |lower| record_number(lower, 1));
/// A tensor that gives the sizes, number.
pub const FULL_LIKE: OpDef =
    OpDef::kernel(&["aten.full_like.default"], like, |lower| record_number(lower, 1));
/// A number as a tensor without dimensions.
pub const SCALAR_TENSOR: OpDef = OpDef::kernel(
    &["aten.scalar_tensor.default"],
    |_| Ok(vec![Dims::new()]),
    |lower| record_number(lower, 0),
);
/// Zeros of given sizes.
pub const ZEROS: OpDef = OpDef::kernel(&["aten.zeros.default"], sizes, |lower| record(lower, 0.0));
/// As many zeros as another tensor has elements.
pub const ZEROS_LIKE: OpDef = OpDef::kernel(&["aten.zeros_like.default"], like, |lower| record(lower, 0.0));
/// Ones of given sizes.
pub const ONES: OpDef = OpDef::kernel(&["aten.ones.default"], sizes, |lower| record(lower, 1.0));
/// As many ones as another tensor has elements.
pub const ONES_LIKE: OpDef = OpDef::kernel(&["aten.ones_like.default"], like, |lower| record(lower, 1.0));

fn like(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    Ok(vec![cx.tensor(0)?.dims])
}

fn sizes(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    let mut dims = Dims::new();
    for size in cx.ints(0)? {
        let checked = u32::try_from(size).map_err(|_| invalid!("size {size}"))?;
        dims.try_push(checked).map_err(|_| invalid!("more than {} dimensions", dims.capacity()))?;
    }
    Ok(vec![dims])
}

fn record_number(lower: &mut Lower<'_>, index: usize) -> Result<(), OpError> {
    let number = lower.number(index)?;
    record(lower, number)
}

fn record(lower: &mut Lower<'_>, number: f64) -> Result<(), OpError> {
    const WG: u32 = 256;
    let out = lower.cx.out(0)?;
    let words = out.bytes().div_ceil(4);
    let params = vec![words as u32, word_of(out.dtype, number)?];
    let bindings = vec![lower.write(&out)];
    let grid = lower.grid(words.div_ceil(WG.into()));
    let shader = Template::new("fill", include_str!("fill.wgsl")).set("WG", WG).shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: 0 })
}

/// A word of elements that hold a number.
fn word_of(dtype: DType, number: f64) -> Result<u32, OpError> {
    match dtype {
        DType::F32 => Ok((number as f32).to_bits()),
        DType::F16 => Ok(u32::from(f16::from_f64(number).to_bits()) * 0x0001_0001),
        DType::I32 => Ok(number as i32 as u32),
        DType::Bool => Ok(u32::from(number != 0.0) * 0x0101_0101),
        other => Err(unsupported!("{other:?} filled with a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_as_many_elements_as_fit() {
        assert_eq!(word_of(DType::F32, 1.0).unwrap(), 0x3f80_0000);
        assert_eq!(word_of(DType::F16, 1.0).unwrap(), 0x3c00_3c00);
        assert_eq!(word_of(DType::F16, f64::NEG_INFINITY).unwrap(), 0xfc00_fc00);
        assert_eq!(word_of(DType::I32, -2.0).unwrap(), -2i32 as u32);
        assert_eq!(word_of(DType::Bool, 3.0).unwrap(), 0x0101_0101);
    }
}
