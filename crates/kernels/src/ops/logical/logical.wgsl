// Functions of truth values, a byte each: one word of four results an invocation.
#import grid
#ifdef BROADCAST
#import coords
#import packed
#endif
struct Params {
    count: u32,
    words: u32,
#ifdef BROADCAST
    unused: vec2<u32>,
    sizes: array<vec4<u32>, 2>,
    a_strides: array<vec4<u32>, 2>,
    b_strides: array<vec4<u32>, 2>,
#endif
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
#ifndef NOT
@group(0) @binding(3) var<storage, read> b: array<u32>;
#endif

// One for every byte that is not zero.
fn truth(word: u32) -> u32 {
    var any = word | (word >> 4u);
    any |= any >> 2u;
    any |= any >> 1u;
    return any & 0x01010101u;
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if word >= p.words { return; }
#ifdef BROADCAST
    var x = 0u;
    var y = 0u;
    for (var i = 4u * word; i < min(4u * word + 4u, p.count); i++) {
        let at = coordinates(i, p.sizes);
        let ia = place(at, p.a_strides);
        let ib = place(at, p.b_strides);
        x = repacked(x, i, unpacked(a[ia / 4u], ia));
        y = repacked(y, i, unpacked(b[ib / 4u], ib));
    }
#else
    let x = a[word];
#ifndef NOT
    let y = b[word];
#endif
#endif
#ifdef NOT
    out[word] = truth(x) ^ 0x01010101u;
#endif
#ifdef AND
    out[word] = truth(x) & truth(y);
#endif
#ifdef OR
    out[word] = truth(x) | truth(y);
#endif
#ifdef XOR
    out[word] = truth(x) ^ truth(y);
#endif
}
