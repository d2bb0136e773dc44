// out = f(x), four elements an invocation.
#import elem
#import grid
struct Params { count: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<elem4>;
@group(0) @binding(2) var<storage, read_write> out: array<elem4>;

fn apply(v: vec4<f32>) -> vec4<f32> {
#ifdef SIGMOID
    return 1.0 / (1.0 + exp(-v));
#endif
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i < p.count { out[i] = elem4(apply(vec4<f32>(x[i]))); }
}
