// Adds up the parts of K that the workgroups of coop.wgsl took, and finishes the products; an invocation an output.
#import products
#import grid
struct Params { m: u32 }
@group(0) @binding(0) var<uniform> p: Params;

fn part_sum(m: u32, column: u32) -> f32 {
    var sum = 0.0;
    for (var split = 0u; split < SPLITS; split++) { sum += parts[(split * p.m + m) * COLUMNS + column]; }
    return sum;
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i >= p.m * WALKED { return; }
    let m = i / WALKED;
    let column = i % WALKED;
#ifdef SWIGLU
    keep_gated(m, column, part_sum(m, column), part_sum(m, N0 + column));
#else
    let segment = select(0u, 1u, column >= N0) + select(0u, 1u, column >= N0 + N1);
    let first = select(select(0u, N0, segment > 0u), N0 + N1, segment > 1u);
    keep(segment, m, column - first, part_sum(m, column));
#endif
}
