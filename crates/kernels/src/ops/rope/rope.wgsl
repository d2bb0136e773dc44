// Rotates channel pairs of queries and keys, one pair an invocation: first all of q, then all of k.
#import elem
#import grid
struct Params {
    pairs: u32,
    seq: u32,
    q_heads: u32,
    k_heads: u32,
    head_dim: u32,
    table_width: u32,
    start: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<elem>;
@group(0) @binding(2) var<storage, read> k: array<elem>;
@group(0) @binding(3) var<storage, read> cos_table: array<elem>;
@group(0) @binding(4) var<storage, read> sin_table: array<elem>;
@group(0) @binding(5) var<storage, read_write> q_out: array<elem>;
@group(0) @binding(6) var<storage, read_write> k_out: array<elem>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i >= p.pairs { return; }
    let half_dim = p.head_dim / 2u;
    // q and k together form rows of q_heads + k_heads heads.
    let heads = p.q_heads + p.k_heads;
    let pair = i % half_dim;
    let head = (i / half_dim) % heads;
    let token = i / half_dim / heads;
    let is_q = head < p.q_heads;
    let row = select(token * p.k_heads + head - p.q_heads, token * p.q_heads + head, is_q);
    let position = p.start + token % p.seq;
#ifdef HALVES
    // Each half has its own table column; channels past the table's width are copied.
    let rotated_half = p.table_width / 2u;
    let rotates = pair < rotated_half;
    let first = select(p.table_width + 2u * (pair - rotated_half), pair, rotates);
    let second = select(first + 1u, pair + rotated_half, rotates);
    let at = position * p.table_width;
    let c1 = select(1.0, f32(cos_table[at + first % p.table_width]), rotates);
    let s1 = select(0.0, f32(sin_table[at + first % p.table_width]), rotates);
    let c2 = select(1.0, f32(cos_table[at + second % p.table_width]), rotates);
    let s2 = select(0.0, f32(sin_table[at + second % p.table_width]), rotates);
#else
    let first = 2u * pair;
    let second = first + 1u;
    let c1 = f32(cos_table[position * p.table_width + pair]);
    let s1 = f32(sin_table[position * p.table_width + pair]);
    let c2 = c1;
    let s2 = s1;
#endif
    let base = row * p.head_dim;
    if is_q {
        let a = f32(q[base + first]);
        let b = f32(q[base + second]);
        q_out[base + first] = elem(a * c1 - b * s1);
        q_out[base + second] = elem(b * c2 + a * s2);
    } else {
        let a = f32(k[base + first]);
        let b = f32(k[base + second]);
        k_out[base + first] = elem(a * c1 - b * s1);
        k_out[base + second] = elem(b * c2 + a * s2);
    }
}
