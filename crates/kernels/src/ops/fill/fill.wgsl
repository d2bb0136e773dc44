// One word of equal elements an invocation.
#import grid
struct Params {
    words: u32,
    value: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if word < p.words { out[word] = p.value; }
}
