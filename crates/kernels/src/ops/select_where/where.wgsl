// out = condition ? a : b, one output word an invocation; conditions are bytes.
#import coords
#import grid
#import packed
struct Params {
    count: u32,
    words: u32,
    unused: vec2<u32>,
    sizes: array<vec4<u32>, 2>,
    condition_strides: array<vec4<u32>, 2>,
    a_strides: array<vec4<u32>, 2>,
    b_strides: array<vec4<u32>, 2>,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> condition: array<u32>;
@group(0) @binding(2) var<storage, read> a: array<u32>;
@group(0) @binding(3) var<storage, read> b: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<u32>;

fn picked(i: u32) -> u32 {
    let at = coordinates(i, p.sizes);
    let c = place(at, p.condition_strides);
    if extractBits(condition[c / 4u], 8u * (c % 4u), 8u) != 0u {
        let ia = place(at, p.a_strides);
        return unpacked(a[ia / PER_WORD], ia);
    }
    let ib = place(at, p.b_strides);
    return unpacked(b[ib / PER_WORD], ib);
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if word >= p.words { return; }
    var result = 0u;
    for (var i = word * PER_WORD; i < min((word + 1u) * PER_WORD, p.count); i++) {
        result = repacked(result, i, picked(i));
    }
    out[word] = result;
}
