// ROWS queries of one head a workgroup, sixteen a subgroup, against tiles of KEYS keys; grid: query tiles, heads, batch.
#enable f16
#enable wgpu_cooperative_matrix
#import attention
@group(0) @binding(1) var<storage, read> q: array<elem4>;
@group(0) @binding(2) var<storage, read> keys: array<cache4>;
@group(0) @binding(3) var<storage, read> values: array<cache4>;
@group(0) @binding(4) var<storage, read_write> out: array<elem4>;

// Pitches in vec4s, padded so that the rows of a matrix fall into different banks.
const PITCH = QUADS + 2u;
const SCORE_PITCH = KEYS / 4u + 1u;
const WEIGHT_PITCH = KEYS / 4u + 2u;
// A row keeps its reference while its scores exceed it by less than this: sums are rescaled rarely.
const SLACK = 6.0;

var<workgroup> q_high: array<vec4<f16>, ROWS * PITCH>;
var<workgroup> k_high: array<vec4<f16>, KEYS * PITCH>;
#ifdef SPLIT
var<workgroup> q_low: array<vec4<f16>, ROWS * PITCH>;
var<workgroup> k_low: array<vec4<f16>, KEYS * PITCH>;
#endif
var<workgroup> value_tile: array<vec4<f16>, KEYS * PITCH>;
var<workgroup> scores: array<vec4<f32>, ROWS * SCORE_PITCH>;
var<workgroup> weights: array<vec4<f16>, ROWS * WEIGHT_PITCH>;
// Its x is set to one, by whichever lanes, when a row changes its reference. A vector, because matrices are read from
// 16-byte boundaries and workgroup variables lie one behind another.
var<workgroup> rescales: vec4<u32>;

#for i LOADS
var<private> next_k{i}: vec4<f32>;
var<private> next_v{i}: vec4<f32>;
#end

fn fetch(kv: u32, c0: u32, lid: u32) {
    let last = context() - 1u;
#for i LOADS
    let from{i} = kv + min(c0 + ({i}u * WG + lid) / QUADS, last) * p.kv_seq + ({i}u * WG + lid) % QUADS;
    next_k{i} = vec4<f32>(keys[from{i}]);
    next_v{i} = vec4<f32>(values[from{i}]);
#end
}

// What rounding to f16 leaves.
fn rest_of(v: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(v - vec4<f32>(vec4<f16>(v)));
}

fn stage(lid: u32) {
#for i LOADS
    let to{i} = ({i}u * WG + lid) / QUADS * PITCH + ({i}u * WG + lid) % QUADS;
    k_high[to{i}] = vec4<f16>(next_k{i});
#ifdef SPLIT
    k_low[to{i}] = rest_of(next_k{i});
#endif
    value_tile[to{i}] = vec4<f16>(next_v{i});
#end
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let s0 = ids.wid.x * ROWS;
    let h = ids.wid.y;
    let b = ids.wid.z;
    let kv = kv_at(b, h);
    let last = p.seq - 1u;
#for d DEPTH
    var sum{d} = coop_mat16x16<f32, C>();
#end
#for i Q_LOADS
    {
        let e = {i}u * WG + ids.lid;
        let v = vec4<f32>(q[q_at(b, min(s0 + e / QUADS, last), h) + e % QUADS]) * p.scale;
        q_high[e / QUADS * PITCH + e % QUADS] = vec4<f16>(v);
#ifdef SPLIT
        q_low[e / QUADS * PITCH + e % QUADS] = rest_of(v);
#endif
    }
#end
    // Two lanes share a row: sixteen keys of a tile each.
    let row = ids.subgroup * 16u + ids.lane / 2u;
    let half = ids.lane % 2u;
    let seen = visible(min(s0 + row, last));
    let end = visible(min(s0 + ROWS - 1u, last));
    let first_score = ids.subgroup * 16u * SCORE_PITCH;
    let first_weight = ids.subgroup * 16u * WEIGHT_PITCH;
    var reference = HIDDEN;
    var total = 0.0;
    fetch(kv, 0u, ids.lid);
    for (var c0 = 0u; c0 < end; c0 += KEYS) {
        stage(ids.lid);
        if ids.lid == 0u { rescales = vec4(0u); }
        workgroupBarrier();
        if c0 + KEYS < end { fetch(kv, c0 + KEYS, ids.lid); }
#for j KEY_BLOCKS
        var score{j} = coop_mat16x16<f32, C>();
#for d DEPTH
        let at_q{j}{d} = ids.subgroup * 16u * PITCH + {d}u * 4u;
        let at_k{j}{d} = {j}u * 16u * PITCH + {d}u * 4u;
        let a{j}{d} = coopLoadT<coop_mat16x16<f16, A>>(&q_high[at_q{j}{d}], PITCH);
        let b{j}{d} = coopLoad<coop_mat16x16<f16, B>>(&k_high[at_k{j}{d}], PITCH);
        score{j} = coopMultiplyAdd(a{j}{d}, b{j}{d}, score{j});
#ifdef SPLIT
        let a_low{j}{d} = coopLoadT<coop_mat16x16<f16, A>>(&q_low[at_q{j}{d}], PITCH);
        let b_low{j}{d} = coopLoad<coop_mat16x16<f16, B>>(&k_low[at_k{j}{d}], PITCH);
        score{j} = coopMultiplyAdd(a{j}{d}, b_low{j}{d}, score{j});
        score{j} = coopMultiplyAdd(a_low{j}{d}, b{j}{d}, score{j});
#endif
#end
        let at_score{j} = first_score + {j}u * 4u;
        coopStoreT(score{j}, &scores[at_score{j}], SCORE_PITCH);
#end
        workgroupBarrier();
        let mine = row * SCORE_PITCH + half * (KEYS / 8u);
        let first = c0 + half * (KEYS / 2u);
        var highest = HIDDEN;
#for i LANE_QUADS
        let key{i} = vec4(first + {i}u * 4u) + vec4(0u, 1u, 2u, 3u);
        let v{i} = select(vec4(HIDDEN), scores[mine + {i}u], key{i} < vec4(seen));
        highest = max(highest, max(max(v{i}.x, v{i}.y), max(v{i}.z, v{i}.w)));
#end
        highest = max(highest, subgroupShuffleXor(highest, 1u));
        var keep = 1.0;
        if highest > reference + SLACK {
            keep = exp(reference - highest);
            reference = highest;
            if c0 > 0u { rescales = vec4(1u); }
        }
        var sum_here = 0.0;
        let to = row * WEIGHT_PITCH + half * (KEYS / 8u);
#for i LANE_QUADS
        let e{i} = vec4<f16>(select(vec4(0.0), exp(v{i} - reference), key{i} < vec4(seen)));
        weights[to + {i}u] = e{i};
        sum_here += dot(vec4<f32>(e{i}), vec4(1.0));
#end
        total = total * keep + sum_here;
        workgroupBarrier();
        if workgroupUniformLoad(&rescales).x != 0u {
#for d DEPTH
            coopStoreT(sum{d}, &scores[first_score], SCORE_PITCH);
            workgroupBarrier();
            scores[row * SCORE_PITCH + half * 2u] *= keep;
            scores[row * SCORE_PITCH + half * 2u + 1u] *= keep;
            workgroupBarrier();
            sum{d} = coopLoadT<coop_mat16x16<f32, C>>(&scores[first_score], SCORE_PITCH);
            workgroupBarrier();
#end
        }
#for j KEY_BLOCKS
        let at_weight{j} = first_weight + {j}u * 4u;
        let w{j} = coopLoadT<coop_mat16x16<f16, A>>(&weights[at_weight{j}], WEIGHT_PITCH);
#for d DEPTH
        let at_value{j}{d} = {j}u * 16u * PITCH + {d}u * 4u;
        let value{j}{d} = coopLoadT<coop_mat16x16<f16, B>>(&value_tile[at_value{j}{d}], PITCH);
        sum{d} = coopMultiplyAdd(w{j}, value{j}{d}, sum{d});
#end
#end
        workgroupBarrier();
    }
    let inverse = 1.0 / (total + subgroupShuffleXor(total, 1u));
    let s = s0 + row;
    let to = q_at(b, min(s, last), h);
#for d DEPTH
    coopStoreT(sum{d}, &scores[first_score], SCORE_PITCH);
    workgroupBarrier();
    if s <= last {
        out[to + {d}u * 4u + half * 2u] = elem4(scores[row * SCORE_PITCH + half * 2u] * inverse);
        out[to + {d}u * 4u + half * 2u + 1u] = elem4(scores[row * SCORE_PITCH + half * 2u + 1u] * inverse);
    }
    workgroupBarrier();
#end
}
