//! Scale and zero point of each row, for activations quantised to 8 bits on the fly.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{DType, Dims};

use crate::args::{NodeCx, OpError};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::embedding_q4::float_is_half;
use crate::template::Template;
use crate::{invalid, unsupported};

/// Asymmetric parameters for the range -128…127 over blocks that span one row.
pub const CHOOSE_QPARAMS: OpDef = OpDef::kernel(&["torchao.choose_qparams_affine.default"], shape, lower);

/// The declared outputs keep the row dimensions, with or without trailing ones; live rows replace declared ones.
fn shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    let x = cx.tensor(0)?;
    let bound = cx.bound(0)?;
    let outputs = cx.node().outs.len();
    (0..outputs)
        .map(|i| {
            row_dims(
                &x.dims,
                bound,
                &cx.graph.tensor(cx.node().outs[i]).map(|t| t.dims.clone()).unwrap_or_default(),
            )
        })
        .collect()
}

/// Sizes of a per-row tensor declared as `declared` for `bound` when the live sizes are `live`.
fn row_dims(live: &[u32], bound: &[u32], declared: &[u32]) -> Result<Dims, OpError> {
    let rows = &live[..live.len().saturating_sub(1)];
    let bound_rows = &bound[..bound.len().saturating_sub(1)];
    let is_rows = declared.len() >= rows.len() && declared[..rows.len()] == *bound_rows;
    if is_rows && declared[rows.len()..].iter().all(|&d| d == 1) {
        return Ok(rows.iter().copied().chain(declared[rows.len()..].iter().copied()).collect());
    }
    if declared.len() == 1 && declared.iter().product::<u32>() == bound_rows.iter().product() {
        return Ok(std::iter::once(rows.iter().product()).collect());
    }
    Err(invalid!("parameters of sizes {declared:?} for rows of {bound:?}"))
}

fn lower(lower: &mut Lower<'_>) -> Result<(), OpError> {
    check(&lower.cx)?;
    let (x, scale, zero) = (lower.cx.tensor(0)?, lower.cx.out(0)?, lower.cx.out(1)?);
    let wg = crate::ops::rms_norm::workgroup(x.width(), lower.caps());
    let rows = x.rows();
    let params = vec![rows as u32, x.width()];
    let bindings = vec![lower.read(&x), lower.write(&scale), lower.write(&zero)];
    let grid = lower.grid(rows.div_ceil(4));
    let shader = Template::new("choose_qparams", include_str!("qparams.wgsl"))
        .set("WG", wg)
        .flag("F16", float_is_half(x.dtype)?)
        .flag("SCALES_F16", float_is_half(scale.dtype)?)
        .flag("SUBGROUPS", lower.caps().subgroups.is_some())
        .shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: 2 * x.numel() })
}

/// Whether whole rows get the whole range of 8 bits.
pub(crate) fn check(cx: &NodeCx<'_>) -> Result<(), OpError> {
    let (x, zero, blocks) = (cx.tensor(0)?, cx.out(1)?, cx.ints(2)?);
    let (low, high) = (cx.int_or(4, -128)?, cx.int_or(5, 127)?);
    let per_row =
        blocks.last() == Some(&i64::from(x.width())) && blocks.iter().rev().skip(1).all(|&b| b == 1);
    if !per_row {
        return Err(unsupported!("blocks {blocks:?}; only whole rows of {} are supported", x.width()));
    }
    if (low, high) != (-128, 127) || zero.dtype != DType::I8 {
        return Err(unsupported!("range {low}…{high} as {:?}", zero.dtype));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::row_dims;

    #[test]
    fn parameters_follow_the_live_rows() {
        assert_eq!(row_dims(&[1, 3, 64], &[1, 9, 64], &[1, 9, 1]).unwrap()[..], [1, 3, 1]);
        assert_eq!(row_dims(&[1, 3, 64], &[1, 9, 64], &[1, 9]).unwrap()[..], [1, 3]);
        assert_eq!(row_dims(&[2, 3, 64], &[2, 9, 64], &[18]).unwrap()[..], [6]);
        assert!(row_dims(&[1, 3, 64], &[1, 9, 64], &[1, 8]).is_err());
    }
}
