// out[m, n…n+ROWS] for one row m; grid: blocks of channels (x, folded into z), rows of activations (y).
alias x_item = elem4;
alias weight_item = vec4<u32>;
#import operands
#import grid

const ROW_CHUNKS = K / 32u;
#ifdef SUBGROUPS
var<workgroup> partial: array<array<f32, ROWS>, WG>;
#else
var<workgroup> partial: array<array<f32, WG>, ROWS>;
#endif

// Eight nibbles against eight activations that are scaled down by the place of their nibble: no shifts.
fn dot8(word: u32, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
    let a = vec4<f32>(vec4(word) & vec4(0xfu, 0xf0u, 0xf00u, 0xf000u));
    let b = vec4<f32>(vec4(word) & vec4(0xf0000u, 0xf00000u, 0xf000000u, 0xf0000000u));
    return dot(a, lo) + dot(b, hi);
}

const PLACE_LO = vec4<f32>(1.0, 0x1p-4, 0x1p-8, 0x1p-12);
const PLACE_HI = vec4<f32>(0x1p-16, 0x1p-20, 0x1p-24, 0x1p-28);

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let m = ids.wid.y;
    let first = (ids.wid.z * ids.groups.x + ids.wid.x) * ROWS;
    if first >= N { return; }
    let q = row_quant(m);
    var xs: array<vec4<f32>, 8u * CHUNKS>;
    var offset: array<f32, CHUNKS>;
    for (var c = 0u; c < CHUNKS; c++) {
        let chunk = c * WG + ids.lid;
        var sum = vec4(0.0);
        for (var i = 0u; i < 8u; i++) {
            var v = vec4(0.0);
            if chunk < ROW_CHUNKS { v = quantised(vec4<f32>(x[(m * ROW_CHUNKS + chunk) * 8u + i]), q); }
            sum += v;
            xs[c * 8u + i] = v * select(PLACE_LO, PLACE_HI, i % 2u == 1u);
        }
        // Nibbles hold value + 8.
        offset[c] = -8.0 * (sum.x + sum.y + sum.z + sum.w);
    }
    var sums: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let n = min(first + r, N - 1u);
        var sum = 0.0;
        for (var c = 0u; c < CHUNKS; c++) {
            let chunk = c * WG + ids.lid;
            if chunk < ROW_CHUNKS {
                let w = weight[n * ROW_CHUNKS + chunk];
                let scale = f32(scales[n * GROUPS + chunk / (GROUP / 32u)]);
                let at = c * 8u;
                let d = dot8(w.x, xs[at], xs[at + 1u]) + dot8(w.y, xs[at + 2u], xs[at + 3u])
                    + dot8(w.z, xs[at + 4u], xs[at + 5u]) + dot8(w.w, xs[at + 6u], xs[at + 7u]);
                sum += scale * (d + offset[c]);
            }
        }
        sums[r] = sum;
    }
#ifdef SUBGROUPS
    for (var r = 0u; r < ROWS; r++) {
        let part = subgroupAdd(sums[r]);
        if ids.lane == 0u { partial[ids.subgroup][r] = part; }
    }
    workgroupBarrier();
    if ids.lid < ROWS && first + ids.lid < N {
        var total = 0.0;
        for (var s = 0u; s < ids.subgroups; s++) { total += partial[s][ids.lid]; }
        out[m * N + first + ids.lid] = finish(total, m, first + ids.lid);
    }
#else
    for (var r = 0u; r < ROWS; r++) { partial[r][ids.lid] = sums[r]; }
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if ids.lid < half {
            for (var r = 0u; r < ROWS; r++) { partial[r][ids.lid] += partial[r][ids.lid + half]; }
        }
        workgroupBarrier();
    }
    if ids.lid < ROWS && first + ids.lid < N {
        out[m * N + first + ids.lid] = finish(partial[ids.lid][0], m, first + ids.lid);
    }
#endif
}
