// out = f(a, b); equal sizes go four elements an invocation, broadcasts one.
#ifdef INT
alias elem = i32;
alias elem4 = vec4<i32>;
alias work = i32;
alias work4 = vec4<i32>;
#else
#import elem
alias work = f32;
alias work4 = vec4<f32>;
#endif
#import grid
struct Params {
    count: u32,
    alpha: u32,
#ifdef BROADCAST
    unused: vec2<u32>,
    sizes: array<vec4<u32>, 2>,
    a_strides: array<vec4<u32>, 2>,
    b_strides: array<vec4<u32>, 2>,
#endif
}
#ifdef BROADCAST
alias item = elem;
alias work_item = work;
#else
alias item = elem4;
alias work_item = work4;
#endif
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<item>;
@group(0) @binding(2) var<storage, read> b: array<item>;
@group(0) @binding(3) var<storage, read_write> out: array<item>;

fn combine(x: work_item, y: work_item) -> work_item {
#ifdef ADD
    return x + bitcast<work>(p.alpha) * y;
#endif
#ifdef SUB
    return x - bitcast<work>(p.alpha) * y;
#endif
#ifdef MUL
    return x * y;
#endif
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i >= p.count { return; }
#ifdef BROADCAST
    var rest = i;
    var ia = 0u;
    var ib = 0u;
    for (var d = 8u; d > 0u; d--) {
        let hi = (d - 1u) / 4u;
        let lo = (d - 1u) % 4u;
        let at = rest % p.sizes[hi][lo];
        rest /= p.sizes[hi][lo];
        ia += at * p.a_strides[hi][lo];
        ib += at * p.b_strides[hi][lo];
    }
    out[i] = item(combine(work_item(a[ia]), work_item(b[ib])));
#else
    out[i] = item(combine(work_item(a[i]), work_item(b[i])));
#endif
}
