// The last workgroup of a key-value head joins the parts of its query heads; the host module has sums, states and out.

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
