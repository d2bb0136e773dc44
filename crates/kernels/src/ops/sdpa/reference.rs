//! Attention, one query at a time.

use crate::args::OpError;
use crate::reference::{Array, Eval};

/// Where element `[b, s, h, d]` of a tensor is.
#[derive(Clone, Copy)]
struct Layout {
    seq: usize,
    heads: usize,
    width: usize,
    /// Heads vary faster than positions.
    heads_inside: bool,
}

impl Layout {
    fn row(&self, b: usize, s: usize, h: usize) -> usize {
        let at = if self.heads_inside {
            (b * self.seq + s) * self.heads + h
        } else {
            (b * self.heads + h) * self.seq + s
        };
        at * self.width
    }
}

struct Attention<'a> {
    batch: usize,
    q: (&'a Array, Layout),
    keys: (&'a Array, Layout),
    values: &'a Array,
    /// Added to the score of batch, head, query and key.
    bias: &'a dyn Fn(usize, usize, usize, usize) -> f64,
    /// Keys that a query sees.
    visible: &'a dyn Fn(usize) -> usize,
    scale: f64,
}

impl Attention<'_> {
    fn run(&self) -> Vec<f64> {
        let ((q, ql), (k, kl)) = (self.q, self.keys);
        let mut out = vec![0.0; q.values.len()];
        for b in 0..self.batch {
            for h in 0..ql.heads {
                let kv_head = h / (ql.heads / kl.heads);
                for s in 0..ql.seq {
                    let query = ql.row(b, s, h);
                    let score = |c: usize| {
                        let key = kl.row(b, c, kv_head);
                        let dot: f64 = (0..ql.width).map(|d| q.values[query + d] * k.values[key + d]).sum();
                        dot * self.scale + (self.bias)(b, h, s, c)
                    };
                    let scores: Vec<f64> = (0..(self.visible)(s)).map(score).collect();
                    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|v| (v - highest).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for (c, w) in weights.iter().enumerate() {
                        let value = kl.row(b, c, kv_head);
                        for d in 0..ql.width {
                            out[query + d] += w / total * self.values.values[value + d];
                        }
                    }
                }
            }
        }
        out
    }
}

/// The element of a mask that broadcasts to `[B, H, S, C]`.
fn masked(mask: Option<&Array>, at: [usize; 4]) -> f64 {
    let Some(mask) = mask else { return 0.0 };
    let sizes = mask.sizes();
    let mut index = 0;
    for (i, &size) in sizes.iter().enumerate() {
        // Dimensions align on the right; leading ones beyond the fourth have size one.
        let position = (i + 4).checked_sub(sizes.len()).map_or(0, |j| at[j]);
        index = index * size + if size == 1 { 0 } else { position };
    }
    mask.values[index]
}

fn scale(eval: &Eval<'_>, index: usize, width: usize) -> Result<f64, OpError> {
    Ok(eval.cx().float_opt(index)?.unwrap_or(1.0 / (width as f64).sqrt()))
}

fn cached(eval: &mut Eval<'_>, qkv: [usize; 3], position: usize, rest: [usize; 3]) -> Result<(), OpError> {
    let [q, keys, values] = [eval.array(qkv[0])?, eval.array(qkv[1])?, eval.array(qkv[2])?];
    let [mask, causal, scale_at] = rest;
    let start = eval.cx().int(position)? as usize;
    let mask = eval.array_opt(mask)?;
    let causal = eval.cx().bool_or(causal, true)?;
    let layout = |t: &Array| {
        let sizes = t.sizes();
        Layout { seq: sizes[1], heads: sizes[2], width: sizes[3], heads_inside: true }
    };
    let (ql, kl) = (layout(q), layout(keys));
    let attention = Attention {
        batch: q.dims[0] as usize,
        q: (q, ql),
        keys: (keys, kl),
        values,
        bias: &|b, h, s, c| masked(mask, [b, h, s, c]),
        visible: &|s| start + if causal { s + 1 } else { ql.seq },
        scale: scale(eval, scale_at, ql.width)?,
    };
    let (out, dims) = (attention.run(), q.dims.clone());
    eval.set(0, &dims, out);
    Ok(())
}

/// `cache[:, position…] = rows`.
fn append(eval: &mut Eval<'_>, rows: usize, cache: usize, position: usize) -> Result<(), OpError> {
    let (rows, old) = (eval.array(rows)?, eval.array(cache)?);
    let position = eval.cx().int(position)? as usize;
    let (seq, capacity) = (rows.dims[1] as usize, old.dims[1] as usize);
    let row = old.values.len() / (old.dims[0] as usize * capacity);
    let mut values = old.values.clone();
    for (i, &v) in rows.values.iter().enumerate() {
        let (b, s) = (i / row / seq, i / row % seq);
        values[(b * capacity + position + s) * row + i % row] = v;
    }
    eval.set_arg(cache, values)
}

/// Appends keys and values, then attends.
pub fn with_kv_cache(eval: &mut Eval<'_>) -> Result<(), OpError> {
    append(eval, 1, 3, 5)?;
    append(eval, 2, 4, 5)?;
    cached(eval, [0, 3, 4], 5, [7, 9, 10])
}

/// Attends to caches that are already filled.
pub fn custom(eval: &mut Eval<'_>) -> Result<(), OpError> {
    cached(eval, [0, 1, 2], 3, [4, 6, 7])
}

/// Attention over `[…, H, S, D]`, nothing hidden but by the mask.
pub fn plain(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (q, keys, values, mask) = (eval.array(0)?, eval.array(1)?, eval.array(2)?, eval.array_opt(3)?);
    let layout = |t: &Array| {
        let sizes = t.sizes();
        let [heads, seq, width] = sizes[sizes.len() - 3..] else { panic!("[…, H, S, D]") };
        Layout { seq, heads, width, heads_inside: false }
    };
    let (ql, kl) = (layout(q), layout(keys));
    let attention = Attention {
        batch: q.values.len() / (ql.heads * ql.seq * ql.width),
        q: (q, ql),
        keys: (keys, kl),
        values,
        bias: &|b, h, s, c| masked(mask, [b, h, s, c]),
        visible: &|_| kl.seq,
        scale: scale(eval, 4, ql.width)?,
    };
    let (out, dims) = (attention.run(), q.dims.clone());
    eval.set(0, &dims, out);
    Ok(())
}

/// Writes rows into a cache. The declared output is the cache itself, or a token that nothing reads.
pub fn update_cache(eval: &mut Eval<'_>) -> Result<(), OpError> {
    append(eval, 0, 1, 2)
}
