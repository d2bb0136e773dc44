// TILE_ROWS x TILE_COLUMNS sums of products a workgroup, on 16x16 matrices. A tile lies in one segment; with SWIGLU its
// left half is of the gate and its right half of the same channels of up. Without WHOLE each workgroup takes a part of K
// and leaves its sums in `parts`.
// Activations were rounded to f16 by coop_rows.wgsl, or are f16 anyway.
// Grid: tiles of channels over all segments (x), tiles of rows (y), parts of K (z).
#enable f16
#enable wgpu_cooperative_matrix
#import elem
#import grid
struct Params { m: u32 }
@group(0) @binding(0) var<uniform> p: Params;
#ifdef WHOLE
#import products
#else
#ifndef TWO
const N1 = 0u;
#endif
#ifndef THREE
const N2 = 0u;
#endif
#endif

// Rows of f16 in vec4s, padded so that the rows of a matrix fall into different banks.
const PITCH = QUADS + 2u;
const QUADS = STEP / 4u;
// Loads that make a row of activations, and a row of weights.
const OCTETS = STEP / 8u;
const PIECES = STEP / 16u;
var<workgroup> xs: array<vec4<f16>, TILE_ROWS * PITCH>;
var<workgroup> ws: array<vec4<f16>, TILE_COLUMNS * PITCH>;
var<workgroup> results: array<vec4<f32>, WG / 32u * 64u>;
#ifdef CHOOSES
// The workgroup's segment, where control flow needs to know that all agree. A vector, because matrices are read from
// 16-byte boundaries and workgroup variables lie one behind another.
var<workgroup> chosen: vec4<u32>;
#endif

#ifdef SWIGLU
const WIDTH = TILE_COLUMNS / 2u;
#else
const WIDTH = TILE_COLUMNS;
#endif
const TILES0 = (N0 + WIDTH - 1u) / WIDTH;
const TILES1 = (N1 + WIDTH - 1u) / WIDTH;

// Where a workgroup's tile lies: its segment, the segment's size, and the first row and channel.
struct Tile {
    segment: u32,
    limit: u32,
    m0: u32,
    n0: u32,
}

fn tile_of(wid: vec3<u32>) -> Tile {
    let m0 = wid.y * TILE_ROWS;
#ifndef SWIGLU
#ifdef THREE
    if wid.x >= TILES0 + TILES1 { return Tile(2u, N2, m0, (wid.x - TILES0 - TILES1) * WIDTH); }
#endif
#ifdef TWO
    if wid.x >= TILES0 { return Tile(1u, N1, m0, (wid.x - TILES0) * WIDTH); }
#endif
#endif
    return Tile(0u, N0, m0, wid.x * WIDTH);
}

// Operands of the next step on their way from memory: eight activations a load, sixteen weights a load. Scales of four
// groups come together.
#for i X_LOADS
var<private> next_x{i}: vec4<u32>;
#end
#for i W_LOADS
var<private> next_w{i}: vec2<u32>;
#ifdef QUAD_SCALES
var<private> scale{i}: vec4<f32>;
#else
var<private> scale{i}: f32;
#endif
#end

fn fetch_rows(tile: Tile, k0: u32, lid: u32) {
#for i X_LOADS
    let from_m{i} = min(tile.m0 + ({i}u * WG + lid) / OCTETS, p.m - 1u);
    next_x{i} = x[from_m{i} * (K / 8u) + k0 / 8u + lid % OCTETS];
#end
}

// Each segment has code of its own: a choice between buffers at every load would cost more than the load.
#for s LOOPS
fn fetch{s}(tile: Tile, k0: u32, lid: u32, is_first: bool) {
    fetch_rows(tile, k0, lid);
    let from_k = k0 + lid % PIECES * 16u;
#for i W_LOADS
    let column{i} = ({i}u * WG + lid) / PIECES;
    let from_n{i} = min(tile.n0 + column{i} % WIDTH, tile.limit - 1u);
    let from{i} = from_n{i} * (K / 16u) + from_k / 16u;
#ifdef SWIGLU
    if column{i} < WIDTH {
        next_w{i} = weight0[from{i}];
#ifdef QUAD_SCALES
        if is_first || k0 % (4u * GROUP0) == 0u {
            scale{i} = vec4<f32>(scales0[from_n{i} * (G0 / 4u) + from_k / (4u * GROUP0)]);
        }
#else
        scale{i} = f32(scales0[from_n{i} * G0 + from_k / GROUP0]);
#endif
    } else {
        next_w{i} = weight1[from{i}];
#ifdef QUAD_SCALES
        if is_first || k0 % (4u * GROUP1) == 0u {
            scale{i} = vec4<f32>(scales1[from_n{i} * (G1 / 4u) + from_k / (4u * GROUP1)]);
        }
#else
        scale{i} = f32(scales1[from_n{i} * G1 + from_k / GROUP1]);
#endif
    }
#else
    next_w{i} = weight{s}[from{i}];
#ifdef QUAD_SCALES
    if is_first || k0 % (4u * GROUP{s}) == 0u {
        scale{i} = vec4<f32>(scales{s}[from_n{i} * (G{s} / 4u) + from_k / (4u * GROUP{s})]);
    }
#else
    scale{i} = f32(scales{s}[from_n{i} * G{s} + from_k / GROUP{s}]);
#endif
#endif
#end
}
#end

#ifdef QUAD_SCALES
// Component i, without an index that would move the vector to memory.
fn component(v: vec4<f32>, i: u32) -> f32 {
    let pair = select(v.xy, v.zw, (i & 2u) != 0u);
    return select(pair.x, pair.y, (i & 1u) != 0u);
}
#endif

// A nibble n at bit b of a mantissa is the number 2^23 + n 2^b, whatever b: no shift and no conversion for each.
const FOUR_NIBBLES = vec4(0xfu, 0xf0u, 0xf00u, 0xf000u);
const POWER_23 = 0x4b000000u;
// The same numbers for a nibble of 8, which stands for zero.
const ZEROS = vec4(8388616.0, 8388736.0, 8390656.0, 8421376.0);
const SHIFTED_BACK = vec4(1.0, 0.0625, 0.00390625, 0.000244140625);

fn quad_of(word: u32, scale: vec4<f32>) -> vec4<f16> {
    let placed = bitcast<vec4<f32>>((vec4(word) & FOUR_NIBBLES) | vec4(POWER_23));
    return vec4<f16>((placed - ZEROS) * scale);
}

#for s LOOPS
fn stage{s}(k0: u32, lid: u32) {
#for i X_LOADS
    let row{i} = ({i}u * WG + lid) / OCTETS * PITCH + lid % OCTETS * 2u;
    xs[row{i}] = vec4<f16>(vec4(unpack2x16float(next_x{i}.x), unpack2x16float(next_x{i}.y)));
    xs[row{i} + 1u] = vec4<f16>(vec4(unpack2x16float(next_x{i}.z), unpack2x16float(next_x{i}.w)));
#end
    let from_k = k0 + lid % PIECES * 16u;
#for i W_LOADS
    let column{i} = ({i}u * WG + lid) / PIECES;
    let at{i} = column{i} * PITCH + lid % PIECES * 4u;
#ifdef QUAD_SCALES
#ifdef SWIGLU
    let group{i} = select(from_k / GROUP1, from_k / GROUP0, column{i} < WIDTH);
#else
    let group{i} = from_k / GROUP{s};
#endif
    let factors{i} = SHIFTED_BACK * component(scale{i}, group{i});
#else
    let factors{i} = SHIFTED_BACK * scale{i};
#endif
    ws[at{i}] = quad_of(next_w{i}.x, factors{i});
    ws[at{i} + 1u] = quad_of(next_w{i}.x >> 16u, factors{i});
    ws[at{i} + 2u] = quad_of(next_w{i}.y, factors{i});
    ws[at{i} + 3u] = quad_of(next_w{i}.y >> 16u, factors{i});
#end
}
#end

#ifndef WHOLE
fn part_at(tile: Tile, split: u32, m: u32, n: u32) -> u32 {
    let first = select(select(0u, N0, tile.segment > 0u), N0 + N1, tile.segment > 1u);
    return (split * p.m + m) * (COLUMNS / 4u) + first / 4u + n;
}
#endif

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let tile = tile_of(ids.wid);
    let first_row = ids.subgroup / SUBGROUP_COLUMNS * BLOCK_ROWS * 16u;
    let first_column = ids.subgroup % SUBGROUP_COLUMNS * BLOCK_COLUMNS * 16u;
    let k_first = ids.wid.z * STEPS * STEP;
#for i BLOCK_ROWS
#for j BLOCK_COLUMNS
    var sum{i}{j} = coop_mat16x16<f32, C>();
#ifdef SWIGLU
    var up{i}{j} = coop_mat16x16<f32, C>();
#endif
#end
#end
#ifdef CHOOSES
    if ids.lid == 0u { chosen = vec4(tile.segment); }
    let segment = workgroupUniformLoad(&chosen).x;
#endif
#for s LOOPS
#ifdef CHOOSES
    if segment == {s}u {
#else
    {
#endif
        fetch{s}(tile, k_first, ids.lid, true);
        for (var step = 1u; step <= STEPS; step++) {
            let k_next = k_first + step * STEP;
            stage{s}(k_next - STEP, ids.lid);
            workgroupBarrier();
            if step < STEPS { fetch{s}(tile, k_next, ids.lid, false); }
            for (var k = 0u; k < STEP / 4u; k += 4u) {
#for j BLOCK_COLUMNS
                let at_b{j} = (first_column + {j}u * 16u) * PITCH + k;
                let b{j} = coopLoad<coop_mat16x16<f16, B>>(&ws[at_b{j}], PITCH);
#ifdef SWIGLU
                let at_u{j} = at_b{j} + WIDTH * PITCH;
                let u{j} = coopLoad<coop_mat16x16<f16, B>>(&ws[at_u{j}], PITCH);
#endif
#end
#for i BLOCK_ROWS
                let at_a{i} = (first_row + {i}u * 16u) * PITCH + k;
                let a{i} = coopLoadT<coop_mat16x16<f16, A>>(&xs[at_a{i}], PITCH);
#for j BLOCK_COLUMNS
                sum{i}{j} = coopMultiplyAdd(a{i}, b{j}, sum{i}{j});
#ifdef SWIGLU
                up{i}{j} = coopMultiplyAdd(a{i}, u{j}, up{i}{j});
#endif
#end
#end
            }
            workgroupBarrier();
        }
    }
#end
    // Sums leave through workgroup memory, where every lane finds the same elements of gate and up. What a block needs is
    // read before any of it is written: the compiler cannot know that these are different buffers.
    let area = ids.subgroup * 64u;
    let own = area + ids.lane;
#for i BLOCK_ROWS
#for j BLOCK_COLUMNS
    {
        let m = tile.m0 + first_row + {i}u * 16u + ids.lane / 4u;
        let n = (tile.n0 + first_column + {j}u * 16u) / 4u + ids.lane % 4u;
        coopStoreT(sum{i}{j}, &results[area], 4u);
        workgroupBarrier();
#ifdef SWIGLU
#for e 2
        let gate{e} = results[own + {e}u * 32u];
#end
        workgroupBarrier();
        coopStoreT(up{i}{j}, &results[area], 4u);
        workgroupBarrier();
#endif
#for e 2
        let m{e} = m + {e}u * 8u;
        let inside{e} = m{e} < p.m && n < tile.limit / 4u;
        let sum{e} = results[own + {e}u * 32u];
#ifdef WHOLE
        let from{e} = vec2(min(m{e}, p.m - 1u), min(n, tile.limit / 4u - 1u));
#ifdef SWIGLU
        let value{e} = finished(from{e}.x, from{e}.y, gate{e}, sum{e});
#else
        let value{e} = finished(tile.segment, from{e}.x, from{e}.y, sum{e});
#endif
#endif
#end
#for e 2
        if inside{e} {
#ifdef WHOLE
            keep(tile.segment, m{e}, n, value{e});
#else
            let part{e} = part_at(tile, ids.wid.z, m{e}, n);
#ifdef SWIGLU
            parts[part{e}] = gate{e};
            parts[part{e} + N0 / 4u] = sum{e};
#else
            parts[part{e}] = sum{e};
#endif
#endif
        }
#end
        workgroupBarrier();
    }
#end
#end
}
