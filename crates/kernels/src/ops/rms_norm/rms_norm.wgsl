// One workgroup a row.
#import elem
#import reduce
struct Params {
    rows: u32,
    items: u32,
    eps: f32,
    inverse_width: f32,
}
#ifdef VECTOR
alias item = elem4;
alias work = vec4<f32>;
fn sum_of(v: work) -> f32 { return dot(v, vec4(1.0)); }
#else
alias item = elem;
alias work = f32;
fn sum_of(v: work) -> f32 { return v; }
#endif
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<item>;
@group(0) @binding(2) var<storage, read> weight: array<item>;
@group(0) @binding(3) var<storage, read_write> out: array<item>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let row = linear_workgroup(ids);
    if row >= p.rows { return; }
    let base = row * p.items;
    var squares = 0.0;
    for (var i = ids.lid; i < p.items; i += WG) {
        let v = work(x[base + i]);
        squares += sum_of(v * v);
    }
    let scale = inverseSqrt(workgroup_sum(squares, ids) * p.inverse_width + p.eps);
    for (var i = ids.lid; i < p.items; i += WG) {
        out[base + i] = item(work(x[base + i]) * scale * work(weight[i]));
    }
}
