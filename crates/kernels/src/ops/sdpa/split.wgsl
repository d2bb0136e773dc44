// Part of the context for one key-value head; grid: key-value heads of each split, batch. Parts take turns at the
// context, a chunk each: together they read on in one place, and none has more than a chunk too many.
// LANES neighbouring lanes hold the channels of one key; KEYS keys are a turn, and several turns are under way at once.
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

// Sum over the lanes that share a key; every one of them gets it.
fn lane_sum(value: f32, lid: u32) -> f32 {
    lane_part[lid] = value;
    workgroupBarrier();
    var v = 0.0;
    for (var i = 0u; i < LANES; i++) { v += lane_part[lid / LANES * LANES + i]; }
    workgroupBarrier();
    return v;
}
#endif

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    // Heads lie next to each other in a cache.
    let kv_head = ids.wid.x % KV_HEADS;
    let split = ids.wid.x / KV_HEADS;
    let b = ids.wid.y;
#ifdef ALONE
    if context() <= ALONE {
        if split < GROUP { attend1(b, kv_head, split, 0u, 1u, ids); }
        return;
    }
#endif
    if split >= split_count() { return; }
    attend0(b, kv_head, 0u, split, split_count(), ids);
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

// Two ways to share out the work: all query heads of a key head together, and each by itself.
#for way WAYS
// Query heads from `head` on, HEADS{way} of them, against the keys of one of `count` parts: chunks of TURNS{way} turns
// at once. Writes the output if the part is the whole context, else the part's sums.
fn attend{way}(b: u32, kv_head: u32, head: u32, split: u32, count: u32, ids: Ids) {
    let lane = ids.lid % LANES;
    let slot = ids.lid / LANES;
    let channel = min(lane, QUADS - 1u);
    let first_head = kv_head * GROUP + head;
#ifdef SUBGROUPS
    // Scores are shared out: score i, of head i / TURNS and turn i % TURNS, is added up by the lanes from
    // i * REPEATED / MINE on, REPEATED of them, or by one that has MINE.
    let home = ids.lane - ids.lane % LANES;
    let my_turn = lane * MINE{way} / REPEATED{way} % TURNS{way};
    let my_head = lane * MINE{way} / REPEATED{way} / TURNS{way};
    // The head of this lane's scores. What is called g below is head g ^ own: every lane comes to add up scores of what
    // it calls 0, without asking which to keep. (Zero unless the number of heads is a power of two.)
    let own = select(0u, my_head, HEAD_STEPS{way} > 0u);
#else
    const own = 0u;
#endif
    // Scores are scaled, not queries: keys are asked for before queries are here.
#for g HEADS{way}
#ifdef SPARE_LANES
    let query{g} = select(vec4(0.0), vec4<f32>(q[q_at(b, 0u, first_head + ({g}u ^ own)) + channel]), lane < QUADS);
#else
    let query{g} = vec4<f32>(q[q_at(b, 0u, first_head + ({g}u ^ own)) + channel]);
#endif
#end
    var sum: array<vec4<f32>, HEADS{way}>;
    let end = visible(0u);
    let kv = b * p.kv_batch + kv_head * p.kv_head + channel;
#ifdef SUBGROUPS
#for g HEADS{way}
    // The first lane with scores of head g ^ own.
    let from{g} = home + ({g}u ^ own) * TURNS{way} * REPEATED{way} / MINE{way};
#end
    // Of this lane's head, over its turns; the highest over all keys of the subgroup.
    var highest = HIDDEN;
    var total = 0.0;
#else
#for g HEADS{way}
    var highest{g} = HIDDEN;
    var total{g} = 0.0;
#end
#endif
    const CHUNK = TURNS{way} * KEYS;
    // The trip count is the same for all invocations, as the barriers ask.
    for (var first = split * CHUNK; first < context(); first += count * CHUNK) {
#for j TURNS{way}
        let c{j} = first + {j}u * KEYS + slot;
        let at{j} = kv + min(c{j}, context() - 1u) * p.kv_seq;
        let stored_k{j} = keys[at{j}];
        let stored_v{j} = values[at{j}];
#end
#ifdef PINNED_LOADS
        // All of these loads are under way before the first is used. A compiler that saves registers, so that more
        // workgroups fit a core, would ask for keys between the products otherwise.
        workgroupBarrier();
#endif
#for j TURNS{way}
        let k{j} = vec4<f32>(stored_k{j});
        let v{j} = vec4<f32>(stored_v{j});
#end
#ifdef SUBGROUPS
        var part: array<f32, SCORES{way}>;
#for g HEADS{way}
#for j TURNS{way}
        part[{g}u * TURNS{way} + {j}u] = dot(query{g}, k{j});
#end
#end
        // Each step halves the scores that a lane adds up, until it has one.
#for t LANE_STEPS
        {
            const APART = LANES >> ({t}u + 1u);
            const KEPT = SCORES{way} >> ({t}u + 1u);
            let is_upper = (lane & APART) != 0u;
#for s KEPT{way}
            if {s}u < KEPT {
                let asks = is_upper & ({t}u >= HEAD_STEPS{way});
                let kept = select(part[{s}u], part[{s}u + KEPT], asks);
                let sent = select(part[{s}u + KEPT], part[{s}u], asks);
                part[{s}u] = kept + subgroupShuffleXor(sent, APART);
            }
#end
            if KEPT == 0u { part[0] += subgroupShuffleXor(part[0], APART); }
        }
#end
        var next = highest;
#for m MINE{way}
        let seen{m} = first + (my_turn + {m}u) * KEYS + slot < end;
        let score{m} = select(HIDDEN, part[{m}u] * p.scale, seen{m});
        next = max(next, score{m});
#end
#for t TURN_STEPS{way}
        next = max(next, subgroupShuffleXor(next, REPEATED{way} << {t}u));
#end
#for k JOIN_STEPS
        next = max(next, subgroupShuffleXor(next, LANES << {k}u));
#end
        if subgroupAny(next > highest) {
            let kept = exp(highest - next);
            highest = next;
            total *= kept;
#for g HEADS{way}
            sum[{g}u] *= subgroupShuffle(kept, from{g});
#end
        }
#for m MINE{way}
        part[{m}u] = select(0.0, exp(score{m} - highest), seen{m});
        total += part[{m}u];
#end
#for g HEADS{way}
#for j TURNS{way}
        {
            let weight = subgroupShuffle(part[{j}u % MINE{way}], from{g} + {j}u * REPEATED{way} / MINE{way});
            sum[{g}u] += weight * v{j};
        }
#end
#end
#else
#for g HEADS{way}
        {
            var next = highest{g};
#for j TURNS{way}
            let score{j} = select(HIDDEN, lane_sum(dot(query{g}, k{j}), ids.lid) * p.scale, c{j} < end);
            next = max(next, score{j});
#end
            let kept = exp(highest{g} - next);
            highest{g} = next;
            total{g} *= kept;
            sum[{g}u] *= kept;
#for j TURNS{way}
            let weight{j} = select(0.0, exp(score{j} - next), c{j} < end);
            total{g} += weight{j};
            sum[{g}u] += weight{j} * v{j};
#end
        }
#end
#endif
    }
#ifdef SUBGROUPS
#for t TURN_STEPS{way}
    total += subgroupShuffleXor(total, REPEATED{way} << {t}u);
#end
    // Sums over the teams of lanes in a subgroup. As long as heads can be halved, each half of the teams keeps a half.
    let team = ids.lane / LANES % JOINED;
    var held = 0u;
#for k JOIN_STEPS
    total += subgroupShuffleXor(total, LANES << {k}u);
    if {k}u < HALVINGS{way} {
        const KEPT = HEADS{way} >> ({k}u + 1u);
        let is_upper = (team >> {k}u & 1u) != 0u;
        held += select(0u, KEPT, is_upper);
#for g HALF{way}
        if {g}u < KEPT {
            let kept = select(sum[{g}u], sum[{g}u + KEPT], is_upper);
            let sent = select(sum[{g}u + KEPT], sum[{g}u], is_upper);
            sum[{g}u] = kept + subgroupShuffleXor(sent, LANES << {k}u);
        }
#end
    } else {
#for g HELD{way}
        sum[{g}u] += subgroupShuffleXor(sum[{g}u], LANES << {k}u);
#end
    }
#end
    let first_merged = slot / JOINED * HEADS{way};
    if lane < QUADS && team >> HALVINGS{way} == 0u {
#for g HELD{way}
        merged[(first_merged + (({g}u + held) ^ own)) * QUADS + lane] = sum[{g}u];
#end
    }
    if team == 0u && my_turn == 0u && lane % REPEATED{way} == 0u && my_head < HEADS{way} {
        merged_state[first_merged + my_head] = vec2(highest, total);
    }
#else
#for g HEADS{way}
    if lane < QUADS { merged[(slot * HEADS{way} + {g}u) * QUADS + lane] = sum[{g}u]; }
    if lane == 0u { merged_state[slot * HEADS{way} + {g}u] = vec2(highest{g}, total{g}); }
#end
#endif
    workgroupBarrier();
    for (var i = ids.lid; i < HEADS{way} * QUADS; i += WG) {
        let g = i / QUADS;
        let quad = i % QUADS;
        var top = HIDDEN;
        var weight_sum = 0.0;
        var v = vec4(0.0);
#for s SLOTS
        let state{s} = merged_state[{s}u * HEADS{way} + g];
        top = max(top, state{s}.x);
#end
#for s SLOTS
        let scale{s} = exp(state{s}.x - top);
        weight_sum += scale{s} * state{s}.y;
        v += scale{s} * merged[({s}u * HEADS{way} + g) * QUADS + quad];
#end
#ifdef MERGES
        if count == 1u {
            out[q_at(b, 0u, first_head + g) + quad] = elem4(v / weight_sum);
            continue;
        }
#endif
        let part = (b * p.heads + first_head + g) * MAX_SPLITS + split;
        sums[part * QUADS + quad] = v;
        if quad == 0u { states[part] = vec2(top, weight_sum); }
    }
}
#end

#ifdef MERGES
#import join_parts
#endif
