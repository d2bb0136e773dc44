// ROWS queries of one head a workgroup, sixteen a subgroup, against tiles of KEYS keys. Grid: heads, query tiles, batch.
// Scores are to the base of two.
#enable f16
#enable wgpu_cooperative_matrix
#import attention
@group(0) @binding(1) var<storage, read> q: array<elem4>;
@group(0) @binding(2) var<storage, read> keys: array<cache4>;
@group(0) @binding(3) var<storage, read> values: array<cache4>;
@group(0) @binding(4) var<storage, read_write> out: array<elem4>;

// Pitches in vec4s, padded so that the rows of a matrix, and lanes that share a row, fall into different banks.
const PITCH = QUADS + 2u;
const SCORE_PITCH = KEYS / 4u + 2u;
// A row keeps its reference while its scores exceed it by less than this: sums are rescaled rarely.
const SLACK = 8.0;
const LOG2_E = 1.4426950408889634;

// Queries before the first tile, a part at a time; then keys; then, after the products with those, the probabilities of the same tile.
var<workgroup> high: array<vec4<f16>, max(max(KEYS, ROWS) * PITCH, ROWS * SCORE_PITCH)>;
#ifdef SPLIT
// What f16 left over, times LOW_SCALE: as it is it might be too small for f16.
const LOW_SCALE = 2048.0;
// Keys' rests; then, with SPLIT_SUMS, those of the probabilities.
var<workgroup> low: array<vec4<f16>, max(KEYS * PITCH, ROWS * SCORE_PITCH)>;
#endif
// With SPLIT_SUMS their first parts; when these are done with, their rests, unless those lie behind the probabilities.
var<workgroup> value_tile: array<vec4<f16>, KEYS * PITCH>;
var<workgroup> scores: array<vec4<f32>, ROWS * SCORE_PITCH>;
// Its x is set to one, by whichever lanes, when a row changes its reference. A vector, because matrices are read from
// 16-byte boundaries and workgroup variables lie one behind another.
var<workgroup> rescales: vec4<u32>;

#for i LOADS
var<private> next_k{i}: vec4<f32>;
var<private> next_v{i}: vec4<f32>;
#end
#ifdef SPLIT_SUMS
#for i LOADS
var<private> value_rest{i}: vec4<f16>;
#end
#endif

fn fetch(kv: u32, c0: u32, lid: u32) {
    let last = context() - 1u;
#for i LOADS
    let from{i} = kv + min(c0 + ({i}u * WG + lid) / QUADS, last) * p.kv_seq + ({i}u * WG + lid) % QUADS;
    next_k{i} = vec4<f32>(keys[from{i}]);
    next_v{i} = vec4<f32>(values[from{i}]);
#end
}

#ifdef SPLIT
// The part of a number that f16 holds, cut off by its bits: compilers take the difference to what was rounded to f16 and
// back for zero.
fn cut(v: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) & vec4(0xffffe000u));
}

fn rest_of(v: vec4<f32>) -> vec4<f16> {
    return vec4<f16>((v - cut(v)) * LOW_SCALE);
}
#else
fn cut(v: vec4<f32>) -> vec4<f32> {
    return v;
}
#endif

fn query_at(s0: u32, h: u32, b: u32, e: u32) -> vec4<f32> {
    return vec4<f32>(q[q_at(b, min(s0 + e / QUADS, p.seq - 1u), h) + e % QUADS]) * (p.scale * LOG2_E);
}

fn stage(lid: u32) {
#for i LOADS
    let to{i} = ({i}u * WG + lid) / QUADS * PITCH + ({i}u * WG + lid) % QUADS;
    high[to{i}] = vec4<f16>(cut(next_k{i}));
#ifdef SPLIT
    low[to{i}] = rest_of(next_k{i});
#endif
#ifdef SPLIT_SUMS
    value_tile[to{i}] = vec4<f16>(cut(next_v{i}));
    value_rest{i} = vec4<f16>(next_v{i} - cut(next_v{i}));
#else
    value_tile[to{i}] = vec4<f16>(next_v{i});
#endif
#end
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    // The last queries see most keys: they come first, so that no workgroup is left over in the end.
    let s0 = (ids.groups.y - 1u - ids.wid.y) * ROWS;
    let h = ids.wid.x;
    let b = ids.wid.z;
    let kv = kv_at(b, h);
    let last = p.seq - 1u;
    fetch(kv, 0u, ids.lid);
    // Queries pass through the keys' memory, one part after the other.
#for i Q_LOADS
    let e{i} = {i}u * WG + ids.lid;
    let to_q{i} = e{i} / QUADS * PITCH + e{i} % QUADS;
    let query{i} = query_at(s0, h, b, e{i});
    high[to_q{i}] = vec4<f16>(cut(query{i}));
#end
    workgroupBarrier();
#for d DEPTH
    var sum{d} = coop_mat16x16<f32, C>();
    let at_q{d} = ids.subgroup * 16u * PITCH + {d}u * 4u;
    let a{d} = coopLoadT<coop_mat16x16<f16, A>>(&high[at_q{d}], PITCH);
#end
    workgroupBarrier();
#ifdef SPLIT
#for i Q_LOADS
    high[to_q{i}] = rest_of(query{i});
#end
    workgroupBarrier();
#for d DEPTH
    let a_low{d} = coopLoadT<coop_mat16x16<f16, A>>(&high[at_q{d}], PITCH);
#end
    workgroupBarrier();
#endif
    // Two lanes share a row and take turns with its vec4s.
    let row = ids.subgroup * 16u + ids.lane / 2u;
    let half = ids.lane % 2u;
    let mine = row * SCORE_PITCH + half;
    let seen = visible(min(s0 + row, last));
    let end = visible(min(s0 + ROWS - 1u, last));
    let everyone_sees = visible(s0);
    let first = ids.subgroup * 16u * SCORE_PITCH;
    var reference = HIDDEN;
    var total = 0.0;
    for (var c0 = 0u; c0 < end; c0 += KEYS) {
        stage(ids.lid);
        if ids.lid == 0u { rescales = vec4(0u); }
        workgroupBarrier();
        if c0 + KEYS < end { fetch(kv, c0 + KEYS, ids.lid); }
#for j KEY_BLOCKS
        var score{j} = coop_mat16x16<f32, C>();
#ifdef SPLIT
        var small{j} = coop_mat16x16<f32, C>();
#endif
#for d DEPTH
        let at_k{j}{d} = {j}u * 16u * PITCH + {d}u * 4u;
        let b{j}{d} = coopLoad<coop_mat16x16<f16, B>>(&high[at_k{j}{d}], PITCH);
        score{j} = coopMultiplyAdd(a{d}, b{j}{d}, score{j});
#ifdef SPLIT
        let b_low{j}{d} = coopLoad<coop_mat16x16<f16, B>>(&low[at_k{j}{d}], PITCH);
        small{j} = coopMultiplyAdd(a{d}, b_low{j}{d}, small{j});
        small{j} = coopMultiplyAdd(a_low{d}, b{j}{d}, small{j});
#endif
#end
#ifdef SPLIT
        score{j} = score{j} + small{j} * (1.0 / LOW_SCALE);
#endif
        let at_score{j} = first + {j}u * 4u;
        coopStoreT(score{j}, &scores[at_score{j}], SCORE_PITCH);
#end
        workgroupBarrier();
#ifdef RESTS_BEHIND
#for i LOADS
        high[ROWS * SCORE_PITCH + ({i}u * WG + ids.lid) / QUADS * PITCH + ({i}u * WG + ids.lid) % QUADS] = value_rest{i};
#end
#endif
        var highest = HIDDEN;
#for i LANE_QUADS
        var v{i} = scores[mine + {i}u * 2u];
#end
        // Most tiles lie before all queries.
        if c0 + KEYS > everyone_sees {
#for i LANE_QUADS
            let key{i} = vec4(c0 + ({i}u * 2u + half) * 4u) + vec4(0u, 1u, 2u, 3u);
            v{i} = select(vec4(HIDDEN), v{i}, key{i} < vec4(seen));
#end
        }
#for i LANE_QUADS
        highest = max(highest, max(max(v{i}.x, v{i}.y), max(v{i}.z, v{i}.w)));
#end
        highest = max(highest, subgroupShuffleXor(highest, 1u));
        var kept = 1.0;
        if highest > reference + SLACK {
            kept = exp2(reference - highest);
            reference = highest;
            if c0 > 0u { rescales = vec4(1u); }
        }
        var sum_here = 0.0;
#for i LANE_QUADS
        // Of a hidden key zero: every row sees a key of the first tile, so its reference is a score.
        let e{i} = exp2(v{i} - reference);
#ifdef SPLIT_SUMS
        // Rests need no scale: next to the largest probability, what f16 cannot hold of one is nothing.
        high[mine + {i}u * 2u] = vec4<f16>(cut(e{i}));
        low[mine + {i}u * 2u] = vec4<f16>(e{i} - cut(e{i}));
        sum_here += dot(e{i}, vec4(1.0));
#else
        let rounded{i} = vec4<f16>(e{i});
        high[mine + {i}u * 2u] = rounded{i};
        sum_here += dot(vec4<f32>(rounded{i}), vec4(1.0));
#endif
#end
        total = total * kept + sum_here;
        // Waits for all probabilities, too.
        if workgroupUniformLoad(&rescales).x != 0u {
#for d DEPTH
            coopStoreT(sum{d}, &scores[first], SCORE_PITCH);
            workgroupBarrier();
            scores[mine] *= kept;
            scores[mine + 2u] *= kept;
            workgroupBarrier();
            sum{d} = coopLoadT<coop_mat16x16<f32, C>>(&scores[first], SCORE_PITCH);
            workgroupBarrier();
#end
        }
#for j KEY_BLOCKS
        let at_weight{j} = first + {j}u * 4u;
        let w{j} = coopLoadT<coop_mat16x16<f16, A>>(&high[at_weight{j}], SCORE_PITCH);
#ifdef SPLIT_SUMS
        let w_low{j} = coopLoadT<coop_mat16x16<f16, A>>(&low[at_weight{j}], SCORE_PITCH);
#endif
#for d DEPTH
        let at_value{j}{d} = {j}u * 16u * PITCH + {d}u * 4u;
        let value{j}{d} = coopLoadT<coop_mat16x16<f16, B>>(&value_tile[at_value{j}{d}], PITCH);
        sum{d} = coopMultiplyAdd(w{j}, value{j}{d}, sum{d});
#ifdef SPLIT_SUMS
        sum{d} = coopMultiplyAdd(w_low{j}, value{j}{d}, sum{d});
#endif
#ifdef RESTS_BEHIND
        let at_rest{j}{d} = ROWS * SCORE_PITCH + at_value{j}{d};
        let rest{j}{d} = coopLoadT<coop_mat16x16<f16, B>>(&high[at_rest{j}{d}], PITCH);
        sum{d} = coopMultiplyAdd(w{j}, rest{j}{d}, sum{d});
#endif
#end
#end
        workgroupBarrier();
#ifdef SPLIT_SUMS
#ifndef RESTS_BEHIND
#for i LOADS
        value_tile[({i}u * WG + ids.lid) / QUADS * PITCH + ({i}u * WG + ids.lid) % QUADS] = value_rest{i};
#end
        workgroupBarrier();
#for j KEY_BLOCKS
#for d DEPTH
        let at_rest{j}{d} = {j}u * 16u * PITCH + {d}u * 4u;
        let rest{j}{d} = coopLoadT<coop_mat16x16<f16, B>>(&value_tile[at_rest{j}{d}], PITCH);
        sum{d} = coopMultiplyAdd(w{j}, rest{j}{d}, sum{d});
#end
#end
        workgroupBarrier();
#endif
#endif
    }
    let inverse = 1.0 / (total + subgroupShuffleXor(total, 1u));
    let s = s0 + row;
    let to = q_at(b, min(s, last), h);
#for d DEPTH
    coopStoreT(sum{d}, &scores[first], SCORE_PITCH);
    workgroupBarrier();
    if s <= last {
        out[to + {d}u * 4u + half] = elem4(scores[mine] * inverse);
        out[to + {d}u * 4u + 2u + half] = elem4(scores[mine + 2u] * inverse);
    }
    workgroupBarrier();
#end
}
