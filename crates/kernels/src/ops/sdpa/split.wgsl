// Part of the context for one key-value head; grid: splits, key-value heads, batch.
// LANES neighbouring lanes hold the channels of one key; KEYS keys are worked on at once.
// With MERGES, the workgroup that is the last of its head to finish joins the parts; else merge.wgsl does.
// With ALONE, a context of at most so many keys has no parts: a workgroup for each query head walks it by itself.
#import attention
#import splits
@group(0) @binding(1) var<storage, read> q: array<elem4>;
@group(0) @binding(2) var<storage, read> keys: array<cache4>;
@group(0) @binding(3) var<storage, read> values: array<cache4>;
#ifdef MERGES
@group(0) @binding(4) @coherent var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(5) @coherent var<storage, read_write> states: array<vec2<f32>>;
// Finished parts of each key-value head.
@group(0) @binding(6) var<storage, read_write> finished: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read_write> out: array<elem4>;
var<workgroup> is_last: u32;
#else
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> states: array<vec2<f32>>;
#endif

// Sums and states of SLOTS sets of keys; those within a subgroup are joined before.
#ifdef MERGES
var<workgroup> merged: array<vec4<f32>, max(SLOTS * GROUP * QUADS, WG)>;
#else
var<workgroup> merged: array<vec4<f32>, SLOTS * GROUP * QUADS>;
#endif
var<workgroup> merged_state: array<vec2<f32>, SLOTS * GROUP>;
#ifndef SUBGROUPS
var<workgroup> lane_part: array<f32, WG>;
#endif

// Sum over the lanes that share a key; every one of them gets it.
fn lane_sum(value: f32, lid: u32) -> f32 {
#ifdef SUBGROUPS
    var v = value;
#for k LANE_STEPS
    v += subgroupShuffleXor(v, LANES >> ({k}u + 1u));
#end
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
#ifdef ALONE
    if context() <= ALONE {
        if split < GROUP { attend_alone(b, kv_head, split, ids); }
        return;
    }
#endif
    if split >= split_count() { return; }
    let split_len = split_length();
    let lane = ids.lid % LANES;
    let slot = ids.lid / LANES;
    let channel = min(lane, QUADS - 1u);
    let used = select(0.0, 1.0, lane < QUADS);
#for g GROUP
    let query{g} = vec4<f32>(q[q_at(b, 0u, kv_head * GROUP + {g}u) + channel]) * (p.scale * used);
    var highest{g} = HIDDEN;
    var total{g} = 0.0;
    var sum{g} = vec4(0.0);
#end
    let first = split * split_len;
    let end = min(first + split_len, visible(0u));
    let kv = b * p.kv_batch + kv_head * p.kv_head + channel;
    // The trip count is the same for all invocations, as the barriers of lane_sum ask. Keys and values of AHEAD turns are
    // under way at once.
    let steps = (split_len + KEYS - 1u) / KEYS;
    for (var i = 0u; i < steps; i += AHEAD) {
#for j AHEAD
        let c{j} = first + (i + {j}u) * KEYS + slot;
        let seen{j} = c{j} < end;
        let at{j} = kv + min(c{j}, context() - 1u) * p.kv_seq;
        let k{j} = vec4<f32>(keys[at{j}]);
        let v{j} = vec4<f32>(values[at{j}]);
#end
#for g GROUP
        {
            var next = highest{g};
#for j AHEAD
            let score{j} = select(HIDDEN, lane_sum(dot(query{g}, k{j}), ids.lid), seen{j});
            next = max(next, score{j});
#end
            let keep = exp(highest{g} - next);
            highest{g} = next;
            total{g} *= keep;
            sum{g} *= keep;
#for j AHEAD
            let weight{j} = select(0.0, exp(score{j} - next), seen{j});
            total{g} += weight{j};
            sum{g} += weight{j} * v{j};
#end
        }
#end
    }
#for g GROUP
#ifdef SUBGROUPS
#for k JOIN_STEPS
    {
        let apart = LANES << {k}u;
        let other = subgroupShuffleXor(highest{g}, apart);
        let top = max(highest{g}, other);
        let mine = exp(highest{g} - top);
        let theirs = exp(other - top);
        total{g} = total{g} * mine + subgroupShuffleXor(total{g}, apart) * theirs;
        sum{g} = sum{g} * mine + subgroupShuffleXor(sum{g}, apart) * theirs;
        highest{g} = top;
    }
#end
#endif
    if slot % JOINED == 0u {
        if lane < QUADS { merged[(slot / JOINED * GROUP + {g}u) * QUADS + lane] = sum{g}; }
        if lane == 0u { merged_state[slot / JOINED * GROUP + {g}u] = vec2(highest{g}, total{g}); }
    }
#end
    workgroupBarrier();
    for (var i = ids.lid; i < GROUP * QUADS; i += WG) {
        let g = i / QUADS;
        var top = HIDDEN;
        var weight_sum = 0.0;
        var v = vec4(0.0);
#for s SLOTS
        let state{s} = merged_state[{s}u * GROUP + g];
        top = max(top, state{s}.x);
#end
#for s SLOTS
        let scale{s} = exp(state{s}.x - top);
        weight_sum += scale{s} * state{s}.y;
        v += scale{s} * merged[({s}u * GROUP + g) * QUADS + i % QUADS];
#end
#ifdef MERGES
        if split_count() == 1u { out[q_at(b, 0u, kv_head * GROUP + g) + i % QUADS] = elem4(v / weight_sum); }
#endif
        let part = (b * p.heads + kv_head * GROUP + g) * MAX_SPLITS + split;
        sums[part * QUADS + i % QUADS] = v;
        if i % QUADS == 0u { states[part] = vec2(top, weight_sum); }
    }
#ifdef MERGES
    if split_count() == 1u { return; }
    // What this workgroup wrote must be seen before it counts as finished.
    storageBarrier();
    if ids.lid == 0u {
        let before = atomicAdd(&finished[b * KV_HEADS + kv_head], 1u);
        is_last = select(0u, 1u, before + 1u == split_count());
    }
    if workgroupUniformLoad(&is_last) == 0u { return; }
    storageBarrier();
    merge(b, kv_head, ids);
    if ids.lid == 0u { atomicStore(&finished[b * KV_HEADS + kv_head], 0u); }
#endif
}

#ifdef MERGES
// Parts that a thread of `merge` has under way at once.
const AT_ONCE = 8u;
// Maximum and total of what each thread added up.
var<workgroup> merged_states: array<vec2<f32>, WG>;
// Threads that share the parts of a head's vec4.
const SHARE = max(1u, WG / (GROUP * QUADS));

fn merge(b: u32, kv_head: u32, ids: Ids) {
    let count = split_count();
    let first = (b * p.heads + kv_head * GROUP) * MAX_SPLITS;
    // A quad and a head, and those of the parts that this thread adds up.
    let per_turn = WG / SHARE;
    for (var i = ids.lid % per_turn; i < (GROUP * QUADS + per_turn - 1u) / per_turn * per_turn; i += per_turn) {
        let g = min(i / QUADS, GROUP - 1u);
        let quad = i % QUADS;
        var top = HIDDEN;
        var total = 0.0;
        var v = vec4(0.0);
        for (var s = ids.lid / per_turn; s < count; s += SHARE * AT_ONCE) {
#for j 8
            let part{j} = first + g * MAX_SPLITS + min(s + {j}u * SHARE, count - 1u);
            let state{j} = states[part{j}];
            let sum{j} = sums[part{j} * QUADS + quad];
#end
            var next = top;
#for j 8
            next = max(next, state{j}.x);
#end
            let kept = exp(top - next);
            top = next;
            total *= kept;
            v *= kept;
#for j 8
            let scale{j} = select(0.0, exp(state{j}.x - next), s + {j}u * SHARE < count);
            total += scale{j} * state{j}.y;
            v += scale{j} * sum{j};
#end
        }
        merged[ids.lid] = v;
        merged_states[ids.lid] = vec2(top, total);
        workgroupBarrier();
        if ids.lid < per_turn && i < GROUP * QUADS {
            for (var share = 1u; share < SHARE; share++) {
                let other = merged_states[share * per_turn + ids.lid];
                let next = max(top, other.x);
                let kept = exp(top - next);
                let scale = exp(other.x - next);
                top = next;
                total = total * kept + other.y * scale;
                v = v * kept + merged[share * per_turn + ids.lid] * scale;
            }
            out[q_at(b, 0u, kv_head * GROUP + g) + quad] = elem4(v / total);
        }
        workgroupBarrier();
    }
}
#endif

#ifdef ALONE
// One query head and all of its keys, AT_HAND turns of them under way at once.
fn attend_alone(b: u32, kv_head: u32, g: u32, ids: Ids) {
    let lane = ids.lid % LANES;
    let slot = ids.lid / LANES;
    let channel = min(lane, QUADS - 1u);
    let used = select(0.0, 1.0, lane < QUADS);
    let end = visible(0u);
    let kv = b * p.kv_batch + kv_head * p.kv_head + channel;
    let query = vec4<f32>(q[q_at(b, 0u, kv_head * GROUP + g) + channel]) * (p.scale * used);
    var highest = HIDDEN;
    var total = 0.0;
    var sum = vec4(0.0);
    for (var first = 0u; first < context(); first += KEYS * AT_HAND) {
#for j AT_HAND
        let c{j} = first + {j}u * KEYS + slot;
        let at{j} = kv + min(c{j}, context() - 1u) * p.kv_seq;
        let k{j} = vec4<f32>(keys[at{j}]);
        let v{j} = vec4<f32>(values[at{j}]);
#end
        var next = highest;
#for j AT_HAND
        let score{j} = select(HIDDEN, lane_sum(dot(query, k{j}), ids.lid), c{j} < end);
        next = max(next, score{j});
#end
        let kept = exp(highest - next);
        highest = next;
        total *= kept;
        sum *= kept;
#for j AT_HAND
        let weight{j} = select(0.0, exp(score{j} - next), c{j} < end);
        total += weight{j};
        sum += weight{j} * v{j};
#end
    }
#ifdef SUBGROUPS
#for k JOIN_STEPS
    {
        let apart = LANES << {k}u;
        let other = subgroupShuffleXor(highest, apart);
        let top = max(highest, other);
        let mine = exp(highest - top);
        let theirs = exp(other - top);
        total = total * mine + subgroupShuffleXor(total, apart) * theirs;
        sum = sum * mine + subgroupShuffleXor(sum, apart) * theirs;
        highest = top;
    }
#end
#endif
    if slot % JOINED == 0u {
        if lane < QUADS { merged[slot / JOINED * QUADS + lane] = sum; }
        if lane == 0u { merged_state[slot / JOINED] = vec2(highest, total); }
    }
    workgroupBarrier();
    if ids.lid >= QUADS { return; }
    var top = HIDDEN;
#for s SLOTS
    let state{s} = merged_state[{s}];
    top = max(top, state{s}.x);
#end
    var weight_sum = 0.0;
    var v = vec4(0.0);
#for s SLOTS
    let scale{s} = exp(state{s}.x - top);
    weight_sum += scale{s} * state{s}.y;
    v += scale{s} * merged[{s}u * QUADS + ids.lid];
#end
    out[q_at(b, 0u, kv_head * GROUP + g) + ids.lid] = elem4(v / weight_sum);
}
#endif
