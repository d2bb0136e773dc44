// Rows of activations for coop.wgsl, a workgroup each: normalised, quantised to 8 bits, rounded to f16, as flags ask.
// Quantised activations are integers less their zero point, which f16 holds exactly.
#enable f16
#import elem
#import grid
#import reduce
#import qparams
#import quantised_rows
struct Params {
    m: u32,
    eps: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
const QUADS = K / 4u;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let m = linear_workgroup(ids);
    if m >= p.m { return; }
#for i ITEMS
    let at{i} = {i}u * WG + ids.lid;
    let inside{i} = at{i} < QUADS;
    var v{i} = select(vec4(0.0), vec4<f32>(x[m * QUADS + min(at{i}, QUADS - 1u)]), inside{i});
#end
#ifdef NORM
    var squares = 0.0;
#for i ITEMS
    squares += dot(v{i}, v{i});
#end
    let inverse = inverseSqrt(workgroup_sum(squares, ids) / f32(K) + p.eps);
#for i ITEMS
    v{i} *= inverse * vec4<f32>(norm_weight[min(at{i}, QUADS - 1u)]);
#end
#endif
#ifdef QUANTISE_HERE
    var low = vec4(0.0);
    var high = vec4(0.0);
#for i ITEMS
    low = min(low, v{i});
    high = max(high, v{i});
#end
    let lowest = workgroup_min(min(min(low.x, low.y), min(low.z, low.w)), ids);
    let highest = workgroup_max(max(max(high.x, high.y), max(high.z, high.w)), ids);
    let chosen = choose_qparams(lowest, highest);
    let quant = RowQuant(chosen.scale, chosen.zero);
    if ids.lid == 0u { row_scale[m] = chosen.scale; }
#else
    let quant = row_quant(m);
#endif
#for i ITEMS
    if inside{i} { rounded[m * QUADS + at{i}] = vec4<f16>(quantised(v{i}, quant)); }
#end
}
