//! Writing new keys and values into their caches.

use etwgpu_graph::{DType, Dims, ValueId};

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::template::Template;
use crate::{invalid, unsupported};

/// Checks that rows `value [B, S, H, D]` fit into `cache [B, C, H, D]` at a position.
pub(super) fn check(cx: &NodeCx<'_>, value: usize, cache: usize, position: usize) -> Result<(), OpError> {
    let (rows, c) = (cx.dims(value)?, cx.dims(cache)?);
    if rows.len() != 4 || c.len() != 4 || rows[0] != c[0] || rows[2..] != c[2..] {
        return Err(invalid!("rows {:?} do not match a cache {:?}", &rows[..], &c[..]));
    }
    check_position(cx, value, cache, position)?;
    let (value, cache) = (cx.tensor(value)?, cx.tensor(cache)?);
    let float = |t: &TensorArg| matches!(t.dtype, DType::F32 | DType::F16);
    if !float(&value) || !float(&cache) {
        return Err(unsupported!("{:?} rows into a {:?} cache", value.dtype, cache.dtype));
    }
    if c[2] * c[3] % 4 != 0 {
        return Err(unsupported!("rows of {} elements; they must be a multiple of 4", c[2] * c[3]));
    }
    Ok(())
}

/// The position, once the tokens of `rows [B, S, …]` are seen to fit into `cache [B, C, …]` from there on.
pub(super) fn check_position(
    cx: &NodeCx<'_>,
    rows: usize,
    cache: usize,
    position: usize,
) -> Result<u32, OpError> {
    let length = |index| cx.dims(index).map(|dims| dims.get(1).copied().unwrap_or(0));
    let (tokens, capacity, position) = (length(rows)?, length(cache)?, cx.int(position)?);
    if position < 0 || position.saturating_add(tokens.into()) > capacity.into() {
        return Err(invalid!("position {position} and {tokens} tokens exceed a cache of {capacity}"));
    }
    Ok(position as u32)
}

pub(super) fn update_shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    check(cx, 0, 1, 2)?;
    // The declared output is either the cache itself or a token that nothing reads.
    let out = cx.node().outs.first().and_then(|&id| cx.graph.tensor(id));
    Ok(vec![out.map(|t| t.dims.clone()).unwrap_or_default()])
}

pub(super) fn lower_update(lower: &mut Lower<'_>) -> Result<(), OpError> {
    let (value, cache, position) = (lower.cx.tensor(0)?, lower.cx.tensor(1)?, lower.cx.int(2)?);
    append(lower, &[(value, cache)], position as u32, lower.cx.symbolic(2))
}

/// Appends the new keys and values of `sdpa_with_kv_cache` in one launch.
pub(super) fn append_both(lower: &mut Lower<'_>) -> Result<(), OpError> {
    let cx = &lower.cx;
    let pairs = [(cx.tensor(1)?, cx.tensor(3)?), (cx.tensor(2)?, cx.tensor(4)?)];
    let position = cx.int(5)?;
    append(lower, &pairs, position as u32, lower.cx.symbolic(5))
}

fn append(
    lower: &mut Lower<'_>,
    pairs: &[(TensorArg, TensorArg)],
    position: u32,
    symbolic: Option<ValueId>,
) -> Result<(), OpError> {
    const WG: u32 = 64;
    let Some((value, cache)) = pairs.first() else { return Ok(()) };
    let row = value.dims[2] * value.dims[3] / 4;
    let (per_batch, cache_batch) = (value.dims[1] * row, cache.dims[1] * row);
    let params = vec![value.dims[0] * per_batch, per_batch, cache_batch, row, position];
    let mut bindings = Vec::new();
    for (value, cache) in pairs {
        bindings.push(lower.read(value));
        bindings.push(lower.write(cache).touching(value.numel() * cache.dtype.size()));
    }
    let grid = lower.grid(u64::from(params[0]).div_ceil(WG.into()));
    let shader = Template::new("update_cache", include_str!("update_cache.wgsl"))
        .set("WG", WG)
        .flag("F16", value.dtype == DType::F16)
        .flag("CACHE_F16", cache.dtype == DType::F16)
        .flag("BOTH", pairs.len() == 2)
        .shader();
    lower.launch_live(Launch { shader, bindings, params, grid, ops: 0 }, &[(4, symbolic)])
}
