// Activations as products take them. With DYNAMIC_Q8 they are quantised to 8 bits with a scale and a zero point a row: the
// host declares x_scale and x_zero, or QUANTISE_HERE says that both are chosen in the launch.

// Quantisation of one row.
struct RowQuant {
    scale: f32,
    zero: f32,
}

#ifndef QUANTISE_HERE
fn row_quant(m: u32) -> RowQuant {
#ifdef DYNAMIC_Q8
    return RowQuant(f32(x_scale[m]), f32(extractBits(bitcast<i32>(x_zero[m / 4u]), 8u * (m % 4u), 8u)));
#else
    return RowQuant(1.0, 0.0);
#endif
}
#endif

// The integer that an activation is quantised to, less the zero point; the activation itself where it is not.
fn quantised(v: vec4<f32>, q: RowQuant) -> vec4<f32> {
#ifdef DYNAMIC_Q8
    return clamp(round(v / q.scale) + q.zero, vec4(-128.0), vec4(127.0)) - q.zero;
#else
    return v;
#endif
}
