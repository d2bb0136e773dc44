//! Scale and zero point of each row for the range -128…127.

use crate::args::OpError;
use crate::reference::Eval;

const SMALLEST: f64 = 6.1e-5;

fn of_row(row: &[f64]) -> (f64, f64) {
    let mut low = row.iter().copied().fold(0.0, f64::min);
    let mut high = row.iter().copied().fold(0.0, f64::max);
    let mut scale = (high - low) / 255.0;
    if scale == 0.0 {
        scale = 0.1;
    }
    if scale < SMALLEST {
        let grow = SMALLEST / scale;
        scale = SMALLEST;
        if low == 0.0 {
            high = scale * 255.0;
        } else if high == 0.0 {
            low = -scale * 255.0;
        } else {
            low *= grow;
            high *= grow;
        }
    }
    let from_low = -128.0 - low / scale;
    let from_high = 127.0 - high / scale;
    let takes_low = 128.0 - (low / scale).abs() < 127.0 - (high / scale).abs();
    let zero = if takes_low { from_low } else { from_high };
    (scale, zero.clamp(-128.0, 127.0).round_ties_even())
}

/// Scales and zero points; their sizes are those of the rows, in the declared rank.
pub fn choose(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let x = eval.array(0)?;
    let width = x.width();
    let (scales, zeros): (Vec<f64>, Vec<f64>) = x.values.chunks(width.max(1)).map(of_row).unzip();
    let rows = &x.dims[..x.dims.len() - 1];
    let declared = |index: usize| {
        let rank = eval.graph.tensor(eval.cx().node().outs[index]).map_or(0, |t| t.dims.len());
        match rank {
            1 => vec![rows.iter().product()],
            _ => rows.iter().copied().chain(std::iter::repeat_n(1, rank - rows.len())).collect::<Vec<u32>>(),
        }
    };
    let (scale_dims, zero_dims) = (declared(0), declared(1));
    eval.set(0, &scale_dims, scales);
    eval.set(1, &zero_dims, zeros);
    Ok(())
}
