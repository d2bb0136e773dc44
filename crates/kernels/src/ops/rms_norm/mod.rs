//! Root-mean-square normalisation over the last dimension.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_record::Caps;

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::embedding_q4::float_is_half;
use crate::template::Template;
use crate::{invalid, unsupported};

/// `x * rsqrt(mean(x²) + eps) * weight`; `eps` defaults to the smallest step above one.
pub const RMS_NORM: OpDef =
    OpDef::kernel(&["et_vk.rms_norm.default"], |cx| Ok(vec![cx.tensor(0)?.dims]), lower);

fn lower(lower: &mut Lower<'_>) -> Result<(), OpError> {
    let [x, weight, out] = operands(&lower.cx)?;
    let eps = epsilon(&lower.cx)?;
    let vector = x.width() % 4 == 0;
    let items = x.width() / if vector { 4 } else { 1 };
    let wg = workgroup(items, lower.caps());
    let bindings = vec![lower.read(&x), lower.read(&weight), lower.write(&out)];
    let params = vec![x.rows() as u32, items, eps.to_bits(), (1.0 / x.width() as f32).to_bits()];
    let grid = lower.grid(x.rows());
    let shader = Template::new("rms_norm", include_str!("rms_norm.wgsl"))
        .set("WG", wg)
        .flag("VECTOR", vector)
        .flag("F16", float_is_half(x.dtype)?)
        .flag("SUBGROUPS", lower.caps().subgroups.is_some())
        .shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: 4 * x.numel() })
}

/// Rows, weights and output, which match.
pub(crate) fn operands(cx: &NodeCx<'_>) -> Result<[TensorArg; 3], OpError> {
    let (x, weight, out) = (cx.tensor(0)?, cx.tensor(1)?, cx.out(0)?);
    if weight.numel() != u64::from(x.width()) {
        return Err(invalid!("{} weights for rows of {}", weight.numel(), x.width()));
    }
    if weight.dtype != x.dtype || out.dtype != x.dtype {
        return Err(unsupported!("{:?} with {:?} weights into {:?}", x.dtype, weight.dtype, out.dtype));
    }
    Ok([x, weight, out])
}

/// What is added to the mean square.
pub(crate) fn epsilon(cx: &NodeCx<'_>) -> Result<f32, OpError> {
    Ok(cx.float_opt(2)?.unwrap_or(f64::from(f32::EPSILON)) as f32)
}

/// Invocations for a row of `items`: a power of two between 32 and 256.
pub(crate) fn workgroup(items: u32, caps: &Caps) -> u32 {
    items.next_power_of_two().clamp(32, 256.min(caps.max_invocations))
}
