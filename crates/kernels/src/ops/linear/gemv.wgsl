// Products of one row m of activations with ROWS output channels of one weight matrix.
// Grid: blocks of channels over all segments (x, folded into z), rows of activations (y).
#ifdef ANY_F16
#enable f16
#endif
#import elem
#import reduce
#import qparams
struct Params {
    m: u32,
    // First row of the caches, and of the rotation tables.
    position: u32,
    table_start: u32,
    eps: f32,
}
@group(0) @binding(0) var<uniform> p: Params;

#ifndef TWO
const N1 = 0u;
#endif
#ifndef THREE
const N2 = 0u;
#endif
const ROW_CHUNKS = K / 32u;
const BLOCKS0 = (N0 + ROWS - 1u) / ROWS;
const BLOCKS1 = (N1 + ROWS - 1u) / ROWS;
#ifdef CACHE_F16
alias cache_elem = f16;
#else
alias cache_elem = f32;
#endif

// A thread's 32 channels of each chunk, scaled down by the place of the nibble they meet; and -8 times their sum,
// since nibbles hold value + 8.
var<private> xs: array<vec4<f32>, 8u * CHUNKS>;
var<private> offset: array<f32, CHUNKS>;
#ifdef SUBGROUPS
var<workgroup> partial: array<array<vec4<f32>, ROWS / 4u>, WG>;
#ifdef SWIGLU
var<workgroup> partial_up: array<array<vec4<f32>, ROWS / 4u>, WG>;
#endif
#else
var<workgroup> totals: array<vec4<f32>, ROWS / 4u>;
var<workgroup> totals_up: array<vec4<f32>, ROWS / 4u>;
var<workgroup> tree: array<vec4<f32>, WG>;
#endif

const PLACE_LO = vec4<f32>(1.0, 0x1p-4, 0x1p-8, 0x1p-12);
const PLACE_HI = vec4<f32>(0x1p-16, 0x1p-20, 0x1p-24, 0x1p-28);

// Eight nibbles in place against eight prescaled activations: no shifts.
fn dot8(word: u32, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
    let a = vec4<f32>(vec4(word) & vec4(0xfu, 0xf0u, 0xf00u, 0xf000u));
    let b = vec4<f32>(vec4(word) & vec4(0xf0000u, 0xf00000u, 0xf000000u, 0xf0000000u));
    return dot(a, lo) + dot(b, hi);
}

fn dot32(w: vec4<u32>, scale: f32, c: u32) -> f32 {
    let at = c * 8u;
    let d = dot8(w.x, xs[at], xs[at + 1u]) + dot8(w.y, xs[at + 2u], xs[at + 3u])
        + dot8(w.z, xs[at + 4u], xs[at + 5u]) + dot8(w.w, xs[at + 6u], xs[at + 7u]);
    return scale * (d + offset[c]);
}

fn row0(n: u32, c: u32, chunk: u32) -> f32 {
    return dot32(weight0[n * ROW_CHUNKS + chunk], f32(scales0[n * G0 + chunk / (GROUP0 / 32u)]), c);
}
#ifdef TWO
fn row1(n: u32, c: u32, chunk: u32) -> f32 {
    return dot32(weight1[n * ROW_CHUNKS + chunk], f32(scales1[n * G1 + chunk / (GROUP1 / 32u)]), c);
}
#endif
#ifdef THREE
fn row2(n: u32, c: u32, chunk: u32) -> f32 {
    return dot32(weight2[n * ROW_CHUNKS + chunk], f32(scales2[n * G2 + chunk / (GROUP2 / 32u)]), c);
}
#endif

// This thread's part of four products.
fn quad0(n: vec4<u32>, lid: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var c = 0u; c < CHUNKS; c++) {
        let chunk = c * WG + lid;
        if chunk < ROW_CHUNKS {
            sum += vec4(row0(n.x, c, chunk), row0(n.y, c, chunk), row0(n.z, c, chunk), row0(n.w, c, chunk));
        }
    }
    return sum;
}
#ifdef TWO
fn quad1(n: vec4<u32>, lid: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var c = 0u; c < CHUNKS; c++) {
        let chunk = c * WG + lid;
        if chunk < ROW_CHUNKS {
            sum += vec4(row1(n.x, c, chunk), row1(n.y, c, chunk), row1(n.z, c, chunk), row1(n.w, c, chunk));
        }
    }
    return sum;
}
#endif
#ifdef THREE
fn quad2(n: vec4<u32>, lid: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var c = 0u; c < CHUNKS; c++) {
        let chunk = c * WG + lid;
        if chunk < ROW_CHUNKS {
            sum += vec4(row2(n.x, c, chunk), row2(n.y, c, chunk), row2(n.z, c, chunk), row2(n.w, c, chunk));
        }
    }
    return sum;
}
#endif

#ifndef SUBGROUPS
fn tree_sum(value: vec4<f32>, lid: u32) -> vec4<f32> {
    tree[lid] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lid < half { tree[lid] += tree[lid + half]; }
        workgroupBarrier();
    }
    let total = tree[0];
    workgroupBarrier();
    return total;
}
#endif

// Reads this thread's activations, normalises and quantises them; returns the factor on all products.
fn prepare(m: u32, ids: Ids) -> f32 {
    var squares = 0.0;
    for (var c = 0u; c < CHUNKS; c++) {
        let chunk = c * WG + ids.lid;
        for (var i = 0u; i < 8u; i++) {
            var v = vec4(0.0);
            if chunk < ROW_CHUNKS { v = vec4<f32>(x[(m * ROW_CHUNKS + chunk) * 8u + i]); }
            squares += dot(v, v);
            xs[c * 8u + i] = v;
        }
    }
#ifdef NORM
    let norm = inverseSqrt(workgroup_sum(squares, ids) / f32(K) + p.eps);
    for (var c = 0u; c < CHUNKS; c++) {
        let chunk = c * WG + ids.lid;
        for (var i = 0u; i < 8u; i++) {
            var w = vec4(0.0);
            if chunk < ROW_CHUNKS { w = vec4<f32>(norm_weight[chunk * 8u + i]); }
            // Rounded as the separate normalisation would store it.
            xs[c * 8u + i] = vec4<f32>(elem4(xs[c * 8u + i] * norm * w));
        }
    }
#endif
    var factor = 1.0;
#ifdef DYNAMIC_Q8
#ifdef QUANTISE_HERE
    var low = 0.0;
    var high = 0.0;
    for (var i = 0u; i < 8u * CHUNKS; i++) {
        let v = xs[i];
        low = min(low, min(min(v.x, v.y), min(v.z, v.w)));
        high = max(high, max(max(v.x, v.y), max(v.z, v.w)));
    }
    let lowest = workgroup_min(low, ids);
    let highest = workgroup_max(high, ids);
    let q = choose_qparams(lowest, highest);
#else
    let q = QParams(f32(x_scale[m]), f32(extractBits(bitcast<i32>(x_zero[m / 4u]), 8u * (m % 4u), 8u)));
#endif
    for (var i = 0u; i < 8u * CHUNKS; i++) {
        xs[i] = clamp(round(xs[i] / q.scale) + q.zero, vec4(-128.0), vec4(127.0)) - q.zero;
    }
    factor = q.scale;
#endif
    for (var c = 0u; c < CHUNKS; c++) {
        var sum = vec4(0.0);
        let inside = select(0.0, 1.0, c * WG + ids.lid < ROW_CHUNKS);
        for (var i = 0u; i < 8u; i++) {
            let v = xs[c * 8u + i] * inside;
            sum += v;
            xs[c * 8u + i] = v * select(PLACE_LO, PLACE_HI, i % 2u == 1u);
        }
        offset[c] = -8.0 * (sum.x + sum.y + sum.z + sum.w);
    }
    return factor;
}

#ifdef HALVES
// Row r of a block: the partners of a rotation, half a head apart, are neighbours.
fn row_of(r: u32) -> u32 {
    let pair = r / 2u;
    return pair / (D / 2u) * D + pair % (D / 2u) + (r % 2u) * (D / 2u);
}
#else
fn row_of(r: u32) -> u32 {
    return r;
}
#endif

fn rows4(first: u32, limit: u32, rotates: bool) -> vec4<u32> {
    let r = min(vec4(first, first + 1u, first + 2u, first + 3u), vec4(limit - 1u));
    if !rotates { return r; }
    return vec4(row_of(r.x), row_of(r.y), row_of(r.z), row_of(r.w));
}

#ifdef SUBGROUPS
fn total_of(r: u32, ids: Ids) -> f32 {
    var total = 0.0;
    for (var s = 0u; s < ids.subgroups; s++) { total += partial[s][r / 4u][r % 4u]; }
    return total;
}
#else
fn total_of(r: u32, ids: Ids) -> f32 {
    return totals[r / 4u][r % 4u];
}
#endif

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let m = ids.wid.y;
    var block = ids.wid.z * ids.groups.x + ids.wid.x;
    var segment = 0u;
    var limit = N0;
#ifndef SWIGLU
#ifdef TWO
    if block >= BLOCKS0 {
        block -= BLOCKS0;
        segment = 1u;
        limit = N1;
#ifdef THREE
        if block >= BLOCKS1 {
            block -= BLOCKS1;
            segment = 2u;
            limit = N2;
        }
#endif
    }
#endif
#endif
    let first = block * ROWS;
    if first >= limit { return; }
    let factor = prepare(m, ids);
#ifdef HALVES
    let rotates = segment < 2u;
#else
    let rotates = false;
#endif
    for (var r = 0u; r < ROWS; r += 4u) {
        let n = rows4(first + r, limit, rotates);
        var sum = vec4(0.0);
#ifdef SWIGLU
        sum = quad0(n, ids.lid);
        let up = quad1(n, ids.lid);
#else
        if segment == 0u { sum = quad0(n, ids.lid); }
#ifdef TWO
        if segment == 1u { sum = quad1(n, ids.lid); }
#endif
#ifdef THREE
        if segment == 2u { sum = quad2(n, ids.lid); }
#endif
#endif
#ifdef SUBGROUPS
        let part = subgroupAdd(sum);
        if ids.lane == 0u { partial[ids.subgroup][r / 4u] = part; }
#ifdef SWIGLU
        let part_up = subgroupAdd(up);
        if ids.lane == 0u { partial_up[ids.subgroup][r / 4u] = part_up; }
#endif
#else
        let part = tree_sum(sum, ids.lid);
        if ids.lid == 0u { totals[r / 4u] = part; }
#ifdef SWIGLU
        let part_up = tree_sum(up, ids.lid);
        if ids.lid == 0u { totals_up[r / 4u] = part_up; }
#endif
#endif
    }
    workgroupBarrier();
    if ids.lid >= ROWS || first + ids.lid >= limit { return; }
    let r = ids.lid;
    var v = total_of(r, ids) * factor;
#ifdef SWIGLU
    let n = first + r;
    var u = 0.0;
#ifdef SUBGROUPS
    for (var s = 0u; s < ids.subgroups; s++) { u += partial_up[s][r / 4u][r % 4u]; }
#else
    u = totals_up[r / 4u][r % 4u];
#endif
    u *= factor;
#ifdef BIAS0
    v += f32(bias0[n]);
#endif
#ifdef BIAS1
    u += f32(bias1[n]);
#endif
    out0[m * N0 + n] = elem(v / (1.0 + exp(-v)) * u);
#else
    var n = first + r;
    if rotates { n = row_of(n); }
#ifdef BIAS0
    if segment == 0u { v += f32(bias0[n]); }
#endif
#ifdef BIAS1
    if segment == 1u { v += f32(bias1[n]); }
#endif
#ifdef BIAS2
    if segment == 2u { v += f32(bias2[n]); }
#endif
#ifdef ROPE
    if segment < 2u {
        // The partner of this row in its rotation is its neighbour in the block.
        var other = total_of(r ^ 1u, ids) * factor;
        let n_other = select(n, row_of(first + (r ^ 1u)), rotates);
        let partner = select(n ^ 1u, n_other, rotates);
#ifdef BIAS0
        if segment == 0u { other += f32(bias0[partner]); }
#endif
#ifdef BIAS1
        if segment == 1u { other += f32(bias1[partner]); }
#endif
#ifdef HALVES
        let at = (p.table_start + m) * D + n % D;
#else
        let at = (p.table_start + m) * (D / 2u) + n % D / 2u;
#endif
        let turned = select(other, -other, r % 2u == 0u);
        v = v * f32(cos_table[at]) + turned * f32(sin_table[at]);
    }
    if segment == 0u { out0[m * N0 + n] = elem(v); }
    if segment == 1u { out1[(p.position + m) * N1 + n] = cache_elem(v); }
    if segment == 2u { out2[(p.position + m) * N2 + n] = cache_elem(v); }
#else
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
#endif
#endif
}
