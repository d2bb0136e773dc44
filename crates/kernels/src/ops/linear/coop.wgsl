// TILE_ROWS x TILE_COLUMNS sums of products a workgroup, on 16x16 matrices. A tile lies in one segment; with SWIGLU its
// left half is of the gate and its right half of the same channels of up. With SPLITS > 1 each workgroup takes a part of
// K and leaves its sums in `parts`.
// Grid: tiles of channels over all segments (x), tiles of rows (y), parts of K (z).
#enable f16
#enable wgpu_cooperative_matrix
#import elem
#import grid
#import quantised_rows
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
// Loads of sixteen nibbles that make a row of weights.
const PIECES = STEP / 16u;
var<workgroup> xs: array<vec4<f16>, TILE_ROWS * PITCH>;
var<workgroup> ws: array<vec4<f16>, TILE_COLUMNS * PITCH>;
var<workgroup> results: array<f32, WG / 32u * 256u>;
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

// Operands of the next step on their way from memory.
#for i X_LOADS
var<private> next_x{i}: vec4<f32>;
#end
#for i W_LOADS
var<private> next_w{i}: vec2<u32>;
var<private> next_scale{i}: f32;
#end

fn fetch_rows(tile: Tile, k0: u32, lid: u32) {
#for i X_LOADS
    let from_m{i} = min(tile.m0 + ({i}u * WG + lid) / QUADS, p.m - 1u);
    next_x{i} = vec4<f32>(x[from_m{i} * (K / 4u) + k0 / 4u + lid % QUADS]);
#end
}

// Each segment has code of its own: a choice between buffers at every load would cost more than the load.
#for s LOOPS
fn fetch{s}(tile: Tile, k0: u32, lid: u32) {
    fetch_rows(tile, k0, lid);
    let from_k = k0 + lid % PIECES * 16u;
#for i W_LOADS
    let column{i} = ({i}u * WG + lid) / PIECES;
    let from_n{i} = min(tile.n0 + column{i} % WIDTH, tile.limit - 1u);
    let from{i} = from_n{i} * (K / 16u) + from_k / 16u;
#ifdef SWIGLU
    if column{i} < WIDTH {
        next_w{i} = weight0[from{i}];
        next_scale{i} = f32(scales0[from_n{i} * G0 + from_k / GROUP0]);
    } else {
        next_w{i} = weight1[from{i}];
        next_scale{i} = f32(scales1[from_n{i} * G1 + from_k / GROUP1]);
    }
#else
    next_w{i} = weight{s}[from{i}];
    next_scale{i} = f32(scales{s}[from_n{i} * G{s} + from_k / GROUP{s}]);
#endif
#end
}
#end

fn quad_of(word: u32, shift: u32, scale: f32) -> vec4<f16> {
    let nibbles = (vec4(word) >> (vec4(0u, 4u, 8u, 12u) + shift)) & vec4(15u);
    return vec4<f16>((vec4<f32>(nibbles) - 8.0) * scale);
}

fn stage(m0: u32, lid: u32) {
#for i X_LOADS
    let row{i} = ({i}u * WG + lid) / QUADS;
    xs[row{i} * PITCH + lid % QUADS] = vec4<f16>(quantised(next_x{i}, row_quant(min(m0 + row{i}, p.m - 1u))));
#end
#for i W_LOADS
    let at{i} = ({i}u * WG + lid) / PIECES * PITCH + lid % PIECES * 4u;
    ws[at{i}] = quad_of(next_w{i}.x, 0u, next_scale{i});
    ws[at{i} + 1u] = quad_of(next_w{i}.x, 16u, next_scale{i});
    ws[at{i} + 2u] = quad_of(next_w{i}.y, 0u, next_scale{i});
    ws[at{i} + 3u] = quad_of(next_w{i}.y, 16u, next_scale{i});
#end
}

// Row and channel of element i of a lane in a block that begins at m0, n0.
fn element(m0: u32, n0: u32, i: u32, lane: u32) -> vec2<u32> {
    let e = i * 32u + lane;
    return vec2(m0 + e / 16u, n0 + e % 16u);
}

#ifndef WHOLE
fn part_at(tile: Tile, split: u32, at: vec2<u32>) -> u32 {
    let first = select(select(0u, N0, tile.segment > 0u), N0 + N1, tile.segment > 1u);
    return (split * p.m + at.x) * COLUMNS + first + at.y;
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
        fetch{s}(tile, k_first, ids.lid);
        for (var step = 1u; step <= STEPS; step++) {
            stage(tile.m0, ids.lid);
            workgroupBarrier();
            if step < STEPS { fetch{s}(tile, k_first + step * STEP, ids.lid); }
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
    // Sums leave through workgroup memory, where every lane finds the same elements of gate and up.
    let area = ids.subgroup * 256u;
    let own = area + ids.lane;
#for i BLOCK_ROWS
#for j BLOCK_COLUMNS
    {
        let m = tile.m0 + first_row + {i}u * 16u;
        let n = tile.n0 + first_column + {j}u * 16u;
        coopStoreT(sum{i}{j}, &results[area], 16u);
        workgroupBarrier();
#ifdef SWIGLU
#for e 8
        let gate{e} = results[own + {e}u * 32u];
#end
        workgroupBarrier();
        coopStoreT(up{i}{j}, &results[area], 16u);
        workgroupBarrier();
#endif
#for e 8
        let at{e} = element(m, n, {e}u, ids.lane);
        if at{e}.x < p.m && at{e}.y < tile.limit {
            let value = results[own + {e}u * 32u];
#ifdef WHOLE
#ifdef SWIGLU
            keep_gated(at{e}.x, at{e}.y, gate{e}, value);
#else
            keep(tile.segment, at{e}.x, at{e}.y, value);
#endif
#else
#ifdef SWIGLU
            let part = part_at(tile, ids.wid.z, at{e});
            parts[part] = gate{e};
            parts[part + N0] = value;
#else
            parts[part_at(tile, ids.wid.z, at{e})] = value;
#endif
#endif
        }
#end
        workgroupBarrier();
    }
#end
#end
}
