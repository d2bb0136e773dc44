// out[i] = source[offset + sum of coordinate * stride], one output word an invocation.
#import coords
#import grid
#import packed
struct Params {
    count: u32,
    words: u32,
    offset: u32,
    unused: u32,
    sizes: array<vec4<u32>, 2>,
    strides: array<vec4<u32>, 2>,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if word >= p.words { return; }
    var result = 0u;
    for (var i = word * PER_WORD; i < min((word + 1u) * PER_WORD, p.count); i++) {
        let at = p.offset + place(coordinates(i, p.sizes), p.strides);
        result = repacked(result, i, unpacked(source[at / PER_WORD], at));
    }
    out[word] = result;
}
