// The last workgroup of a key-value head joins the parts of its query heads; the host module has sums, states and out.
// SHARE threads share the parts of an item, a head's vec4, and have AT_ONCE parts each under way.

// Items that are joined at once.
const ITEMS = WG / SHARE;
// What the threads of an item found: the highest score, and the sum of weights relative to it.
var<workgroup> shares: array<vec2<f32>, WG>;

fn merge(b: u32, kv_head: u32, ids: Ids) {
    let count = split_count();
    let share = ids.lid / ITEMS;
    for (var i = 0u; i < GROUP * QUADS; i += ITEMS) {
        let item = min(i + ids.lid % ITEMS, GROUP * QUADS - 1u);
        let g = item / QUADS;
        let quad = item % QUADS;
        let first = (b * p.heads + kv_head * GROUP + g) * MAX_SPLITS;
        var highest = HIDDEN;
        var total = 0.0;
        var v = vec4(0.0);
        for (var s = share; s < count; s += SHARE * AT_ONCE) {
#for j AT_ONCE
            let part{j} = first + min(s + {j}u * SHARE, count - 1u);
            let state{j} = states[part{j}];
            let sum{j} = sums[part{j} * QUADS + quad];
#end
            let before = highest;
#for j AT_ONCE
            highest = max(highest, state{j}.x);
#end
            let kept = exp(before - highest);
            total *= kept;
            v *= kept;
#for j AT_ONCE
            let weight{j} = select(0.0, exp(state{j}.x - highest), s + {j}u * SHARE < count);
            total += weight{j} * state{j}.y;
            v += weight{j} * sum{j};
#end
        }
        merged[ids.lid] = v;
        shares[ids.lid] = vec2(highest, total);
        workgroupBarrier();
        if ids.lid < ITEMS && i + ids.lid < GROUP * QUADS {
            var top = highest;
            for (var other = 1u; other < SHARE; other++) { top = max(top, shares[other * ITEMS + ids.lid].x); }
            let kept = exp(highest - top);
            total *= kept;
            v *= kept;
            for (var other = 1u; other < SHARE; other++) {
                let at = other * ITEMS + ids.lid;
                let weight = exp(shares[at].x - top);
                total += weight * shares[at].y;
                v += weight * merged[at];
            }
            out[q_at(b, 0u, kv_head * GROUP + g) + quad] = elem4(v / total);
        }
        workgroupBarrier();
    }
}
