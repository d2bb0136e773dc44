// Joins the splits of each head; grid: heads, batch. A split that saw no key has weight zero.
// LANES lanes hold the channels, SLOTS of them share the splits.
#import attention
#import splits
@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> states: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<elem4>;

// Weight of each split against a maximum common to all.
var<workgroup> weights: array<vec2<f32>, MAX_SPLITS>;
var<workgroup> parts: array<vec4<f32>, SLOTS * LANES>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let h = ids.wid.x;
    let b = ids.wid.y;
    let first = (b * p.heads + h) * MAX_SPLITS;
    let count = split_count();
    for (var s = ids.lid; s < count; s += WG) { weights[s] = states[first + s]; }
    workgroupBarrier();
    var top = HIDDEN;
    for (var s = 0u; s < count; s++) { top = max(top, weights[s].x); }
    let lane = ids.lid % LANES;
    let slot = ids.lid / LANES;
    let channel = min(lane, QUADS - 1u);
    var v = vec4(0.0);
    for (var s = slot; s < count; s += SLOTS) {
        v += exp(weights[s].x - top) * sums[(first + s) * QUADS + channel];
    }
    parts[ids.lid] = v;
    workgroupBarrier();
    if ids.lid >= QUADS { return; }
    var total = 0.0;
    for (var s = 0u; s < count; s++) { total += exp(weights[s].x - top) * weights[s].y; }
    var sum = vec4(0.0);
    for (var s = 0u; s < SLOTS; s++) { sum += parts[s * LANES + ids.lid]; }
    out[q_at(b, 0u, h) + ids.lid] = elem4(sum / total);
}
