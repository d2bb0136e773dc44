// 64×64 outputs a workgroup, 4×4 an invocation; grid: channels (x), rows (y).
alias x_item = elem4;
#ifdef Q4
alias weight_item = u32;
#else
alias weight_item = elem4;
#endif
#import operands
#import grid

const TILE = 64u;
const STEP = 16u;
// Rows are padded by one vec4, so that the four rows an invocation writes fall into different banks.
const PITCH = TILE / 4u + 1u;
var<workgroup> xs: array<vec4<f32>, STEP * PITCH>;
var<workgroup> ws: array<vec4<f32>, STEP * PITCH>;

fn stage_x(row: u32, quad: u32, m0: u32, k0: u32) {
    let m = m0 + row;
    let k = k0 + 4u * quad;
    var v = vec4(0.0);
    if m < p.m && k < K { v = quantised(vec4<f32>(x[(m * K + k) / 4u]), row_quant(m)); }
    for (var i = 0u; i < 4u; i++) { xs[(4u * quad + i) * PITCH + row / 4u][row % 4u] = v[i]; }
}

#ifdef Q4
fn stage_w(row: u32, half: u32, n0: u32, k0: u32) {
    const ROW_WORDS = (K + 7u) / 8u;
    let n = n0 + row;
    let k = k0 + 8u * half;
    var word = 0x88888888u;
    var scale = 0.0;
    if n < N && k < K {
        word = weight[n * ROW_WORDS + k / 8u];
        scale = f32(scales[n * GROUPS + k / GROUP]);
    }
    for (var i = 0u; i < 8u; i++) {
        let w = (f32(extractBits(word, 4u * i, 4u)) - 8.0) * scale;
        ws[(8u * half + i) * PITCH + row / 4u][row % 4u] = w;
    }
}
#else
fn stage_w(row: u32, quad: u32, n0: u32, k0: u32) {
    let n = n0 + row;
    let k = k0 + 4u * quad;
    var v = vec4(0.0);
    if n < N && k < K { v = vec4<f32>(weight[(n * K + k) / 4u]); }
    for (var i = 0u; i < 4u; i++) { ws[(4u * quad + i) * PITCH + row / 4u][row % 4u] = v[i]; }
}
#endif

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let n0 = ids.wid.x * TILE;
    let m0 = ids.wid.y * TILE;
    let tx = ids.lid % 16u;
    let ty = ids.lid / 16u;
    var sums: array<vec4<f32>, 4>;
    for (var k0 = 0u; k0 < K; k0 += STEP) {
        stage_x(ids.lid / 4u, ids.lid % 4u, m0, k0);
#ifdef Q4
        if ids.lid < 128u { stage_w(ids.lid / 2u, ids.lid % 2u, n0, k0); }
#else
        stage_w(ids.lid / 4u, ids.lid % 4u, n0, k0);
#endif
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let a = xs[k * PITCH + ty];
            let b = ws[k * PITCH + tx];
            sums[0] += a.x * b;
            sums[1] += a.y * b;
            sums[2] += a.z * b;
            sums[3] += a.w * b;
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let m = m0 + 4u * ty + i;
        for (var j = 0u; j < 4u; j++) {
            let n = n0 + 4u * tx + j;
            if m < p.m && n < N { out[m * N + n] = finish(sums[i][j], m, n); }
        }
    }
}
