// The last workgroup of a key-value head joins the parts of its query heads; the host module has sums, states and out.

// Parts whose loads a thread has under way at once.
const AT_ONCE = 8u;
// Threads that share the parts of a head's vec4, and items, a head's vec4 each, that are joined at once.
const SHARE = max(1u, WG / (GROUP * QUADS));
const ITEMS = WG / SHARE;
// What each part of a head counts: its state at first, then its weight in x.
var<workgroup> shares: array<vec2<f32>, GROUP * MAX_SPLITS>;
// Sum of each head's weights.
var<workgroup> totals: array<f32, GROUP>;

// Fills shares and totals; a barrier makes them seen. A subgroup does a head, or a thread where there are none.
fn weigh(first: u32, count: u32, ids: Ids) {
#ifdef SUBGROUPS
    let team = ids.subgroup;
    let teams = ids.subgroups;
    let lane = ids.lane;
    let lanes = WG / ids.subgroups;
#else
    let team = ids.lid;
    const teams = WG;
    const lane = 0u;
    const lanes = 1u;
#endif
    for (var g = team; g < GROUP; g += teams) {
        let at = g * MAX_SPLITS;
        var top = HIDDEN;
        for (var s = lane; s < count; s += lanes) {
            shares[at + s] = states[first + at + s];
            top = max(top, shares[at + s].x);
        }
#ifdef SUBGROUPS
        top = subgroupMax(top);
#endif
        var total = 0.0;
        for (var s = lane; s < count; s += lanes) {
            let weight = exp(shares[at + s].x - top);
            total += weight * shares[at + s].y;
            shares[at + s].x = weight;
        }
#ifdef SUBGROUPS
        total = subgroupAdd(total);
#endif
        if lane == 0u { totals[g] = total; }
    }
}

fn merge(b: u32, kv_head: u32, ids: Ids) {
    let count = split_count();
    let first = (b * p.heads + kv_head * GROUP) * MAX_SPLITS;
    let share = ids.lid / ITEMS;
    for (var i = 0u; i < GROUP * QUADS; i += ITEMS) {
        let item = min(i + ids.lid % ITEMS, GROUP * QUADS - 1u);
        let g = item / QUADS;
        let quad = item % QUADS;
        var v = vec4(0.0);
        for (var s = 0u; s < count; s += SHARE * AT_ONCE) {
#for j 8
            let part{j} = g * MAX_SPLITS + min(s + share + {j}u * SHARE, count - 1u);
            let sum{j} = sums[(first + part{j}) * QUADS + quad];
#end
            // Weights are found while the first sums are on their way.
            if i + s == 0u {
                weigh(first, count, ids);
                workgroupBarrier();
            }
#for j 8
            v += select(0.0, shares[part{j}].x, s + share + {j}u * SHARE < count) * sum{j};
#end
        }
        merged[ids.lid] = v;
        workgroupBarrier();
        if ids.lid < ITEMS && i + ids.lid < GROUP * QUADS {
            for (var other = 1u; other < SHARE; other++) { v += merged[other * ITEMS + ids.lid]; }
            out[q_at(b, 0u, kv_head * GROUP + g) + quad] = elem4(v / totals[g]);
        }
        workgroupBarrier();
    }
}
