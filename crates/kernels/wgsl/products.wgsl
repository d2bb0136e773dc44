// What follows the products of one input with up to three matrices: bias, and residual or gate. With ROW_SCALE the sums
// lack the scale of a quantised row. The host declares the operands: x_scale, bias0..2, residual, out0..2.
#ifdef ANY_F16
#enable f16
#endif
#import elem
#ifndef TWO
const N1 = 0u;
#endif
#ifndef THREE
const N2 = 0u;
#endif

fn scaled(segment: u32, m: u32, n: u32, sum: f32) -> f32 {
    var v = sum;
#ifdef ROW_SCALE
    v *= f32(x_scale[m]);
#endif
#ifdef BIAS0
    if segment == 0u { v += f32(bias0[n]); }
#endif
#ifdef BIAS1
    if segment == 1u { v += f32(bias1[n]); }
#endif
#ifdef BIAS2
    if segment == 2u { v += f32(bias2[n]); }
#endif
    return v;
}

#ifndef ROPE
#ifdef SWIGLU
// Keeps one element of the gated product, from the sums of gate and up.
fn keep_gated(m: u32, n: u32, gate: f32, up: f32) {
    let g = scaled(0u, m, n, gate);
    out0[m * N0 + n] = elem(g / (1.0 + exp(-g)) * scaled(1u, m, n, up));
}
#else
fn keep(segment: u32, m: u32, n: u32, sum: f32) {
    let v = scaled(segment, m, n, sum);
#ifdef RESIDUAL
    out0[m * N0 + n] = elem(v + f32(residual[m * N0 + n]));
#else
    if segment == 0u { out0[m * N0 + n] = elem(v); }
#ifdef TWO
    if segment == 1u { out1[m * N1 + n] = elem(v); }
#endif
#ifdef THREE
    if segment == 2u { out2[m * N2 + n] = elem(v); }
#endif
#endif
}
#endif
#endif
