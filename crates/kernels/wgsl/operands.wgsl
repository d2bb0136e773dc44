// Operands of a linear layer, which the host declares: activations x, weight, out; scales, bias, x_scale and x_zero,
// residual where there are some.
#ifdef ANY_F16
#enable f16
#endif
#import elem
#import quantised_rows
struct Params { m: u32 }
@group(0) @binding(0) var<uniform> p: Params;

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
