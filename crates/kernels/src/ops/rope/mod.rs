//! Rotary position embedding of queries and keys.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::Dims;

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::embedding_q4::float_is_half;
use crate::template::Template;
use crate::{invalid, unsupported};

/// Interleaved pairs; tables `[S, D/2]` hold one row a live position.
pub const PAIRS: OpDef = OpDef::kernel(
    &["et_vk.apply_rotary_emb.default"],
    |cx| {
        let dims = both(cx)?;
        let (rows, width) = table(cx)?;
        let (seq, head) = (cx.tensor(0)?.dims[1], cx.tensor(0)?.width());
        if head % 2 != 0 || width * 2 != head || rows < seq {
            return Err(invalid!("tables [{rows}, {width}] for {seq} positions of {head} channels"));
        }
        Ok(dims)
    },
    |lower| record(lower, "rope_pairs", 0, false),
);

/// Rotated halves; tables `[positions, R]` are indexed from a start position, channels from `R` on are copied.
pub const HALVES: OpDef = OpDef::kernel(
    &["et_vk.apply_rotary_emb_hf.default"],
    |cx| {
        let dims = both(cx)?;
        let (rows, width) = table(cx)?;
        let (seq, head, start) = (cx.tensor(0)?.dims[1], cx.tensor(0)?.width(), cx.int(4)?);
        if width % 2 != 0 || width > head {
            return Err(invalid!("tables of {width} channels for heads of {head}"));
        }
        if start < 0 || start.saturating_add(seq.into()) > rows.into() {
            return Err(invalid!("{seq} positions from {start} are outside tables of {rows} rows"));
        }
        Ok(dims)
    },
    |lower| {
        let start = lower.cx.int(4)?;
        record(lower, "rope_halves", start as u32, true)
    },
);

fn both(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    let (q, k) = (cx.tensor(0)?, cx.tensor(1)?);
    let agree =
        q.dims.len() == 4 && k.dims.len() == 4 && q.dims[..2] == k.dims[..2] && q.dims[3] == k.dims[3];
    if !agree {
        return Err(invalid!(
            "queries {:?} and keys {:?} must be [B, S, H, D] and agree but for H",
            &q.dims[..],
            &k.dims[..]
        ));
    }
    Ok(vec![q.dims, k.dims])
}

fn table(cx: &NodeCx<'_>) -> Result<(u32, u32), OpError> {
    let (cos, sin) = (cx.tensor(2)?, cx.tensor(3)?);
    if cos.dims != sin.dims {
        return Err(invalid!("cosines {:?} and sines {:?} differ in size", &cos.dims[..], &sin.dims[..]));
    }
    Ok((cos.rows() as u32, cos.width()))
}

fn record(lower: &mut Lower<'_>, label: &'static str, start: u32, halves: bool) -> Result<(), OpError> {
    const WG: u32 = 64;
    let cx = &lower.cx;
    let (q, k, cos, sin) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?, cx.tensor(3)?);
    let (q_out, k_out) = (cx.out(0)?, cx.out(1)?);
    if [&k, &cos, &sin, &q_out, &k_out].iter().any(|t| t.dtype != q.dtype) {
        return Err(unsupported!("queries, keys and tables of different types"));
    }
    let heads = |t: &TensorArg| t.dims[2];
    let pairs = (q.numel() + k.numel()) / 2;
    let params = vec![pairs as u32, q.dims[1], heads(&q), heads(&k), q.width(), cos.width(), start];
    let rows = u64::from(q.dims[1]) * u64::from(cos.width()) * cos.dtype.size();
    let bindings = vec![
        lower.read(&q),
        lower.read(&k),
        lower.read(&cos).touching(rows),
        lower.read(&sin).touching(rows),
        lower.write(&q_out),
        lower.write(&k_out),
    ];
    let grid = lower.grid(pairs.div_ceil(WG.into()));
    let shader = Template::new(label, include_str!("rope.wgsl"))
        .set("WG", WG)
        .flag("HALVES", halves)
        .flag("F16", float_is_half(q.dtype)?)
        .shader();
    let start = if halves { lower.cx.symbolic(4) } else { None };
    let launch = Launch { shader, bindings, params, grid, ops: 3 * (q.numel() + k.numel()) };
    lower.launch_live(launch, &[(6, start)])
}
