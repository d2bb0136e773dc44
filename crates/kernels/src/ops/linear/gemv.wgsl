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
var<workgroup> partial: array<array<vec4<f32>, ROWS / 4u>, MAX_SUBGROUPS>;
#ifdef SWIGLU
var<workgroup> partial_up: array<array<vec4<f32>, ROWS / 4u>, MAX_SUBGROUPS>;
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

fn weight_at(segment: u32, n: u32, chunk: u32) -> vec4<u32> {
#ifdef TWO
    if segment == 1u { return weight1[n * ROW_CHUNKS + chunk]; }
#endif
#ifdef THREE
    if segment == 2u { return weight2[n * ROW_CHUNKS + chunk]; }
#endif
    return weight0[n * ROW_CHUNKS + chunk];
}

fn scale_at(segment: u32, n: u32, chunk: u32) -> f32 {
#ifdef TWO
    if segment == 1u { return f32(scales1[n * G1 + chunk / (GROUP1 / 32u)]); }
#endif
#ifdef THREE
    if segment == 2u { return f32(scales2[n * G2 + chunk / (GROUP2 / 32u)]); }
#endif
    return f32(scales0[n * G0 + chunk / (GROUP0 / 32u)]);
}

// Weights of four output channels on their way.
struct Quad {
    w0: vec4<u32>,
    w1: vec4<u32>,
    w2: vec4<u32>,
    w3: vec4<u32>,
    scale: vec4<f32>,
}

fn fetch(segment: u32, n: vec4<u32>, chunk: u32) -> Quad {
    return Quad(
        weight_at(segment, n.x, chunk),
        weight_at(segment, n.y, chunk),
        weight_at(segment, n.z, chunk),
        weight_at(segment, n.w, chunk),
        vec4(
            scale_at(segment, n.x, chunk),
            scale_at(segment, n.y, chunk),
            scale_at(segment, n.z, chunk),
            scale_at(segment, n.w, chunk),
        ),
    );
}

// This thread's part of four products.
fn dots(q: Quad) -> vec4<f32> {
    return vec4(dot32(q.w0, q.scale.x), dot32(q.w1, q.scale.y), dot32(q.w2, q.scale.z), dot32(q.w3, q.scale.w));
}

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

// Activations on their way from neighbouring loads to their owners, a part at a time: 32 channels an owner, padded by
// a vec4 so that owners read from different banks.
const OWNERS = max(min(WG, 64u), WG / 8u);
const ROUNDS = WG / OWNERS;
const PER_ROUND = 8u / ROUNDS;
const PITCH = 9u;
var<workgroup> staged: array<vec4<f32>, OWNERS * PITCH>;

fn load_x(at: u32) -> vec4<f32> {
    return vec4<f32>(x[at]);
}

#ifdef NORM
fn load_norm(at: u32) -> vec4<f32> {
    return vec4<f32>(norm_weight[at]);
}

// Rounded as the separate normalisation would store it.
fn rounded(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(elem4(v));
}
#endif

fn loaded(i: u32) -> vec4<f32> {
    switch i {
        case 0u: { return x0; }
        case 1u: { return x1; }
        case 2u: { return x2; }
        case 3u: { return x3; }
        case 4u: { return x4; }
        case 5u: { return x5; }
        case 6u: { return x6; }
        default: { return x7; }
    }
}

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
    // Past the row's end the last vec4 is read again; nobody owns those.
    const LAST = K / 4u - 1u;
    let i0 = min(ids.lid, LAST);
    let i1 = min(ids.lid + WG, LAST);
    let i2 = min(ids.lid + 2u * WG, LAST);
    let i3 = min(ids.lid + 3u * WG, LAST);
    let i4 = min(ids.lid + 4u * WG, LAST);
    let i5 = min(ids.lid + 5u * WG, LAST);
    let i6 = min(ids.lid + 6u * WG, LAST);
    let i7 = min(ids.lid + 7u * WG, LAST);
    x0 = load_x(row + i0);
    x1 = load_x(row + i1);
    x2 = load_x(row + i2);
    x3 = load_x(row + i3);
    x4 = load_x(row + i4);
    x5 = load_x(row + i5);
    x6 = load_x(row + i6);
    x7 = load_x(row + i7);
#ifdef NORM
    let n0 = load_norm(i0);
    let n1 = load_norm(i1);
    let n2 = load_norm(i2);
    let n3 = load_norm(i3);
    let n4 = load_norm(i4);
    let n5 = load_norm(i5);
    let n6 = load_norm(i6);
    let n7 = load_norm(i7);
    var squares = dot(x0, x0);
    if ids.lid + WG <= LAST { squares += dot(x1, x1); }
    if ids.lid + 2u * WG <= LAST { squares += dot(x2, x2); }
    if ids.lid + 3u * WG <= LAST { squares += dot(x3, x3); }
    if ids.lid + 4u * WG <= LAST { squares += dot(x4, x4); }
    if ids.lid + 5u * WG <= LAST { squares += dot(x5, x5); }
    if ids.lid + 6u * WG <= LAST { squares += dot(x6, x6); }
    if ids.lid + 7u * WG <= LAST { squares += dot(x7, x7); }
    if ids.lid > LAST { squares = 0.0; }
    let norm = inverseSqrt(workgroup_sum(squares, ids) / f32(K) + p.eps);
    x0 = rounded(x0 * norm * n0);
    x1 = rounded(x1 * norm * n1);
    x2 = rounded(x2 * norm * n2);
    x3 = rounded(x3 * norm * n3);
    x4 = rounded(x4 * norm * n4);
    x5 = rounded(x5 * norm * n5);
    x6 = rounded(x6 * norm * n6);
    x7 = rounded(x7 * norm * n7);
#endif
    var y: array<vec4<f32>, 8>;
    for (var round = 0u; round < ROUNDS; round++) {
        for (var j = 0u; j < PER_ROUND; j++) {
            let i = j * WG + ids.lid;
            staged[i / 8u * PITCH + i % 8u] = loaded(round * PER_ROUND + j);
        }
        workgroupBarrier();
        if ids.lid / OWNERS == round {
            let at = ids.lid % OWNERS * PITCH;
            y[0] = staged[at];
            y[1] = staged[at + 1u];
            y[2] = staged[at + 2u];
            y[3] = staged[at + 3u];
            y[4] = staged[at + 4u];
            y[5] = staged[at + 5u];
            y[6] = staged[at + 6u];
            y[7] = staged[at + 7u];
        }
        workgroupBarrier();
    }
    x0 = y[0];
    x1 = y[1];
    x2 = y[2];
    x3 = y[3];
    x4 = y[4];
    x5 = y[5];
    x6 = y[6];
    x7 = y[7];
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
    // Idle threads have zeros for activations.
    let chunk = min(ids.lid, ROW_CHUNKS - 1u);
    var next = fetch(segment, rows4(first, limit, rotates), chunk);
#ifdef SWIGLU
    var next_up = fetch(1u, rows4(first, limit, false), chunk);
#endif
    for (var r = 0u; r < ROWS; r += 4u) {
        // The next weights are under way while these are worked on.
        let n = rows4(first + min(r + 4u, ROWS - 4u), limit, rotates);
        let quad = next;
        if r + 4u < ROWS { next = fetch(segment, n, chunk); }
        let sum = dots(quad);
#ifdef SWIGLU
        let quad_up = next_up;
        if r + 4u < ROWS { next_up = fetch(1u, n, chunk); }
        let up = dots(quad_up);
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
