// Operands of a linear layer, which the host declares: activations x, weight, out; scales, bias, x_scale and x_zero,
// residual where there are some.
#ifdef ANY_F16
#enable f16
#endif
#import elem
struct Params { m: u32 }
@group(0) @binding(0) var<uniform> p: Params;

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
#ifdef RESIDUAL
    v += f32(residual[m * N + n]);
#endif
    return elem(v);
}
