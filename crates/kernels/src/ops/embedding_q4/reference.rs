//! Rows of 4-bit integers with a scale a group.

use crate::args::OpError;
use crate::reference::Eval;

/// `(nibble - 8) * scale` of each picked row.
pub fn embedding_q4(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (weight, scales, indices) = (eval.array(0)?, eval.array(1)?, eval.array(3)?);
    let group = eval.cx().int(2)? as usize;
    let low_first = eval.cx().bool_or(4, true)?;
    let (row_bytes, groups) = (weight.width(), scales.width());
    let mut values = Vec::new();
    for &row in &indices.values {
        let row = row as usize;
        for d in 0..2 * row_bytes {
            let byte = weight.values[row * row_bytes + d / 2] as u8;
            let is_low = (d % 2 == 0) == low_first;
            let nibble = if is_low { byte & 15 } else { byte >> 4 };
            values.push((f64::from(nibble) - 8.0) * scales.values[row * groups + d / group]);
        }
    }
    let mut dims = indices.dims.to_vec();
    dims.push(2 * row_bytes as u32);
    eval.set(0, &dims, values);
    Ok(())
}
