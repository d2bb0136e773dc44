// What every attention kernel shares: sizes, strides in vec4s, visibility.
#import elem
#import cache_elem
#import grid
struct Params {
    batch: u32,
    seq: u32,
    heads: u32,
    // Keys from `position` on.
    new_keys: u32,
    position: u32,
    scale: f32,
    q_batch: u32,
    q_seq: u32,
    q_head: u32,
    kv_batch: u32,
    kv_seq: u32,
    kv_head: u32,
    mask_batch: u32,
    mask_head: u32,
    mask_seq: u32,
    mask_key: u32,
}
@group(0) @binding(0) var<uniform> p: Params;

const QUADS = D / 4u;
// Stands for minus infinity where a difference of two of them must stay finite.
const HIDDEN = -1e30;

// Keys that any query may see.
fn context() -> u32 {
    return p.position + p.new_keys;
}

// Keys that query row s sees.
fn visible(s: u32) -> u32 {
#ifdef CAUSAL
    return min(p.position + s + 1u, context());
#else
    return context();
#endif
}

fn q_at(b: u32, s: u32, h: u32) -> u32 {
    return b * p.q_batch + s * p.q_seq + h * p.q_head;
}

// Position of key 0 for query head h.
fn kv_at(b: u32, h: u32) -> u32 {
    return b * p.kv_batch + h / GROUP * p.kv_head;
}

fn mask_at(b: u32, h: u32, s: u32, c: u32) -> u32 {
    return b * p.mask_batch + h * p.mask_head + s * p.mask_seq + c * p.mask_key;
}
