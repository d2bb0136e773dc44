// ROWS queries of one head a workgroup against tiles of KEYS keys; grid: query tiles, heads, batch.
// SHARE invocations hold a query: each computes some of its scores, and some channels of its sum.
#import attention
@group(0) @binding(1) var<storage, read> q: array<elem4>;
@group(0) @binding(2) var<storage, read> keys: array<cache4>;
@group(0) @binding(3) var<storage, read> values: array<cache4>;
@group(0) @binding(4) var<storage, read_write> out: array<elem4>;
#ifdef MASK
@group(0) @binding(5) var<storage, read> mask: array<elem>;
#endif

// Padded, so that the rows of a tile fall into different banks.
const PITCH = QUADS + 1u;
const MINE = KEYS / SHARE;
var<workgroup> queries: array<vec4<f32>, ROWS * PITCH>;
// Keys, then values.
var<workgroup> tile: array<vec4<f32>, KEYS * PITCH>;
var<workgroup> weights: array<f32, ROWS * KEYS>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let s0 = ids.wid.x * ROWS;
    let h = ids.wid.y;
    let b = ids.wid.z;
    let last = p.seq - 1u;
    let kv = kv_at(b, h);
    for (var i = ids.lid; i < ROWS * QUADS; i += WG) {
        let at = q_at(b, min(s0 + i / QUADS, last), h) + i % QUADS;
        queries[i / QUADS * PITCH + i % QUADS] = vec4<f32>(q[at]) * p.scale;
    }
    let row = ids.lid / SHARE;
    let share = ids.lid % SHARE;
    let s = min(s0 + row, last);
    let seen = visible(s);
    let end = visible(min(s0 + ROWS - 1u, last));
    let last_key = context() - 1u;
    var highest = HIDDEN;
    var total = 0.0;
#for i SUMS
    var sum{i} = vec4(0.0);
#end
    for (var c0 = 0u; c0 < end; c0 += KEYS) {
        for (var i = ids.lid; i < KEYS * QUADS; i += WG) {
            let at = kv + min(c0 + i / QUADS, last_key) * p.kv_seq + i % QUADS;
            tile[i / QUADS * PITCH + i % QUADS] = vec4<f32>(keys[at]);
        }
        workgroupBarrier();
        var score: array<f32, MINE>;
        for (var d = 0u; d < QUADS; d++) {
            let v = queries[row * PITCH + d];
            for (var j = 0u; j < MINE; j++) { score[j] += dot(v, tile[(share + j * SHARE) * PITCH + d]); }
        }
        for (var j = 0u; j < MINE; j++) {
            let c = c0 + share + j * SHARE;
#ifdef MASK
            score[j] += f32(mask[mask_at(b, h, s, min(c, last_key))]);
#endif
            weights[row * KEYS + share + j * SHARE] = select(HIDDEN, max(score[j], HIDDEN), c < seen);
        }
        workgroupBarrier();
        for (var i = ids.lid; i < KEYS * QUADS; i += WG) {
            let at = kv + min(c0 + i / QUADS, last_key) * p.kv_seq + i % QUADS;
            tile[i / QUADS * PITCH + i % QUADS] = vec4<f32>(values[at]);
        }
        // Every invocation of a query finds the same maximum and total.
        var next = highest;
        for (var j = 0u; j < KEYS; j++) { next = max(next, weights[row * KEYS + j]); }
        let keep = exp(highest - next);
        highest = next;
        total *= keep;
#for i SUMS
        sum{i} *= keep;
#end
        workgroupBarrier();
        for (var j = 0u; j < KEYS; j++) {
            let w = select(0.0, exp(weights[row * KEYS + j] - highest), c0 + j < seen);
            total += w;
#for i SUMS
            sum{i} += w * tile[j * PITCH + min(share + {i}u * SHARE, QUADS - 1u)];
#end
        }
        workgroupBarrier();
    }
    if s0 + row > last { return; }
    let to = q_at(b, s, h);
#for i SUMS
    if share + {i}u * SHARE < QUADS { out[to + share + {i}u * SHARE] = elem4(sum{i} / total); }
#end
}
