// Adds up the parts of K that the workgroups of coop.wgsl took, and finishes the products; an invocation for four outputs.
#import products
#import grid
struct Params { m: u32 }
@group(0) @binding(0) var<uniform> p: Params;

fn part_sum(m: u32, at: u32) -> vec4<f32> {
    var sum = vec4(0.0);
#for s SPLITS
    let part{s} = parts[({s}u * p.m + m) * (COLUMNS / 4u) + at];
#end
#for s SPLITS
    sum += part{s};
#end
    return sum;
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i >= p.m * (WALKED / 4u) { return; }
    let m = i / (WALKED / 4u);
    let at = i % (WALKED / 4u);
#ifdef SWIGLU
    keep(0u, m, at, finished(m, at, part_sum(m, at), part_sum(m, ITEMS0 + at)));
#else
    let segment = select(0u, 1u, at >= ITEMS0) + select(0u, 1u, at >= ITEMS0 + ITEMS1);
    let first = select(select(0u, ITEMS0, segment > 0u), ITEMS0 + ITEMS1, segment > 1u);
    keep(segment, m, at - first, finished(segment, m, at - first, part_sum(m, at)));
#endif
}
