// Joins the splits of each head; grid: heads, batch. A split that saw no key has weight zero.
#import attention
@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> states: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<elem4>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let h = ids.wid.x;
    let b = ids.wid.y;
    if ids.lid >= QUADS { return; }
    let first = (b * p.heads + h) * p.splits;
    var top = HIDDEN;
    for (var s = 0u; s < p.splits; s++) { top = max(top, states[first + s].x); }
    var weight_sum = 0.0;
    var v = vec4(0.0);
    for (var s = 0u; s < p.splits; s++) {
        let state = states[first + s];
        let scale = exp(state.x - top);
        weight_sum += scale * state.y;
        v += scale * sums[(first + s) * QUADS + ids.lid];
    }
    out[q_at(b, 0u, h) + ids.lid] = elem4(v / weight_sum);
}
