//! Root-mean-square normalisation.

use crate::args::OpError;
use crate::reference::Eval;

/// `x / sqrt(mean(x²) + eps) * weight` over the last dimension.
pub fn rms_norm(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (x, weight) = (eval.array(0)?, eval.array(1)?);
    let eps = eval.cx().float_opt(2)?.unwrap_or(f64::from(f32::EPSILON));
    let width = x.width();
    let mut values = Vec::new();
    for row in x.values.chunks(width) {
        let mean = row.iter().map(|v| v * v).sum::<f64>() / width as f64;
        values.extend(row.iter().zip(&weight.values).map(|(v, w)| v / (mean + eps).sqrt() * w));
    }
    let dims = x.dims.clone();
    eval.set(0, &dims, values);
    Ok(())
}
