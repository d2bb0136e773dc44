// out[batch] = a[batch] · b[batch]; all sizes are live.
#import elem
#import grid
struct Params {
    batch: u32,
    m: u32,
    n: u32,
    k: u32,
#ifdef ADDEND
    alpha: f32,
    beta: f32,
    addend_row: u32,
    addend_column: u32,
#endif
}
#ifdef VECTOR
alias item = elem4;
#else
alias item = elem;
#endif
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<item>;
@group(0) @binding(2) var<storage, read> b: array<item>;
@group(0) @binding(3) var<storage, read_write> out: array<elem>;
#ifdef ADDEND
@group(0) @binding(4) var<storage, read> addend: array<elem>;
#endif

fn store(batch: u32, m: u32, n: u32, sum: f32) {
#ifdef ADDEND
    var value = p.alpha * sum;
    if p.beta != 0.0 { value += p.beta * f32(addend[m * p.addend_row + n * p.addend_column]); }
#else
    let value = sum;
#endif
    out[(batch * p.m + m) * p.n + n] = elem(value);
}
#ifdef TILED

const TILE = 64u;
const STEP = 16u;
// Rows are padded by one vec4, so that the four rows an invocation writes fall into different banks.
const PITCH = TILE / 4u + 1u;
var<workgroup> a_tile: array<vec4<f32>, STEP * PITCH>;
var<workgroup> b_tile: array<vec4<f32>, STEP * PITCH>;

// Four elements of a row, zeros where the row or the matrix ends.
fn a_quad(batch: u32, m: u32, k: u32) -> vec4<f32> {
    var v = vec4(0.0);
    if m >= p.m { return v; }
    let at = (batch * p.m + m) * p.k + k;
#ifdef VECTOR
    if k < p.k { v = vec4<f32>(a[at / 4u]); }
#else
    for (var i = 0u; i < 4u; i++) {
        if k + i < p.k { v[i] = f32(a[at + i]); }
    }
#endif
    return v;
}

fn b_quad(batch: u32, k: u32, n: u32) -> vec4<f32> {
    var v = vec4(0.0);
    if k >= p.k { return v; }
    let at = (batch * p.k + k) * p.n + n;
#ifdef VECTOR
    if n < p.n { v = vec4<f32>(b[at / 4u]); }
#else
    for (var i = 0u; i < 4u; i++) {
        if n + i < p.n { v[i] = f32(b[at + i]); }
    }
#endif
    return v;
}

// 64×64 outputs a workgroup, 4×4 an invocation.
@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let columns = (p.n + TILE - 1u) / TILE;
    let rows = (p.m + TILE - 1u) / TILE;
    let tile = linear_workgroup(ids);
    let batch = tile / (columns * rows);
    if batch >= p.batch { return; }
    let m0 = tile / columns % rows * TILE;
    let n0 = tile % columns * TILE;
    let tx = ids.lid % 16u;
    let ty = ids.lid / 16u;
    let row = ids.lid / 4u;
    let quad = ids.lid % 4u;
    var sums: array<vec4<f32>, 4>;
    for (var k0 = 0u; k0 < p.k; k0 += STEP) {
        let v = a_quad(batch, m0 + row, k0 + 4u * quad);
        for (var i = 0u; i < 4u; i++) { a_tile[(4u * quad + i) * PITCH + row / 4u][row % 4u] = v[i]; }
        b_tile[ty * PITCH + tx] = b_quad(batch, k0 + ty, n0 + 4u * tx);
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let x = a_tile[k * PITCH + ty];
            let y = b_tile[k * PITCH + tx];
            sums[0] += x.x * y;
            sums[1] += x.y * y;
            sums[2] += x.z * y;
            sums[3] += x.w * y;
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let m = m0 + 4u * ty + i;
        for (var j = 0u; j < 4u; j++) {
            let n = n0 + 4u * tx + j;
            if m < p.m && n < p.n { store(batch, m, n, sums[i][j]); }
        }
    }
}
#else

// One output an invocation; neighbours share a row of `a` and read neighbouring columns of `b`.
@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let element = linear_thread(ids);
    if element >= p.batch * p.m * p.n { return; }
    let n = element % p.n;
    let row = element / p.n;
    let batch = row / p.m;
    var sum = 0.0;
    for (var k = 0u; k < p.k; k++) {
        sum += f32(a[row * p.k + k]) * f32(b[(batch * p.k + k) * p.n + n]);
    }
    store(batch, row % p.m, n, sum);
}
#endif
