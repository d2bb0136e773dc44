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
#ifdef BROADCAST
#import coords
#endif
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
#ifdef SWIGLU
    return x / (1.0 + exp(-x)) * y;
#endif
#ifdef DIV
    return x / y;
#endif
#ifdef DIV_FLOOR
#ifdef INT
    let zero = work_item(0);
    let q = x / y;
    return q - select(zero, work_item(1), (q * y != x) & ((x < zero) != (y < zero)));
#else
    return floor(x / y);
#endif
#endif
#ifdef DIV_TRUNC
#ifdef INT
    return x / y;
#else
    return trunc(x / y);
#endif
#endif
#ifdef MINIMUM
    return min(x, y);
#endif
#ifdef MAXIMUM
    return max(x, y);
#endif
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i >= p.count { return; }
#ifdef BROADCAST
    let at = coordinates(i, p.sizes);
    let ia = place(at, p.a_strides);
    let ib = place(at, p.b_strides);
#else
    let ia = i;
    let ib = i;
#endif
    out[i] = item(combine(work_item(a[ia]), work_item(b[ib])));
}
