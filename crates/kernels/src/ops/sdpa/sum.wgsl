// out[b, s, h, :] = sum over keys of probability * value; four queries by four channels an invocation.
// Neighbouring invocations read neighbouring channels, and no key past the tile's last query.
#import attention
@group(0) @binding(1) var<storage, read> scores: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> values: array<cache4>;
@group(0) @binding(3) var<storage, read_write> out: array<elem4>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let row_tiles = (p.seq + 3u) / 4u;
    let i = linear_thread(ids);
#ifdef STRIDED
    // Neighbours read different heads: what the other order is compared with.
    let bh = i % (p.batch * p.heads);
    let s0 = i / (p.batch * p.heads) % row_tiles * 4u;
    let d = i / (p.batch * p.heads) / row_tiles;
    if d >= QUADS { return; }
#else
    let d = i % QUADS;
    let s0 = i / QUADS % row_tiles * 4u;
    let bh = i / QUADS / row_tiles;
    if bh >= p.batch * p.heads { return; }
#endif
    let b = bh / p.heads;
    let h = bh % p.heads;
    let key_tiles = (context() + 3u) / 4u;
    let row = (bh * row_tiles * 4u + s0) * key_tiles;
    let last = p.seq - 1u;
    let rows = min(last - s0, 3u);
#ifdef ALL_TILES
    let end = context();
#else
    let end = visible(s0 + rows);
#endif
    let kv = kv_at(b, h) + d;
    var sums: array<vec4<f32>, 4>;
    for (var c = 0u; c < end; c += 4u) {
        var v: array<vec4<f32>, 4>;
        for (var j = 0u; j < 4u; j++) { v[j] = vec4<f32>(values[kv + min(c + j, end - 1u) * p.kv_seq]); }
        for (var r = 0u; r <= rows; r++) {
            let w = scores[row + r * key_tiles + c / 4u];
            sums[r] += w.x * v[0] + w.y * v[1] + w.z * v[2] + w.w * v[3];
        }
    }
    for (var r = 0u; r <= rows; r++) { out[q_at(b, s0 + r, h) + d] = elem4(sums[r]); }
}
