// scores[b, h, s, c] = scale * q · k (+ mask), four queries by four keys an invocation.
// Tiles that no query of theirs may see are skipped; the softmax does not read them.
#import attention
@group(0) @binding(1) var<storage, read> q: array<elem4>;
@group(0) @binding(2) var<storage, read> keys: array<cache4>;
@group(0) @binding(3) var<storage, read_write> scores: array<vec4<f32>>;
#ifdef MASK
@group(0) @binding(4) var<storage, read> mask: array<elem>;
#endif

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let key_tiles = (context() + 3u) / 4u;
    let row_tiles = (p.seq + 3u) / 4u;
    let i = linear_thread(ids);
    let c0 = i % key_tiles * 4u;
    let s0 = i / key_tiles % row_tiles * 4u;
    let bh = i / key_tiles / row_tiles;
    if bh >= p.batch * p.heads { return; }
    let b = bh / p.heads;
    let h = bh % p.heads;
    let last = p.seq - 1u;
#ifndef ALL_TILES
    if c0 >= visible(min(s0 + 3u, last)) { return; }
#endif
    let kv = kv_at(b, h);
    let last_key = context() - 1u;
    var sums: array<vec4<f32>, 4>;
    for (var d = 0u; d < QUADS; d++) {
        let k0 = vec4<f32>(keys[kv + c0 * p.kv_seq + d]);
        let k1 = vec4<f32>(keys[kv + min(c0 + 1u, last_key) * p.kv_seq + d]);
        let k2 = vec4<f32>(keys[kv + min(c0 + 2u, last_key) * p.kv_seq + d]);
        let k3 = vec4<f32>(keys[kv + min(c0 + 3u, last_key) * p.kv_seq + d]);
        for (var r = 0u; r < 4u; r++) {
            let v = vec4<f32>(q[q_at(b, min(s0 + r, last), h) + d]);
            sums[r] += vec4(dot(v, k0), dot(v, k1), dot(v, k2), dot(v, k3));
        }
    }
    for (var r = 0u; r < 4u; r++) {
        var v = sums[r] * p.scale;
#ifdef MASK
        for (var j = 0u; j < 4u; j++) {
            let m = f32(mask[mask_at(b, h, min(s0 + r, last), min(c0 + j, last_key))]);
            v[j] = max(v[j] + m, HIDDEN);
        }
#endif
        scores[(bh * row_tiles * 4u + s0 + r) * key_tiles + c0 / 4u] = v;
    }
}
