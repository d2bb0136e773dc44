// out[i, :] = (nibble - 8) * scale of row indices[i]; one word of eight nibbles an invocation.
#import elem
#import grid
struct Params {
    words: u32,
    row_words: u32,
    groups: u32,
    words_per_group: u32,
    rows: u32,
}
#ifdef SCALES_F16
#enable f16
alias scale_t = f16;
#else
alias scale_t = f32;
#endif
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<scale_t>;
@group(0) @binding(3) var<storage, read> indices: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<elem4>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i >= p.words { return; }
    let row = min(indices[i / p.row_words], p.rows - 1u);
    let column = i % p.row_words;
    let scale = f32(scales[row * p.groups + column / p.words_per_group]);
    let word = weight[row * p.row_words + column];
    let even = vec4<f32>(unpack4xU8(word & 0x0f0f0f0fu)) - 8.0;
    let odd = vec4<f32>(unpack4xU8((word >> 4u) & 0x0f0f0f0fu)) - 8.0;
#ifdef LOW_FIRST
    let first = even;
    let second = odd;
#else
    let first = odd;
    let second = even;
#endif
    out[2u * i] = elem4(scale * vec4(first.x, second.x, first.y, second.y));
    out[2u * i + 1u] = elem4(scale * vec4(first.z, second.z, first.w, second.w));
}
