//! From a normalised row to attention: query, key and value projections, rotation, and the cache write in one launch,
//! attention behind it.

use etwgpu_graph::ValueId;
use etwgpu_record::Caps;

use super::linears::{self, Linears, record_nodes};
use super::{Found, Fused, Miss, View, near};
use crate::args::{NodeCx, OpError};
use crate::lower::{Lower, Planner};
use crate::ops::linear::joint::{Epilogue, RopeCache};
use crate::ops::{rope, sdpa};
use crate::route::{Refusal, require};

struct AttentionFront {
    /// Queries, keys, values.
    linears: Linears,
    rope: usize,
    halves: bool,
    attention: usize,
    result: ValueId,
}

pub(super) fn find(view: &View<'_>) -> Found {
    Found::at(view.named(sdpa::SDPA_WITH_KV_CACHE.names[0]), |attention| ending_at(view, attention))
}

fn ending_at(view: &View<'_>, attention: usize) -> Result<AttentionFront, Miss> {
    let ropes = [rope::PAIRS.names[0], rope::HALVES.names[0]];
    let rope = view.producer(attention, 0, &ropes);
    let rope = rope.ok_or_else(|| near("the queries are not rotated right before attention"))?;
    let outs = &view.node(rope).outs;
    let in_order = outs.len() == 2
        && view.arg(attention, 0) == Some(view.storage.root(outs[0]))
        && view.arg(attention, 1) == Some(view.storage.root(outs[1]));
    if !in_order {
        return Err(near("queries and keys are not the two results of one rotation"));
    }
    let q = linears::layer(view, rope, 0, "what becomes the queries")?;
    let k = linears::layer(view, rope, 1, "what becomes the keys")?;
    let v = linears::layer(view, attention, 2, "what becomes the values")?;
    let linears = Linears::of(view, &[q, k, v])?;
    let halves = view.node(rope).op == rope::HALVES.names[0];
    let result = *view.node(attention).outs.first().ok_or(None)?;
    Ok(AttentionFront { linears, rope, halves, attention, result })
}

impl AttentionFront {
    fn epilogue(&self, cx: &NodeCx<'_>) -> Result<Epilogue, OpError> {
        let (rope, attention) = (cx.at(self.rope), cx.at(self.attention));
        let q_out = rope.out(0)?;
        Ok(Epilogue::RopeCache(RopeCache {
            cos: rope.tensor(2)?,
            sin: rope.tensor(3)?,
            halves: self.halves,
            table_start: if self.halves { rope.int(4)? as u32 } else { 0 },
            head_dim: q_out.width(),
            q_out,
            key_cache: attention.tensor(3)?,
            value_cache: attention.tensor(4)?,
            position: attention.int(5)? as u32,
            symbolic_position: attention.symbolic(5),
            symbolic_start: if self.halves { rope.symbolic(4) } else { None },
        }))
    }

    /// Whether one launch can do everything up to the caches.
    fn fits_all(&self, cx: &NodeCx<'_>, caps: &Caps) -> Result<(), Refusal> {
        let epilogue = self.epilogue(cx).map_err(|e| e.to_string())?;
        if let Epilogue::RopeCache(rope) = &epilogue {
            require(rope.q_out.dims[0] == 1, "more than one sequence")?;
            require(rope.head_dim % 4 == 0, "the head dimension is not a multiple of 4")?;
            require(!rope.halves || rope.cos.width() == rope.head_dim, "only part of each head is rotated")?;
        }
        self.linears.fits_all(cx, caps, epilogue)
    }
}

impl Fused for AttentionFront {
    fn name(&self) -> &'static str {
        "fuse.attention_front"
    }

    fn nodes(&self) -> Vec<usize> {
        let mut nodes = self.linears.nodes();
        nodes.extend([self.rope, self.attention]);
        nodes.sort_unstable();
        nodes
    }

    fn results(&self) -> Vec<ValueId> {
        vec![self.result]
    }

    fn fits(&self, cx: &NodeCx<'_>, planner: &Planner<'_>) -> Result<(), Refusal> {
        let Err(refusal) = self.fits_all(cx, planner.caps) else { return Ok(()) };
        let outs = self.linears.outs(cx).map_err(|e| e.to_string())?;
        let products = self.linears.fits_products(cx, planner, Epilogue::Store(outs));
        products.map_err(|products| format!("{refusal}; the projections alone: {products}").into())
    }

    fn record(&self, lower: &mut Lower<'_>) -> Result<(), OpError> {
        let cx = lower.cx;
        let in_one = self.fits_all(&cx, lower.caps());
        lower.consider("norm_qkv_rope_cache", in_one.clone());
        if in_one.is_err() {
            lower.consider("qkv_coop", Ok(()));
            let outs = self.linears.outs(&cx)?;
            self.linears.record_products(lower, Epilogue::Store(outs), "qkv_coop")?;
            return record_nodes(lower, &[self.rope, self.attention]);
        }
        let epilogue = self.epilogue(&cx)?;
        self.linears.record_all(lower, epilogue, "norm_qkv_rope_cache")?;
        lower.for_node(self.attention, sdpa::attend_cached)
    }
}
