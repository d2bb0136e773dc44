// Operands of a linear layer: activations x, weights, and what belongs to them.
#import elem
#ifdef SCALES_F16
#enable f16
alias scale_t = f16;
#else
alias scale_t = f32;
#endif
#ifdef BIAS_F16
#enable f16
alias bias_t = f16;
#else
alias bias_t = f32;
#endif
#ifdef X_SCALE_F16
#enable f16
alias x_scale_t = f16;
#else
alias x_scale_t = f32;
#endif
struct Params { m: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<x_item>;
@group(0) @binding(2) var<storage, read> weight: array<weight_item>;
@group(0) @binding(3) var<storage, read_write> out: array<elem>;
#ifdef Q4
// Transposed: the scales of one output channel lie together.
@group(0) @binding(4) var<storage, read> scales: array<scale_t>;
#ifdef BIAS
@group(0) @binding(5) var<storage, read> bias: array<bias_t>;
#ifdef DYNAMIC_Q8
@group(0) @binding(6) var<storage, read> x_scale: array<x_scale_t>;
@group(0) @binding(7) var<storage, read> x_zero: array<u32>;
#endif
#else
#ifdef DYNAMIC_Q8
@group(0) @binding(5) var<storage, read> x_scale: array<x_scale_t>;
@group(0) @binding(6) var<storage, read> x_zero: array<u32>;
#endif
#endif
#else
#ifdef BIAS
@group(0) @binding(4) var<storage, read> bias: array<bias_t>;
#endif
#endif

// Quantisation of one row of activations.
struct RowQuant {
    scale: f32,
    zero: f32,
}

fn row_quant(m: u32) -> RowQuant {
#ifdef DYNAMIC_Q8
    return RowQuant(f32(x_scale[m]), f32(extractBits(bitcast<i32>(x_zero[m / 4u]), 8u * (m % 4u), 8u)));
#else
    return RowQuant(1.0, 0.0);
#endif
}

// The integer that an activation is quantised to, less the zero point; the activation itself where it is not.
fn quantised(v: vec4<f32>, q: RowQuant) -> vec4<f32> {
#ifdef DYNAMIC_Q8
    return clamp(round(v / q.scale) + q.zero, vec4(-128.0), vec4(127.0)) - q.zero;
#else
    return v;
#endif
}

fn finish(sum: f32, m: u32, n: u32) -> elem {
#ifdef DYNAMIC_Q8
    var v = sum * f32(x_scale[m]);
#else
    var v = sum;
#endif
#ifdef BIAS
    v += f32(bias[n]);
#endif
    return elem(v);
}
