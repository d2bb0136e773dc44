//! Cases of rotary position embedding.

use etwgpu_graph::DType::{self, F16, F32};
use etwgpu_graph::ValueId;

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Batch, live and largest sequence, query heads, key heads, channels.
type Sizes = (u32, u32, u32, u32, u32, u32);

fn operands(
    b: &mut Builder,
    dtype: DType,
    (batch, seq, most, q_heads, k_heads, width): Sizes,
) -> ([Arg; 2], [ValueId; 2]) {
    let mut args = Vec::new();
    let mut outs = Vec::new();
    for heads in [q_heads, k_heads] {
        let live = [batch, seq, heads, width];
        let bound = [batch, most, heads, width];
        let values = b.random.signed(count(&live), 2.0);
        args.push(b.input_below(&bound, Array::new(dtype, &live, values)).into());
        outs.push(b.result(dtype, &bound));
    }
    let [q, k] = <[Arg; 2]>::try_from(args).unwrap_or([Arg::None, Arg::None]);
    ([q, k], [outs[0], outs[1]])
}

fn tables(b: &mut Builder, dtype: DType, bound: u32, rows: u32, width: u32) -> [Arg; 2] {
    [(); 2].map(|()| {
        let values = b.random.signed((rows * width) as usize, 1.0);
        b.input_below(&[bound, width], Array::new(dtype, &[rows, width], values)).into()
    })
}

/// Tables hold exactly the live positions.
fn pairs(dtype: DType, sizes: Sizes) -> Case {
    let mut b = Builder::new(format!("rope pairs {dtype:?} {sizes:?}"));
    let ([q, k], outs) = operands(&mut b, dtype, sizes);
    let [cos, sin] = tables(&mut b, dtype, sizes.2, sizes.1, sizes.5 / 2);
    b.node("et_vk.apply_rotary_emb.default", &[q, k, cos, sin], &outs);
    b.finish(&outs)
}

/// Tables of 20 positions and `turned` channels, read from `start`.
fn halves(dtype: DType, sizes: Sizes, turned: u32, start: i64, symbolic: bool) -> Case {
    let mut b =
        Builder::new(format!("rope halves {dtype:?} {sizes:?} {turned} channels from {start} {symbolic}"));
    let ([q, k], outs) = operands(&mut b, dtype, sizes);
    let [cos, sin] = tables(&mut b, dtype, 20, 20, turned);
    let start = if symbolic { b.integer(start).into() } else { Arg::Int(start) };
    b.node("et_vk.apply_rotary_emb_hf.default", &[q, k, cos, sin, start], &outs);
    b.finish(&outs)
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [F32, F16] {
        for sizes in [
            (1, 1, 1, 4, 2, 64),
            (1, 5, 9, 3, 1, 6),
            (2, 3, 3, 2, 2, 16),
            (1, 17, 17, 8, 8, 128),
            (1, 2, 2, 1, 1, 2),
        ] {
            cases.push(pairs(dtype, sizes));
            let width = sizes.5;
            cases.push(halves(dtype, sizes, width, 0, false));
            cases.push(halves(dtype, sizes, width, 3, true));
        }
        cases.push(halves(dtype, (1, 4, 8, 3, 2, 32), 16, 16, true));
        cases.push(halves(dtype, (2, 4, 8, 1, 1, 10), 4, 1, false));
        cases.push(halves(dtype, (1, 1, 1, 2, 1, 8), 0, 1, false));
    }
    cases
}
