// One workgroup for four rows, whose zero points share a word.
#import elem
#import reduce
#import qparams
#ifdef SCALES_F16
#enable f16
alias scale_t = f16;
#else
alias scale_t = f32;
#endif
struct Params {
    rows: u32,
    width: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> scales: array<scale_t>;
@group(0) @binding(3) var<storage, read_write> zeros: array<u32>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let first = linear_workgroup(ids) * 4u;
    if first >= p.rows { return; }
    var packed = 0u;
    for (var r = 0u; r < 4u; r++) {
        let row = min(first + r, p.rows - 1u);
        var low = 0.0;
        var high = 0.0;
        for (var i = ids.lid; i < p.width; i += WG) {
            let v = f32(x[row * p.width + i]);
            low = min(low, v);
            high = max(high, v);
        }
        let lowest = workgroup_min(low, ids);
        let highest = workgroup_max(high, ids);
        let q = choose_qparams(lowest, highest);
        packed = insertBits(packed, bitcast<u32>(i32(q.zero)), 8u * r, 8u);
        if ids.lid == 0u && first + r < p.rows { scales[row] = scale_t(q.scale); }
    }
    if ids.lid == 0u { zeros[first / 4u] = packed; }
}
