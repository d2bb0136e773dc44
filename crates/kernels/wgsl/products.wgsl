// What follows the products of one input with up to three matrices: bias, and residual or gate. With ROW_SCALE the sums
// lack the scale of a quantised row. The host declares the operands: x_scale, bias0..2, residual, out0..2. With VECTOR
// all but x_scale are vec4s: an item is four output channels.
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
#ifdef VECTOR
alias item = elem4;
alias work = vec4<f32>;
const ITEMS0 = N0 / 4u;
const ITEMS1 = N1 / 4u;
const ITEMS2 = N2 / 4u;
#else
alias item = elem;
alias work = f32;
const ITEMS0 = N0;
const ITEMS1 = N1;
const ITEMS2 = N2;
#endif

fn scaled(segment: u32, m: u32, n: u32, sum: work) -> work {
    var v = sum;
#ifdef ROW_SCALE
    v *= f32(x_scale[m]);
#endif
#ifdef BIAS0
    if segment == 0u { v += work(bias0[n]); }
#endif
#ifdef BIAS1
    if segment == 1u { v += work(bias1[n]); }
#endif
#ifdef BIAS2
    if segment == 2u { v += work(bias2[n]); }
#endif
    return v;
}

#ifndef ROPE
#ifdef SWIGLU
// One item of the gated product, from the sums of gate and up.
fn finished(m: u32, n: u32, gate: work, up: work) -> work {
    let g = scaled(0u, m, n, gate);
    return g / (1.0 + exp(-g)) * scaled(1u, m, n, up);
}
#else
// What is added to an item of an output.
fn addend(m: u32, n: u32) -> work {
#ifdef RESIDUAL
    return work(residual[m * ITEMS0 + n]);
#else
    return work(0.0);
#endif
}

// One item of an output, from its sum.
fn finished(segment: u32, m: u32, n: u32, sum: work) -> work {
    return scaled(segment, m, n, sum) + addend(m, n);
}
#endif

fn keep(segment: u32, m: u32, n: u32, v: work) {
    if segment == 0u { out0[m * ITEMS0 + n] = item(v); }
#ifndef SWIGLU
#ifdef TWO
    if segment == 1u { out1[m * ITEMS1 + n] = item(v); }
#endif
#ifdef THREE
    if segment == 2u { out2[m * ITEMS2 + n] = item(v); }
#endif
#endif
}
#endif
