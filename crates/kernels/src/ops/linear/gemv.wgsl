// Products of one row m of activations with ROWS output channels of one weight matrix. TEAM invocations span the row;
// TEAMS teams of a workgroup work on output channels of their own, TEAM_ROWS each.
// Grid: blocks of channels over all segments (x, folded into z), rows of activations (y).
#import products
#import grid
#import qparams
struct Params {
    m: u32,
    // First row of the caches, and of the rotation tables.
    position: u32,
    table_start: u32,
    eps: f32,
}
@group(0) @binding(0) var<uniform> p: Params;

const ROW_CHUNKS = K / 32u;
const BLOCKS0 = (N0 + ROWS - 1u) / ROWS;
const BLOCKS1 = (N1 + ROWS - 1u) / ROWS;
#ifdef CACHE_F16
alias cache_elem = f16;
#else
alias cache_elem = f32;
#endif

#ifdef GIVEN_Q8
fn given_qparams(m: u32) -> QParams {
    return QParams(f32(x_scale[m]), f32(extractBits(bitcast<i32>(x_zero[m / 4u]), 8u * (m % 4u), 8u)));
}
#endif
#ifdef PACKED
#import gemv_packed
#else
#import gemv_float
#endif

// Sums of the products, in parts: those of a subgroup, or of a whole team where there are none. The second matrix of a
// gate comes behind the first.
const TEAM_QUADS = TEAM_ROWS / 4u;
var<workgroup> partial: array<f32, PARTS * SUMS * TEAM_ROWS>;
#ifndef SUBGROUPS
var<workgroup> tree: array<vec4<f32>, WG>;
#endif

#ifdef SCALES_F16
alias scale_elem = f16;
#else
alias scale_elem = f32;
#endif
#ifdef FOURS
// Output channels that lie next to each other, by name: the distances between them are then offsets in the loads.
struct FourRows {
    a: array<vec4<u32>, ROW_CHUNKS>,
    b: array<vec4<u32>, ROW_CHUNKS>,
    c: array<vec4<u32>, ROW_CHUNKS>,
    d: array<vec4<u32>, ROW_CHUNKS>,
}
#for s MATRICES
struct FourScales{s} {
    a: array<scale_elem, G{s}>,
    b: array<scale_elem, G{s}>,
    c: array<scale_elem, G{s}>,
    d: array<scale_elem, G{s}>,
}
#end
#endif

// Weights of four output channels on their way.
struct Quad {
    w0: vec4<u32>,
    w1: vec4<u32>,
    w2: vec4<u32>,
    w3: vec4<u32>,
    scale: vec4<f32>,
}

#for s MATRICES
fn fetch{s}(n: vec4<u32>, chunk: u32) -> Quad {
    let group = chunk / (GROUP{s} / 32u);
#ifdef FOURS
    let four = n.x / 4u;
    let scale = vec4(scales{s}[four].a[group], scales{s}[four].b[group], scales{s}[four].c[group], scales{s}[four].d[group]);
    return Quad(
        weight{s}[four].a[chunk],
        weight{s}[four].b[chunk],
        weight{s}[four].c[chunk],
        weight{s}[four].d[chunk],
        vec4<f32>(scale),
    );
#else
    let at = n * G{s} + group;
    let scale = vec4(scales{s}[at.x], scales{s}[at.y], scales{s}[at.z], scales{s}[at.w]);
    return Quad(
        weight{s}[n.x * ROW_CHUNKS + chunk],
        weight{s}[n.y * ROW_CHUNKS + chunk],
        weight{s}[n.z * ROW_CHUNKS + chunk],
        weight{s}[n.w * ROW_CHUNKS + chunk],
        vec4<f32>(scale),
    );
#endif
}
#end

fn fetch(segment: u32, n: vec4<u32>, chunk: u32) -> Quad {
#ifdef TWO
    if segment == 1u { return fetch1(n, chunk); }
#endif
#ifdef THREE
    if segment == 2u { return fetch2(n, chunk); }
#endif
    return fetch0(n, chunk);
}

// This thread's part of four products.
fn dots(q: Quad) -> vec4<f32> {
    return vec4(dot32(q.w0, q.scale.x), dot32(q.w1, q.scale.y), dot32(q.w2, q.scale.z), dot32(q.w3, q.scale.w));
}

// Adds up a team's share of four products and keeps it for the end.
fn keep_sum(value: vec4<f32>, sum: u32, quad: u32, ids: Ids) {
#ifdef LANE_STEPS
    // Neighbours share out the four, so that each adds up one.
    let is_odd = (ids.lane & 1u) != 0u;
    let two = select(value.xy, value.zw, is_odd) + subgroupShuffleXor(select(value.zw, value.xy, is_odd), 1u);
    let is_upper = (ids.lane & 2u) != 0u;
    var one = select(two.x, two.y, is_upper) + subgroupShuffleXor(select(two.y, two.x, is_upper), 2u);
#for k LANE_STEPS
    one += subgroupShuffleXor(one, 4u << {k}u);
#end
    let row = 4u * quad + (ids.lane & 1u) * 2u + (ids.lane >> 1u);
    if ids.lane < 4u { partial[(ids.subgroup * SUMS + sum) * TEAM_ROWS + row] = one; }
#else
#ifdef SUBGROUPS
    let part = subgroupAdd(value);
    if ids.lane < 4u { partial[(ids.subgroup * SUMS + sum) * TEAM_ROWS + 4u * quad + ids.lane] = part[ids.lane]; }
#else
    tree[ids.lid] = value;
    workgroupBarrier();
    for (var half = TEAM / 2u; half > 0u; half /= 2u) {
        if ids.lid % TEAM < half { tree[ids.lid] += tree[ids.lid + half]; }
        workgroupBarrier();
    }
    if ids.lid % TEAM < 4u {
        let total = tree[ids.lid / TEAM * TEAM];
        partial[(ids.lid / TEAM * SUMS + sum) * TEAM_ROWS + 4u * quad + ids.lid % TEAM] = total[ids.lid % TEAM];
    }
    workgroupBarrier();
#endif
#endif
}

// Row r of the workgroup, after all parts are kept.
fn total_of(r: u32, sum: u32, ids: Ids) -> f32 {
#ifdef SUBGROUPS
    let parts = ids.subgroups / TEAMS;
#else
    let parts = 1u;
#endif
    let first = r / TEAM_ROWS * parts;
    let row = r % TEAM_ROWS;
    var total = 0.0;
    for (var s = first; s < first + parts; s++) {
        total += partial[(s * SUMS + sum) * TEAM_ROWS + row];
    }
    return total;
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
    var r = vec4(first, first + 1u, first + 2u, first + 3u);
#ifndef WHOLE_BLOCKS
    r = min(r, vec4(limit - 1u));
#endif
    if !rotates { return r; }
    return vec4(row_of(r.x), row_of(r.y), row_of(r.z), row_of(r.w));
}

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
#ifdef HALVES
    let rotates = segment < 2u;
#else
    let rotates = false;
#endif
    // Idle threads have zeros for activations.
    let chunk = min(ids.lid % TEAM, ROW_CHUNKS - 1u);
    let mine = first + ids.lid / TEAM * TEAM_ROWS;
    // The first weights are under way while the activations are prepared, the next ones while these are worked on.
    var next = fetch(segment, rows4(mine, limit, rotates), chunk);
#ifdef UP_EARLY
    var next_up = fetch(1u, rows4(mine, limit, false), chunk);
#endif
    // So is what follows the products: it would be waited for last, when there is nothing else to do.
    let r = ids.lid;
    var n = min(first + r, limit - 1u);
    if rotates { n = row_of(n); }
#ifdef ROPE
#ifdef HALVES
    let at = (p.table_start + m) * D + n % D;
#else
    let at = (p.table_start + m) * (D / 2u) + n % D / 2u;
#endif
    var cosine = 1.0;
    var sine = 0.0;
    if r < ROWS && segment < 2u {
        cosine = f32(cos_table[at]);
        sine = f32(sin_table[at]);
    }
#endif
#ifdef RESIDUAL
    var added = 0.0;
    if r < ROWS { added = addend(m, n); }
#endif
    prepare(m, ids);
#ifdef UP_LATER
    var next_up = fetch(1u, rows4(mine, limit, false), chunk);
#endif
    for (var quad = 0u; quad < TEAM_QUADS; quad++) {
        let n = rows4(mine + 4u * quad + 4u, limit, rotates);
        let more = quad + 1u < TEAM_QUADS;
        let now = next;
        if more { next = fetch(segment, n, chunk); }
        keep_sum(dots(now), 0u, quad, ids);
#ifdef SWIGLU
        let now_up = next_up;
        if more { next_up = fetch(1u, n, chunk); }
        keep_sum(dots(now_up), 1u, quad, ids);
#endif
    }
    // Kept from the start, it would be one register too many; behind the barrier, all would wait for it.
    let factor = row_factor(ids);
    workgroupBarrier();
    if r >= ROWS || first + r >= limit { return; }
    let sum = total_of(r, 0u, ids) * factor;
#ifdef SWIGLU
    keep(0u, m, n, finished(m, n, sum, total_of(r, 1u, ids) * factor));
#else
#ifdef ROPE
    var v = scaled(segment, m, n, sum);
    if segment < 2u {
        // The partner of this row in its rotation is its neighbour in the block.
        let n_other = select(n, row_of(first + (r ^ 1u)), rotates);
        let partner = select(n ^ 1u, n_other, rotates);
        let other = scaled(segment, m, partner, total_of(r ^ 1u, 0u, ids) * factor);
        let turned = select(other, -other, r % 2u == 0u);
        v = v * cosine + turned * sine;
    }
    if segment == 0u { out0[m * N0 + n] = elem(v); }
    if segment == 1u { out1[(p.position + m) * N1 + n] = cache_elem(v); }
    if segment == 2u { out2[(p.position + m) * N2 + n] = cache_elem(v); }
#else
#ifdef RESIDUAL
    keep(segment, m, n, scaled(segment, m, n, sum) + added);
#else
    keep(segment, m, n, finished(segment, m, n, sum));
#endif
#endif
#endif
}
