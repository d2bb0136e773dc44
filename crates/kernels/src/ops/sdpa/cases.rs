//! Cases of attention and of key-value caches.

use etwgpu_graph::DType::{self, F16, F32};
use etwgpu_graph::ValueId;

use crate::cases::{Arg, Builder, Case};
use crate::reference::{Array, count};

/// Attention over caches.
#[derive(Clone, Copy, Debug)]
struct Cached {
    batch: u32,
    seq: u32,
    heads: u32,
    kv_heads: u32,
    width: u32,
    capacity: u32,
    position: i64,
    dtype: DType,
    cache: DType,
    /// Scores rise with the key from minus this to this, or fall when it is negative: large ones show whether the
    /// softmax subtracts its maximum, and whether parts of the context agree on it.
    peak: Option<f64>,
}

const BASE: Cached = Cached {
    batch: 1,
    seq: 1,
    heads: 4,
    kv_heads: 2,
    width: 32,
    capacity: 80,
    position: 0,
    dtype: F32,
    cache: F32,
    peak: None,
};

impl Cached {
    fn q_dims(&self) -> [u32; 4] {
        [self.batch, self.seq, self.heads, self.width]
    }

    fn new_dims(&self) -> [u32; 4] {
        [self.batch, self.seq, self.kv_heads, self.width]
    }

    fn cache_dims(&self) -> [u32; 4] {
        [self.batch, self.capacity, self.kv_heads, self.width]
    }

    /// Queries along one direction, keys along it by an amount that rises with their position, and some noise.
    fn scored(&self, b: &mut Builder, peak: f64) -> (Vec<f64>, Vec<f64>) {
        let width = self.width as usize;
        let side: Vec<f64> = b.random.signed(width, 1.0).into_iter().map(f64::signum).collect();
        let q = |_| side.iter().map(|s| s * peak / f64::from(self.width).sqrt()).collect::<Vec<f64>>();
        let queries = (0..count(&self.q_dims()) / width).flat_map(q).collect();
        let noise = b.random.signed(count(&self.cache_dims()) / width, 0.2);
        let rise = |row: usize| {
            let position = row as u32 / self.kv_heads % self.capacity;
            1.6 * f64::from(position) / f64::from(self.capacity) - 0.8
        };
        let amounts = noise.iter().enumerate().map(|(row, n)| rise(row) + n);
        let keys = amounts.flat_map(|amount| side.iter().map(move |s| s * amount)).collect();
        (queries, keys)
    }

    /// Queries and both caches; `bound` is the largest sequence.
    fn tensors(&self, b: &mut Builder, bound: u32) -> [ValueId; 3] {
        let (q, keys) = match self.peak {
            Some(peak) => self.scored(b, peak),
            None => {
                let q = b.random.signed(count(&self.q_dims()), 2.0);
                (q, b.random.signed(count(&self.cache_dims()), 2.0))
            }
        };
        let values = b.random.signed(count(&self.cache_dims()), 2.0);
        let [batch, _, heads, width] = self.q_dims();
        let q = b.input_below(&[batch, bound, heads, width], Array::new(self.dtype, &self.q_dims(), q));
        let keys = b.constant(self.cache, &self.cache_dims(), keys);
        [q, keys, b.constant(self.cache, &self.cache_dims(), values)]
    }

    /// `sdpa_with_kv_cache`, the position fixed or passed by the host; both caches are compared too.
    fn appended(&self, bound: u32, symbolic: bool) -> Case {
        let mut b = Builder::new(format!("sdpa_with_kv_cache {self:?} of {bound} {symbolic}"));
        let [q, keys, values] = self.tensors(&mut b, bound);
        let new = [(); 2].map(|()| {
            let elements = b.random.signed(count(&self.new_dims()), 2.0);
            let limit = [self.batch, bound, self.kv_heads, self.width];
            b.input_below(&limit, Array::new(self.dtype, &self.new_dims(), elements))
        });
        let position = if symbolic { b.integer(self.position).into() } else { Arg::Int(self.position) };
        let out = b.result(self.dtype, &[self.batch, bound, self.heads, self.width]);
        let head = [q, new[0], new[1], keys, values].map(Arg::Id).into_iter();
        let tail = [position, Arg::Int(1), Arg::None, Arg::Float(0.0), Arg::Bool(true), Arg::None];
        b.node("sdpa_with_kv_cache.default", &head.chain(tail).collect::<Vec<_>>(), &[out]);
        b.finish(&[out, keys, values])
    }

    /// `custom_sdpa` over filled caches.
    fn custom(&self, causal: bool, mask: Option<&[u32]>, scale: Arg) -> Case {
        self.custom_named("custom_sdpa.default", causal, mask, scale)
    }

    fn custom_named(&self, op: &'static str, causal: bool, mask: Option<&[u32]>, scale: Arg) -> Case {
        let mut b = Builder::new(format!("{op} {self:?} causal {causal} mask {mask:?} scale {scale:?}"));
        let [q, keys, values] = self.tensors(&mut b, self.seq);
        let mask = mask.map(|dims| random_mask(&mut b, self.dtype, dims));
        let out = b.result(self.dtype, &self.q_dims());
        let head = [q, keys, values].map(Arg::Id).into_iter();
        let tail = [self.position.into(), mask.into(), Arg::Int(0), Arg::Bool(causal), scale];
        b.node(op, &head.chain(tail).collect::<Vec<_>>(), &[out]);
        b.finish(&[out])
    }
}

/// Every third element hides its key, every row keeps its first.
fn random_mask(b: &mut Builder, dtype: DType, dims: &[u32]) -> ValueId {
    let mut values = b.random.signed(count(dims), 3.0);
    let width = dims.last().map_or(1, |&d| d as usize);
    for (i, v) in values.iter_mut().enumerate() {
        if i % width % 3 == 2 {
            *v = f64::NEG_INFINITY;
        }
    }
    b.input(dtype, dims, values)
}

/// `et_vk.sdpa` over `[…, H, S, D]`.
fn plain(dtype: DType, q: &[u32], kv: &[u32], mask: Option<&[u32]>, scale: Arg) -> Case {
    let mut b = Builder::new(format!("sdpa {dtype:?} {q:?} {kv:?} mask {mask:?} scale {scale:?}"));
    let query = b.noise(dtype, q);
    let (keys, values) = (b.noise(dtype, kv), b.noise(dtype, kv));
    let mask = mask.map(|dims| random_mask(&mut b, dtype, dims));
    let out = b.result(dtype, q);
    b.node("et_vk.sdpa.default", &[query.into(), keys.into(), values.into(), mask.into(), scale], &[out]);
    b.finish(&[out])
}

/// `update_cache`, whose output is the cache.
fn update(dims: [u32; 4], capacity: u32, position: i64, value: DType, cache: DType, symbolic: bool) -> Case {
    let mut b = Builder::new(format!(
        "update_cache {value:?} {dims:?} in {cache:?} {capacity} at {position} {symbolic}"
    ));
    let rows = b.noise(value, &dims);
    let full = [dims[0], capacity, dims[2], dims[3]];
    let start = b.random.signed(count(&full), 1.0);
    let cached = b.constant(cache, &full, start);
    let position = if symbolic { b.integer(position).into() } else { Arg::Int(position) };
    b.node("update_cache.default", &[rows.into(), cached.into(), position], &[cached]);
    b.finish(&[cached])
}

fn decode() -> Vec<Case> {
    let mut cases = Vec::new();
    for position in [0, 1, 3, 4, 7, 8, 31, 32, 63, 64, 79] {
        cases.push(Cached { position, ..BASE }.appended(1, true));
    }
    for (heads, kv_heads) in [(1, 1), (4, 4), (8, 1), (6, 2), (9, 3)] {
        cases.push(Cached { heads, kv_heads, position: 37, ..BASE }.appended(1, false));
    }
    for width in [4, 8, 12, 16, 48, 64, 80, 96, 128, 256] {
        cases.push(Cached { width, position: 37, ..BASE }.appended(1, false));
    }
    for (capacity, position) in [(300, 255), (300, 256), (300, 257), (1300, 511), (1300, 1024), (2200, 2100)]
    {
        cases.push(Cached { capacity, position, width: 16, ..BASE }.appended(1, true));
    }
    for (dtype, cache) in [(F16, F16), (F32, F16), (F16, F32)] {
        cases.push(Cached { dtype, cache, position: 70, ..BASE }.appended(1, true));
        cases.push(
            Cached { dtype, cache, position: 270, capacity: 300, width: 64, ..BASE }.appended(1, false),
        );
    }
    for peak in [Some(180.0), Some(-180.0)] {
        cases.push(Cached { peak, position: 63, ..BASE }.appended(1, false));
        cases.push(Cached { peak, position: 290, capacity: 300, ..BASE }.appended(1, false));
    }
    cases.push(Cached { batch: 3, position: 20, ..BASE }.appended(1, false));
    // A cache so long that workgroups take on more of it.
    let long = Cached { heads: 8, kv_heads: 8, width: 16, capacity: 8200, ..BASE };
    cases.extend([5, 8100].map(|position| Cached { position, ..long }.appended(1, false)));
    cases.extend(alone_and_parts());
    cases
}

/// Around the longest contexts that a workgroup for each query head walks alone: 16 turns of keys, of which a small
/// workgroup has half as many a turn as a large one. `routes` and a test in `attention.rs` hold both against these.
fn alone_and_parts() -> Vec<Case> {
    let at = |base: Cached, positions: &[i64]| -> Vec<Case> {
        positions.iter().map(|&position| Cached { position, ..base }.appended(1, true)).collect()
    };
    let wide = Cached { heads: 6, width: 64, capacity: 520, ..BASE };
    let mut cases = at(wide, &[126, 127, 128, 254, 255, 256, 511]);
    cases.extend(at(Cached { heads: 4, kv_heads: 1, cache: F16, ..wide }, &[127, 128, 255, 256]));
    // Lanes without channels.
    let odd = Cached { width: 96, batch: 2, heads: 2, capacity: 260, ..BASE };
    cases.extend(at(odd, &[62, 63, 64, 126, 127, 128]));
    // Sixteen heads a key head, where subgroups of eight and of 32 have room for them.
    let many = Cached { heads: 16, kv_heads: 1, ..BASE };
    cases.extend(at(Cached { width: 16, capacity: 300, ..many }, &[127, 128, 255, 256]));
    cases.extend(at(Cached { width: 128, capacity: 140, ..many }, &[63, 64, 127, 128]));
    // One part of a tiny cache, for few query heads and for more than there are workgroups.
    cases.extend(at(Cached { capacity: 4, kv_heads: 4, ..BASE }, &[3]));
    cases.extend(at(Cached { capacity: 4, kv_heads: 1, ..BASE }, &[3]));
    // Fewer parts than threads that share them, too few workgroups to walk alone, and maxima that parts must agree on.
    let narrow = Cached { width: 4, kv_heads: 1, capacity: 300, ..BASE };
    for peak in [Some(180.0), Some(-180.0)] {
        cases.extend(at(Cached { peak, ..wide }, &[512]));
        cases.extend(at(Cached { peak, ..narrow }, &[290]));
    }
    // A lane for all of a key, and more lanes than it takes because heads want them; heads that are no power of two.
    cases.extend(at(Cached { width: 4, heads: 2, ..BASE }, &[0, 37]));
    let long = Cached { width: 4, heads: 7, kv_heads: 1, capacity: 2200, ..BASE };
    cases.extend(at(long, &[511, 512, 1100]));
    cases.extend(at(Cached { width: 16, heads: 6, cache: F16, ..long }, &[2100]));
    cases.extend(at(Cached { width: 16, heads: 6, kv_heads: 2, batch: 2, ..long }, &[1024, 2048]));
    // More small sums than fit in 16 KiB beside what lanes exchange without shuffles.
    cases.extend(at(Cached { width: 16, heads: 7, kv_heads: 1, ..BASE }, &[50]));
    let seen = [127, 128, 255, 256].map(|position| Cached { seq: 1, position, ..wide });
    cases.extend(seen.map(|filled| filled.custom(false, None, Arg::None)));
    cases
}

fn prefill() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seq, position) in
        [(2, 0), (3, 5), (4, 0), (5, 2), (8, 8), (16, 0), (17, 1), (33, 30), (64, 0), (65, 3), (80, 0)]
    {
        cases.push(Cached { seq, position, ..BASE }.appended(80, true));
    }
    for width in [4, 16, 64, 80, 128, 256] {
        cases.push(Cached { width, seq: 9, position: 5, ..BASE }.appended(9, false));
    }
    for (heads, kv_heads) in [(1, 1), (3, 3), (8, 1), (6, 2)] {
        cases.push(Cached { heads, kv_heads, seq: 18, position: 7, ..BASE }.appended(40, false));
    }
    for (dtype, cache) in [(F16, F16), (F32, F16), (F16, F32)] {
        cases.push(Cached { dtype, cache, seq: 21, position: 11, ..BASE }.appended(64, true));
        cases.push(Cached { dtype, cache, seq: 40, width: 64, ..BASE }.appended(64, true));
    }
    for peak in [Some(180.0), Some(-180.0)] {
        cases.push(Cached { peak, seq: 20, position: 40, ..BASE }.appended(20, false));
        cases.push(Cached { peak, seq: 70, position: 5, ..BASE }.appended(75, false));
    }
    cases.push(Cached { batch: 2, seq: 6, position: 9, ..BASE }.appended(8, false));
    cases
}

fn filled() -> Vec<Case> {
    let at = Cached { seq: 5, position: 7, ..BASE };
    vec![
        at.custom(true, None, Arg::None),
        at.custom_named("llama.custom_sdpa.default", true, None, Arg::None),
        at.custom(false, None, Arg::Float(0.3)),
        at.custom(false, Some(&[5, 12]), Arg::None),
        at.custom(true, Some(&[1, 1, 5, 12]), Arg::Int(1)),
        at.custom(false, Some(&[1, 4, 1, 12]), Arg::None),
        Cached { seq: 1, ..at }.custom(true, None, Arg::None),
        Cached { seq: 1, position: 70, ..at }.custom(false, Some(&[1, 71]), Arg::Float(0.2)),
        Cached { seq: 1, position: 70, batch: 2, ..at }.custom(true, Some(&[2, 1, 1, 71]), Arg::None),
        Cached { dtype: F16, cache: F16, ..at }.custom(false, Some(&[5, 12]), Arg::None),
        Cached { peak: Some(-180.0), seq: 3, position: 60, ..at }.custom(true, None, Arg::None),
    ]
}

fn without_cache() -> Vec<Case> {
    let (q, kv): (&[u32], &[u32]) = (&[2, 4, 5, 16], &[2, 2, 7, 16]);
    let masks: &[&[u32]] =
        &[&[5, 7], &[1, 7], &[2, 1, 1, 7], &[2, 4, 5, 7], &[1, 4, 5, 1], &[4, 1, 7], &[2, 1, 5, 7]];
    let mut cases: Vec<Case> = masks.iter().map(|mask| plain(F32, q, kv, Some(mask), Arg::None)).collect();
    cases.extend([
        plain(F32, q, kv, None, Arg::Float(0.7)),
        plain(F16, q, kv, Some(masks[0]), Arg::None),
        plain(F32, &[3, 1, 8], &[3, 1, 8], None, Arg::None),
        plain(F32, &[1, 2, 2, 33, 64], &[1, 2, 2, 65, 64], Some(&[1, 1, 1, 33, 65]), Arg::None),
        plain(F32, &[1, 12, 17, 32], &[1, 12, 17, 32], None, Arg::Int(1)),
        plain(F32, &[1, 2, 1, 128], &[1, 2, 130, 128], None, Arg::None),
        plain(F16, &[1, 2, 70, 64], &[1, 2, 70, 64], None, Arg::None),
    ]);
    cases
}

fn updates() -> Vec<Case> {
    let mut cases = Vec::new();
    for (value, cache) in [(F32, F32), (F16, F16), (F32, F16), (F16, F32)] {
        cases.push(update([1, 1, 2, 8], 5, 4, value, cache, true));
        cases.push(update([1, 3, 1, 4], 3, 0, value, cache, false));
        cases.push(update([2, 2, 3, 20], 7, 3, value, cache, false));
    }
    cases.push(update([1, 40, 2, 64], 64, 20, F32, F32, true));
    cases
}

/// Every case.
pub fn all() -> Vec<Case> {
    [decode(), prefill(), filled(), without_cache(), updates()].concat()
}
