// out[i] = source[origin + sum of coordinate * stride], one output word an invocation.
#import coords
#import grid
#import packed
struct Params {
    count: u32,
    words: u32,
    // The origin is `offset`, plus `start` times `stride`: a position in a dimension of `size`, counted from behind where
    // it is negative.
    offset: u32,
    start: i32,
    sizes: array<vec4<u32>, 2>,
    strides: array<vec4<u32>, 2>,
    size: u32,
    stride: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

fn origin() -> u32 {
    let size = i32(p.size);
    let start = clamp(select(p.start, p.start + size, p.start < 0), 0, size);
    return p.offset + u32(start) * p.stride;
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if word >= p.words { return; }
    var result = 0u;
    for (var i = word * PER_WORD; i < min((word + 1u) * PER_WORD, p.count); i++) {
        let at = origin() + place(coordinates(i, p.sizes), p.strides);
        result = repacked(result, i, unpacked(source[at / PER_WORD], at));
    }
    out[word] = result;
}
