// Truth of a comparison, a byte each: one word of four results an invocation.
#ifdef INT
alias elem = i32;
alias elem4 = vec4<i32>;
#else
#import elem
#endif
#ifdef INT_WORK
alias work = i32;
alias work4 = vec4<i32>;
#else
alias work = f32;
alias work4 = vec4<f32>;
#endif
#import grid
#ifdef BROADCAST
#import coords
#endif
struct Params {
    count: u32,
    scalar: u32,
#ifdef BROADCAST
    unused: vec2<u32>,
    sizes: array<vec4<u32>, 2>,
    a_strides: array<vec4<u32>, 2>,
    b_strides: array<vec4<u32>, 2>,
#endif
}
#ifdef BROADCAST
alias item = elem;
#else
alias item = elem4;
#endif
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<item>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
#ifndef SCALAR
@group(0) @binding(3) var<storage, read> b: array<item>;
#endif

fn holds(x: work4, y: work4) -> vec4<bool> {
#ifdef EQ
    return x == y;
#endif
#ifdef NE
    return x != y;
#endif
#ifdef LT
    return x < y;
#endif
#ifdef LE
    return x <= y;
#endif
#ifdef GT
    return x > y;
#endif
#ifdef GE
    return x >= y;
#endif
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if 4u * word >= p.count { return; }
#ifdef BROADCAST
    var x: work4;
    var y: work4;
    for (var i = 0u; i < 4u; i++) {
        let at = coordinates(min(4u * word + i, p.count - 1u), p.sizes);
        x[i] = work(a[place(at, p.a_strides)]);
        y[i] = work(b[place(at, p.b_strides)]);
    }
#else
    let x = work4(a[word]);
#ifdef SCALAR
    let y = work4(bitcast<work>(p.scalar));
#else
    let y = work4(b[word]);
#endif
#endif
    out[word] = dot(select(vec4(0u), vec4(1u, 1u << 8u, 1u << 16u, 1u << 24u), holds(x, y)), vec4(1u));
}
