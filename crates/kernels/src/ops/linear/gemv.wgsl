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

// A thread's 32 channels, scaled down by the place of the nibble they meet; and -8 times their sum, since nibbles
// hold value + 8. Named one by one, so that they stay in registers.
var<private> x0: vec4<f32>;
var<private> x1: vec4<f32>;
var<private> x2: vec4<f32>;
var<private> x3: vec4<f32>;
var<private> x4: vec4<f32>;
var<private> x5: vec4<f32>;
var<private> x6: vec4<f32>;
var<private> x7: vec4<f32>;
var<private> offset: f32;
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

fn dot32(w: vec4<u32>, scale: f32) -> f32 {
    let d = dot8(w.x, x0, x1) + dot8(w.y, x2, x3) + dot8(w.z, x4, x5) + dot8(w.w, x6, x7);
    return scale * (d + offset);
}

fn row0(n: u32, chunk: u32) -> f32 {
    return dot32(weight0[n * ROW_CHUNKS + chunk], f32(scales0[n * G0 + chunk / (GROUP0 / 32u)]));
}

// This thread's part of four products.
fn quad0(n: vec4<u32>, lid: u32) -> vec4<f32> {
    // Idle threads have zeros for activations.
    let chunk = min(lid, ROW_CHUNKS - 1u);
    return vec4(row0(n.x, chunk), row0(n.y, chunk), row0(n.z, chunk), row0(n.w, chunk));
}
#ifdef TWO
fn row1(n: u32, chunk: u32) -> f32 {
    return dot32(weight1[n * ROW_CHUNKS + chunk], f32(scales1[n * G1 + chunk / (GROUP1 / 32u)]));
}

// This thread's part of four products.
fn quad1(n: vec4<u32>, lid: u32) -> vec4<f32> {
    // Idle threads have zeros for activations.
    let chunk = min(lid, ROW_CHUNKS - 1u);
    return vec4(row1(n.x, chunk), row1(n.y, chunk), row1(n.z, chunk), row1(n.w, chunk));
}
#endif
#ifdef THREE
fn row2(n: u32, chunk: u32) -> f32 {
    return dot32(weight2[n * ROW_CHUNKS + chunk], f32(scales2[n * G2 + chunk / (GROUP2 / 32u)]));
}

// This thread's part of four products.
fn quad2(n: vec4<u32>, lid: u32) -> vec4<f32> {
    // Idle threads have zeros for activations.
    let chunk = min(lid, ROW_CHUNKS - 1u);
    return vec4(row2(n.x, chunk), row2(n.y, chunk), row2(n.z, chunk), row2(n.w, chunk));
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

// Activations on their way from neighbouring loads to their owners: 32 channels an owner, padded by a vec4 so that
// owners read from different banks.
const OWNERS = min(WG, 64u);
const ROUNDS = WG / OWNERS;
const PITCH = 9u;
var<workgroup> staged: array<vec4<f32>, OWNERS * PITCH>;

fn quantised(v: vec4<f32>, q: QParams) -> vec4<f32> {
    return clamp(round(v / q.scale) + q.zero, vec4(-128.0), vec4(127.0)) - q.zero;
}

fn lowest_of(v: vec4<f32>) -> f32 {
    return min(min(v.x, v.y), min(v.z, v.w));
}

// Reads the row, normalises and quantises it, and leaves each thread with its channels; returns the factor on all
// products.
fn prepare(m: u32, ids: Ids) -> f32 {
    let in_row = ids.lid < ROW_CHUNKS;
    let row = m * (K / 4u);
#ifdef NORM
    var squares = 0.0;
    for (var i = ids.lid; i < K / 4u; i += WG) {
        let v = vec4<f32>(x[row + i]);
        squares += dot(v, v);
    }
    let norm = inverseSqrt(workgroup_sum(squares, ids) / f32(K) + p.eps);
#endif
    for (var round = 0u; round < ROUNDS; round++) {
        let first = round * OWNERS * 8u;
        for (var i = ids.lid; i < OWNERS * 8u; i += WG) {
            if first + i < K / 4u {
                var v = vec4<f32>(x[row + first + i]);
#ifdef NORM
                // Rounded as the separate normalisation would store it.
                v = vec4<f32>(elem4(v * norm * vec4<f32>(norm_weight[first + i])));
#endif
                staged[i / 8u * PITCH + i % 8u] = v;
            }
        }
        workgroupBarrier();
        if in_row && ids.lid / OWNERS == round {
            let at = ids.lid % OWNERS * PITCH;
            x0 = staged[at];
            x1 = staged[at + 1u];
            x2 = staged[at + 2u];
            x3 = staged[at + 3u];
            x4 = staged[at + 4u];
            x5 = staged[at + 5u];
            x6 = staged[at + 6u];
            x7 = staged[at + 7u];
        }
        workgroupBarrier();
    }
    var factor = 1.0;
#ifdef DYNAMIC_Q8
#ifdef QUANTISE_HERE
    let low = lowest_of(min(min(min(x0, x1), min(x2, x3)), min(min(x4, x5), min(x6, x7))));
    let high = -lowest_of(-max(max(max(x0, x1), max(x2, x3)), max(max(x4, x5), max(x6, x7))));
    let lowest = workgroup_min(low, ids);
    let highest = workgroup_max(high, ids);
    let q = choose_qparams(lowest, highest);
#else
    let q = QParams(f32(x_scale[m]), f32(extractBits(bitcast<i32>(x_zero[m / 4u]), 8u * (m % 4u), 8u)));
#endif
    x0 = quantised(x0, q);
    x1 = quantised(x1, q);
    x2 = quantised(x2, q);
    x3 = quantised(x3, q);
    x4 = quantised(x4, q);
    x5 = quantised(x5, q);
    x6 = quantised(x6, q);
    x7 = quantised(x7, q);
    factor = q.scale;
#endif
    // Threads past the row count for nothing.
    let keep = select(0.0, 1.0, in_row);
    let sum = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
    offset = -8.0 * keep * ((sum.x + sum.y) + (sum.z + sum.w));
    x0 *= PLACE_LO * keep;
    x1 *= PLACE_HI * keep;
    x2 *= PLACE_LO * keep;
    x3 *= PLACE_HI * keep;
    x4 *= PLACE_LO * keep;
    x5 *= PLACE_HI * keep;
    x6 *= PLACE_LO * keep;
    x7 *= PLACE_HI * keep;
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
