// Part of the context for one key-value head; grid: splits, key-value heads, batch.
// LANES neighbouring lanes hold the channels of one key; KEYS keys are worked on at once.
#import attention
#import splits
@group(0) @binding(1) var<storage, read> q: array<elem4>;
@group(0) @binding(2) var<storage, read> keys: array<cache4>;
@group(0) @binding(3) var<storage, read> values: array<cache4>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> states: array<vec2<f32>>;

var<workgroup> merged: array<vec4<f32>, KEYS * GROUP * QUADS>;
var<workgroup> merged_state: array<vec2<f32>, KEYS * GROUP>;
#ifndef SUBGROUPS
var<workgroup> lane_part: array<f32, WG>;
#endif

// Sum over the lanes that share a key; every one of them gets it.
fn lane_sum(value: f32, lid: u32) -> f32 {
#ifdef SUBGROUPS
    var v = value;
    for (var step = LANES / 2u; step > 0u; step /= 2u) { v += subgroupShuffleXor(v, step); }
    return v;
#else
    lane_part[lid] = value;
    workgroupBarrier();
    var v = 0.0;
    for (var i = 0u; i < LANES; i++) { v += lane_part[lid / LANES * LANES + i]; }
    workgroupBarrier();
    return v;
#endif
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let split = ids.wid.x;
    let kv_head = ids.wid.y;
    let b = ids.wid.z;
    if split >= split_count() { return; }
    let split_len = split_length();
    let lane = ids.lid % LANES;
    let slot = ids.lid / LANES;
    let channel = min(lane, QUADS - 1u);
    let used = select(0.0, 1.0, lane < QUADS);
    var query: array<vec4<f32>, GROUP>;
    for (var g = 0u; g < GROUP; g++) {
        query[g] = vec4<f32>(q[q_at(b, 0u, kv_head * GROUP + g) + channel]) * (p.scale * used);
    }
    let first = split * split_len;
    let end = min(first + split_len, visible(0u));
    let kv = b * p.kv_batch + kv_head * p.kv_head + channel;
    var highest: array<f32, GROUP>;
    var total: array<f32, GROUP>;
    var sum: array<vec4<f32>, GROUP>;
    for (var g = 0u; g < GROUP; g++) { highest[g] = HIDDEN; }
    // The trip count is the same for all invocations, as the barriers of lane_sum ask.
    let steps = (split_len + KEYS - 1u) / KEYS;
    for (var i = 0u; i < steps; i++) {
        let c = first + i * KEYS + slot;
        let seen = c < end;
        let at = kv + min(c, context() - 1u) * p.kv_seq;
        let k = vec4<f32>(keys[at]);
        let v = vec4<f32>(values[at]);
        for (var g = 0u; g < GROUP; g++) {
            let score = select(HIDDEN, lane_sum(dot(query[g], k), ids.lid), seen);
            let next = max(highest[g], score);
            let keep = exp(highest[g] - next);
            let weight = select(0.0, exp(score - next), seen);
            highest[g] = next;
            total[g] = total[g] * keep + weight;
            sum[g] = sum[g] * keep + weight * v;
        }
    }
    for (var g = 0u; g < GROUP; g++) {
        if lane < QUADS { merged[(slot * GROUP + g) * QUADS + lane] = sum[g]; }
        if lane == 0u { merged_state[slot * GROUP + g] = vec2(highest[g], total[g]); }
    }
    workgroupBarrier();
    for (var i = ids.lid; i < GROUP * QUADS; i += WG) {
        let g = i / QUADS;
        var top = HIDDEN;
        for (var s = 0u; s < KEYS; s++) { top = max(top, merged_state[s * GROUP + g].x); }
        var weight_sum = 0.0;
        var v = vec4(0.0);
        for (var s = 0u; s < KEYS; s++) {
            let state = merged_state[s * GROUP + g];
            let scale = exp(state.x - top);
            weight_sum += scale * state.y;
            v += scale * merged[(s * GROUP + g) * QUADS + i % QUADS];
        }
        let part = (b * p.heads + kv_head * GROUP + g) * MAX_SPLITS + split;
        sums[part * QUADS + i % QUADS] = v;
        if i % QUADS == 0u { states[part] = vec2(top, weight_sum); }
    }
}
