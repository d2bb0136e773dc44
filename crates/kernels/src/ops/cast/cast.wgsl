// Four elements an invocation, through f32 or i32.
#import grid
#ifdef FROM_U8
alias source = u32;
#endif
#ifdef FROM_I8
alias source = u32;
#endif
#ifdef FROM_I32
alias source = vec4<i32>;
#endif
#ifdef FROM_F16
#enable f16
alias source = vec4<f16>;
#endif
#ifdef FROM_F32
alias source = vec4<f32>;
#endif
#ifdef FLOAT
alias work = vec4<f32>;
#else
alias work = vec4<i32>;
#endif
#ifdef TO_BOOL
alias target_type = u32;
#endif
#ifdef TO_BYTE
alias target_type = u32;
#endif
#ifdef TO_I32
alias target_type = vec4<i32>;
#endif
#ifdef TO_F16
#enable f16
alias target_type = vec4<f16>;
#endif
#ifdef TO_F32
alias target_type = vec4<f32>;
#endif
struct Params {
    quads: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<source>;
@group(0) @binding(2) var<storage, read_write> out: array<target_type>;

const SHIFTS = vec4(0u, 8u, 16u, 24u);

fn quad(at: u32) -> work {
#ifdef FROM_U8
    return work((vec4(x[at]) >> SHIFTS) & vec4(255u));
#endif
#ifdef FROM_I8
    return bitcast<vec4<i32>>(vec4(x[at]) << (vec4(24u) - SHIFTS)) >> vec4(24u);
#endif
#ifdef FROM_I32
    return x[at];
#endif
#ifdef FLOAT
    return work(x[at]);
#endif
}

fn packed(bytes: vec4<u32>) -> u32 {
    return dot(bytes << SHIFTS, vec4(1u));
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let at = linear_thread(ids);
    if at >= p.quads { return; }
    let value = quad(at);
#ifdef TO_BOOL
    out[at] = packed(select(vec4(0u), vec4(1u), value != work(0)));
#endif
#ifdef TO_BYTE
    out[at] = packed(bitcast<vec4<u32>>(vec4<i32>(value)) & vec4(255u));
#endif
#ifdef TO_I32
    out[at] = vec4<i32>(value);
#endif
#ifdef TO_F16
    out[at] = vec4<f16>(vec4<f32>(value));
#endif
#ifdef TO_F32
    out[at] = vec4<f32>(value);
#endif
}
