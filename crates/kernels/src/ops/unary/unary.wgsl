// out = f(x), four elements an invocation; `first` and `second` are the function's own numbers.
#import elem
#import grid
struct Params {
    count: u32,
    first: f32,
    second: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<elem4>;
@group(0) @binding(2) var<storage, read_write> out: array<elem4>;

#ifdef GELU
// Abramowitz and Stegun 7.1.26; off by at most 1.5e-7.
fn erf(v: vec4<f32>) -> vec4<f32> {
    let t = 1.0 / (1.0 + 0.3275911 * abs(v));
    let series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(v) * (1.0 - series * exp(-v * v));
}
#endif

// Drivers compute tanh from exponentials, which overflow.
fn safe_tanh(v: vec4<f32>) -> vec4<f32> {
    return tanh(clamp(v, vec4(-15.0), vec4(15.0)));
}

#ifdef POW
// Only whole exponents have a value for negative bases; the square root makes the others not a number.
fn power(v: vec4<f32>, e: f32) -> vec4<f32> {
    if e == 0.0 { return vec4(1.0); }
    if e == 2.0 { return v * v; }
    let magnitude = pow(abs(v), vec4(e));
    let is_whole = e == trunc(e);
    let is_odd = is_whole && abs(e) % 2.0 == 1.0;
    let of_negative = select(select(sqrt(v), magnitude, is_whole), -magnitude, is_odd);
    return select(magnitude, of_negative, v < vec4(0.0));
}
#endif

fn apply(v: vec4<f32>) -> vec4<f32> {
#ifdef ABS
    return abs(v);
#endif
#ifdef CLAMP
    return min(max(v, vec4(p.first)), vec4(p.second));
#endif
#ifdef COS
    return cos(v);
#endif
#ifdef EXP
    return exp(v);
#endif
#ifdef GELU
    return 0.5 * v * (1.0 + erf(v * 0.7071067811865476));
#endif
#ifdef GELU_TANH
    return 0.5 * v * (1.0 + safe_tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
#endif
#ifdef HARDSWISH
    return v * clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0;
#endif
#ifdef LEAKY_RELU
    return select(p.first * v, v, v > vec4(0.0));
#endif
#ifdef NEG
    return -v;
#endif
#ifdef POW
    return power(v, p.first);
#endif
#ifdef RELU
    return max(v, vec4(0.0));
#endif
#ifdef ROUND
    return round(v);
#endif
#ifdef RSQRT
    return inverseSqrt(v);
#endif
#ifdef SIGMOID
    return 1.0 / (1.0 + exp(-v));
#endif
#ifdef SIN
    return sin(v);
#endif
#ifdef SQRT
    return sqrt(v);
#endif
#ifdef TANH
    return safe_tanh(v);
#endif
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i < p.count { out[i] = elem4(apply(vec4<f32>(x[i]))); }
}
