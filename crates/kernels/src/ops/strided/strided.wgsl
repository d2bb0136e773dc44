// out[i] = source[offset + sum of coordinate * stride], one output word an invocation; elements of 1, 2 or 4 bytes.
#import grid
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

fn source_index(index: u32) -> u32 {
    var rest = index;
    var at = p.offset;
    for (var d = 8u; d > 0u; d--) {
        let size = p.sizes[(d - 1u) / 4u][(d - 1u) % 4u];
        at += (rest % size) * p.strides[(d - 1u) / 4u][(d - 1u) % 4u];
        rest /= size;
    }
    return at;
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if word >= p.words { return; }
    const PER_WORD = 4u / ELEMENT_BYTES;
    if PER_WORD == 1u {
        out[word] = source[source_index(word)];
        return;
    }
    const BITS = 8u * ELEMENT_BYTES;
    var packed = 0u;
    for (var j = 0u; j < PER_WORD; j++) {
        let element = word * PER_WORD + j;
        if element < p.count {
            let at = source_index(element);
            packed = insertBits(packed, source[at / PER_WORD] >> (BITS * (at % PER_WORD)), BITS * j, BITS);
        }
    }
    out[word] = packed;
}
