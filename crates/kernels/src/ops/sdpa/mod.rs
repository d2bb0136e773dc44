//! Scaled dot-product attention, with or without a key-value cache.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

mod cache;
#[cfg(feature = "sdpa-fd")]
mod decode;
mod flash;
mod flash_coop;
mod materialized;

use std::collections::BTreeSet;

use etwgpu_graph::{DType, Dims, Graph, Node, Value, ValueId};
use etwgpu_record::Binding;

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::op::{Body, OpDef};
use crate::route::Route;
use crate::template::Template;
use crate::{invalid, unsupported};

/// `q, k, v, k cache, v cache, position, seq_len, mask, dropout, is_causal, scale`: appends k and v to the caches,
/// then attends to everything up to each query's own position.
///
/// The exporter writes 1 for `seq_len` whatever the length; it is taken from q.
pub const SDPA_WITH_KV_CACHE: OpDef = OpDef {
    names: &["sdpa_with_kv_cache.default"],
    body: Body::Kernel {
        shape: |cx| {
            let problem = Problem::cached(cx, [0, 3, 4], 5, [7, 8, 9, 10])?;
            cache::check(cx, 1, 3, 5)?;
            cache::check(cx, 2, 4, 5)?;
            Ok(vec![problem.q.dims])
        },
        lower: |lower| {
            cache::append_both(lower)?;
            attend_cached(lower)
        },
    },
    mutates: &[3, 4],
    recheck: Some(|cx| {
        cache::check_position(cx, 1, 3, 5)?;
        cache::check_position(cx, 2, 4, 5)?;
        Problem::recheck(cx, [0, 3, 4], 5, [7, 8, 9, 10])
    }),
};

/// Records the attention of `sdpa_with_kv_cache`, whose caches hold the new rows already.
pub(crate) fn attend_cached(lower: &mut Lower<'_>) -> Result<(), OpError> {
    let problem = Problem::cached(&lower.cx, [0, 3, 4], 5, [7, 8, 9, 10])?;
    lower.choose(ROUTES, &problem)
}

/// `q, k cache, v cache, position, mask, dropout, is_causal, scale`: attention over caches that are already filled.
///
/// The exporter names operators that change nothing with their library.
pub const CUSTOM_SDPA: OpDef = OpDef {
    recheck: Some(|cx| Problem::recheck(cx, [0, 1, 2], 3, [4, 5, 6, 7])),
    ..OpDef::kernel(
        &["custom_sdpa.default", "llama.custom_sdpa.default"],
        |cx| Problem::cached(cx, [0, 1, 2], 3, [4, 5, 6, 7]).map(|p| vec![p.q.dims]),
        |lower| {
            let problem = Problem::cached(&lower.cx, [0, 1, 2], 3, [4, 5, 6, 7])?;
            lower.choose(ROUTES, &problem)
        },
    )
};

/// `q, k, v, mask, scale` in `[…, H, S, D]`, not causal.
pub const SDPA: OpDef = OpDef::kernel(
    &["et_vk.sdpa.default"],
    |cx| Problem::plain(cx).map(|p| vec![p.q.dims]),
    |lower| {
        let problem = Problem::plain(&lower.cx)?;
        lower.choose(ROUTES, &problem)
    },
);

/// `value, cache, position`: writes rows into a cache; the output is the cache.
pub const UPDATE_CACHE: OpDef = OpDef {
    names: &["update_cache.default"],
    body: Body::Kernel { shape: cache::update_shape, lower: cache::lower_update },
    mutates: &[1],
    recheck: Some(|cx| cache::check_position(cx, 0, 1, 2).map(drop)),
};

/// Arguments of an operator that are key-value caches `[B, C, H, D]`, all of one element type; none of other operators.
pub fn cache_arguments(op: &str) -> &'static [usize] {
    let defs: [(&OpDef, &[usize]); 3] =
        [(&SDPA_WITH_KV_CACHE, &[3, 4]), (&CUSTOM_SDPA, &[1, 2]), (&UPDATE_CACHE, &[1])];
    defs.into_iter().find(|(def, _)| def.names.contains(&op)).map_or(&[], |(_, at)| at)
}

/// All key caches, and all value caches, that operators use as these and as nothing else: what reads or writes a cache does
/// nothing to the others of its kind.
pub fn caches_by_kind(graph: &Graph) -> [Vec<ValueId>; 2] {
    let mut kinds = [BTreeSet::new(), BTreeSet::new()];
    for node in &graph.nodes {
        if let &[keys, values] = cache_arguments(&node.op) {
            for (kind, at) in kinds.iter_mut().zip([keys, values]) {
                kind.extend(node.args.get(at));
            }
        }
    }
    let of_kind = |kind: usize| {
        let is_other = |id: &ValueId| kinds[1 - kind].contains(id) || user_beside(graph, *id).is_some();
        kinds[kind].iter().copied().filter(|id| !is_other(id)).collect()
    };
    [of_kind(0), of_kind(1)]
}

/// The first node that uses a cache as something else.
pub(crate) fn user_beside(graph: &Graph, id: ValueId) -> Option<&Node> {
    let names = |value: ValueId| {
        value == id || matches!(graph.value(value), Value::List(items) if items.contains(&id))
    };
    graph.nodes.iter().find(|node| {
        let (args, caches) = (node.args.iter().enumerate(), cache_arguments(&node.op));
        let as_other = args.filter(|(at, _)| !caches.contains(at)).any(|(_, &arg)| names(arg));
        as_other || (node.outs.contains(&id) && caches.is_empty())
    })
}

/// Ways to attend, the most specific first.
pub const ROUTES: &[Route<Problem>] = &[
    #[cfg(feature = "sdpa-fd")]
    Route { name: "sdpa.flash_decoding", fits: decode::fits, record: decode::record },
    Route { name: "sdpa.flash_coop", fits: flash_coop::fits, record: flash_coop::record },
    Route { name: "sdpa.flash", fits: flash::fits, record: flash::record },
    Route { name: "sdpa.materialized", fits: materialized::fits, record: materialized::record },
    // These fit whenever the one above does, so they run only when they are asked for: to see what is gained over them.
    Route { name: "sdpa.naive", fits: materialized::fits, record: materialized::record_naive },
    Route { name: "sdpa.naive_coalesced", fits: materialized::fits, record: materialized::record_coalesced },
    Route { name: "sdpa.naive_skipping", fits: materialized::fits, record: materialized::record_skipping },
];

/// Distances between neighbours along batch, sequence and head, in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strides {
    batch: u32,
    seq: u32,
    head: u32,
}

/// Attention of `seq` queries to `context` keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Batch size.
    pub batch: u32,
    /// Queries.
    pub seq: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: u32,
    /// Channels of a head.
    pub head_dim: u32,
    /// Keys that any query may see.
    pub context: u32,
    /// Position of the first query: query `s` sees keys up to `position + s` when causal.
    pub position: u32,
    /// The symbolic integer that the position is, if it is one.
    symbolic: Option<ValueId>,
    /// Whether later keys are hidden.
    pub causal: bool,
    /// Factor on the scores.
    pub scale: f32,
    q: TensorArg,
    keys: TensorArg,
    values: TensorArg,
    mask: Option<TensorArg>,
    q_strides: Strides,
    kv_strides: Strides,
}

impl Problem {
    /// Tensors in `[B, S, H, D]`; `rest` are the positions of mask, dropout, is_causal and scale.
    fn cached(cx: &NodeCx<'_>, qkv: [usize; 3], position: usize, rest: [usize; 4]) -> Result<Self, OpError> {
        let [q, keys, values] = [cx.tensor(qkv[0])?, cx.tensor(qkv[1])?, cx.tensor(qkv[2])?];
        if q.dims.len() != 4 || keys.dims.len() != 4 || keys.dims != values.dims {
            return Err(invalid!(
                "queries {:?}, keys {:?}, values {:?}",
                &q.dims[..],
                &keys.dims[..],
                &values.dims[..]
            ));
        }
        let symbolic = cx.symbolic(position);
        let position = cache::check_position(cx, qkv[0], qkv[1], position)?;
        let causal = cx.bool_or(rest[2], true)?;
        let [batch, seq, heads, head_dim] = [q.dims[0], q.dims[1], q.dims[2], q.dims[3]];
        let kv_heads = keys.dims[2];
        let problem = Self {
            batch,
            seq,
            heads,
            kv_heads,
            head_dim,
            context: position + seq,
            position,
            symbolic,
            causal,
            scale: scale(cx, rest[3], head_dim)?,
            mask: cx.tensor_opt(rest[0])?,
            q_strides: Strides { batch: seq * heads * head_dim, seq: heads * head_dim, head: head_dim },
            kv_strides: Strides {
                batch: keys.dims[1..].iter().product(),
                seq: keys.dims[2..].iter().product(),
                head: keys.width(),
            },
            q,
            keys,
            values,
        };
        if cx.float_opt(rest[1])?.unwrap_or(0.0) != 0.0 {
            return Err(unsupported!("dropout"));
        }
        problem.checked()
    }

    /// What of [`Problem::cached`] depends on the position.
    fn recheck(cx: &NodeCx<'_>, qkv: [usize; 3], position: usize, rest: [usize; 4]) -> Result<(), OpError> {
        match cx.value(rest[0]) {
            Value::None => cache::check_position(cx, qkv[0], qkv[1], position).map(drop),
            // A mask is as wide as the context.
            _ => Self::cached(cx, qkv, position, rest).map(drop),
        }
    }

    /// Tensors in `[…, H, S, D]`.
    fn plain(cx: &NodeCx<'_>) -> Result<Self, OpError> {
        let (q, keys, values) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        let rank = q.dims.len();
        if rank < 3 || keys.dims.len() != rank || keys.dims != values.dims {
            return Err(invalid!(
                "queries {:?}, keys {:?}, values {:?}",
                &q.dims[..],
                &keys.dims[..],
                &values.dims[..]
            ));
        }
        let [heads, seq, head_dim] = [q.dims[rank - 3], q.dims[rank - 2], q.dims[rank - 1]];
        let [kv_heads, context] = [keys.dims[rank - 3], keys.dims[rank - 2]];
        let problem = Self {
            batch: q.dims[..rank - 3].iter().product(),
            seq,
            heads,
            kv_heads,
            head_dim,
            context,
            position: 0,
            symbolic: None,
            causal: false,
            scale: scale(cx, 4, head_dim)?,
            mask: cx.tensor_opt(3)?,
            q_strides: Strides { batch: heads * seq * head_dim, seq: head_dim, head: seq * head_dim },
            kv_strides: Strides {
                batch: keys.dims[rank - 3..].iter().product(),
                seq: keys.width(),
                head: keys.dims[rank - 2..].iter().product(),
            },
            q,
            keys,
            values,
        };
        problem.checked()
    }

    fn checked(self) -> Result<Self, OpError> {
        let [q, keys] = [&self.q, &self.keys];
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(4) {
            return Err(unsupported!("head dimension {}; it must be a multiple of 4", self.head_dim));
        }
        if keys.width() != self.head_dim || self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(invalid!("queries {:?} do not match keys {:?}", &q.dims[..], &keys.dims[..]));
        }
        let float = |t: &TensorArg| matches!(t.dtype, DType::F32 | DType::F16);
        if !float(q) || !float(keys) || self.values.dtype != keys.dtype {
            return Err(unsupported!(
                "{:?} queries with {:?} keys and {:?} values",
                q.dtype,
                keys.dtype,
                self.values.dtype
            ));
        }
        if let Some(mask) = &self.mask {
            mask_strides(mask, &self)?;
            if mask.dtype != q.dtype {
                return Err(unsupported!("{:?} mask for {:?} queries", mask.dtype, q.dtype));
            }
        }
        Ok(self)
    }

    /// Query heads that share a key head.
    pub fn group(&self) -> u32 {
        self.heads / self.kv_heads
    }

    /// Multiplications and additions of both products, counting what the causal mask leaves.
    pub fn ops(&self) -> u64 {
        let rows = u64::from(self.batch) * u64::from(self.heads);
        let (seq, context) = (u64::from(self.seq), u64::from(self.context));
        let hidden = if self.causal { seq * seq.saturating_sub(1) / 2 } else { 0 };
        4 * rows * u64::from(self.head_dim) * (seq * context - hidden)
    }

    /// Binds the keys.
    fn keys(&self, lower: &mut Lower<'_>) -> Binding {
        lower.read(&self.keys).touching(self.seen_bytes())
    }

    /// Binds the values.
    fn values(&self, lower: &mut Lower<'_>) -> Binding {
        lower.read(&self.values).touching(self.seen_bytes())
    }

    /// Bytes of the keys, or of the values, that any query sees: a cache is rarely full.
    fn seen_bytes(&self) -> u64 {
        let rows = u64::from(self.batch) * u64::from(self.kv_heads) * u64::from(self.context);
        rows * u64::from(self.head_dim) * self.keys.dtype.size()
    }

    /// Flags and constants that every attention kernel takes.
    fn template(&self, label: &'static str, text: &'static str) -> Template {
        Template::new(label, text)
            .set("D", self.head_dim)
            .set("GROUP", self.group())
            .flag("F16", self.q.dtype == DType::F16)
            .flag("CACHE_F16", self.keys.dtype == DType::F16)
            .flag("CAUSAL", self.causal)
            .flag("MASK", self.mask.is_some())
    }

    /// The uniform block that `attention.wgsl` declares; strides in `vec4`s.
    fn params(&self) -> Result<Vec<u32>, OpError> {
        let [q, kv] = [self.q_strides, self.kv_strides];
        let keys = self.context - self.position;
        let mut params = vec![self.batch, self.seq, self.heads, keys, self.position, self.scale.to_bits()];
        params.extend([q.batch, q.seq, q.head, kv.batch, kv.seq, kv.head].map(|s| s / 4));
        params.extend(match &self.mask {
            Some(mask) => mask_strides(mask, self)?,
            None => [0; 4],
        });
        Ok(params)
    }

    /// Adds a launch whose position follows the symbolic integer that it is.
    fn launch(&self, lower: &mut Lower<'_>, launch: Launch) -> Result<(), OpError> {
        lower.launch_live(launch, &[(4, self.symbolic)])
    }

    fn out(&self, lower: &Lower<'_>) -> Result<TensorArg, OpError> {
        let out = lower.cx.out(0)?;
        if out.dtype != self.q.dtype {
            return Err(unsupported!("{:?} queries into {:?}", self.q.dtype, out.dtype));
        }
        Ok(out)
    }
}

fn scale(cx: &NodeCx<'_>, index: usize, head_dim: u32) -> Result<f32, OpError> {
    Ok(cx.float_opt(index)?.unwrap_or_else(|| 1.0 / f64::from(head_dim).sqrt()) as f32)
}

/// Strides of a mask that broadcasts to `[B, H, S, C]`; zero along broadcast dimensions.
fn mask_strides(mask: &TensorArg, problem: &Problem) -> Result<[u32; 4], OpError> {
    let full = [problem.batch, problem.heads, problem.seq, problem.context];
    let mut sizes: Dims = mask.dims.clone();
    while sizes.len() > 4 && sizes[0] == 1 {
        sizes.remove(0);
    }
    let mut strides = [0; 4];
    let mut stride = 1;
    for (i, &size) in sizes.iter().enumerate().rev() {
        let at = (i + 4).checked_sub(sizes.len());
        match at.map(|at| (at, full[at])) {
            Some((at, want)) if size == want && size != 1 => strides[at] = stride,
            Some(_) if size == 1 => {}
            _ => return Err(invalid!("mask {:?} does not broadcast to {full:?}", &mask.dims[..])),
        }
        stride *= size;
    }
    Ok(strides)
}
