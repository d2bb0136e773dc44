//! Writing new keys and values into their caches.

use etwgpu_graph::{DType, Dims, ValueId};

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::template::Template;
use crate::{invalid, unsupported};

/// Checks that rows `value [B, S, H, D]` fit into `cache [B, C, H, D]` at a position.
pub(super) fn check(cx: &NodeCx<'_>, value: usize, cache: usize, position: usize) -> Result<(), OpError> {
    let (value, cache, position) = (cx.tensor(value)?, cx.tensor(cache)?, cx.int(position)?);
    let (v, c) = (&value.dims, &cache.dims);
    if v.len() != 4 || c.len() != 4 || v[0] != c[0] || v[2..] != c[2..] {
        return Err(invalid!("rows {:?} do not match a cache {:?}", &v[..], &c[..]));
    }
    if position < 0 || position.saturating_add(v[1].into()) > c[1].into() {
        return Err(invalid!("position {position} and {} tokens exceed a cache of {}", v[1], c[1]));
    }
    let float = |t: &TensorArg| matches!(t.dtype, DType::F32 | DType::F16);
    if !float(&value) || !float(&cache) {
        return Err(unsupported!("{:?} rows into a {:?} cache", value.dtype, cache.dtype));
    }
    if v[2] * v[3] % 4 != 0 {
        return Err(unsupported!("rows of {} elements; they must be a multiple of 4", v[2] * v[3]));
    }
    Ok(())
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
