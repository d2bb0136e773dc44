// TILE_ROWS x TILE_COLUMNS outputs a workgroup on 16x16 matrices; grid: channels (x), rows (y).
#enable f16
#enable wgpu_cooperative_matrix
alias x_item = elem4;
alias weight_item = vec2<u32>;
#import operands
#import grid

// Rows of f16 in vec4s, padded so that the rows of a matrix fall into different banks.
const PITCH = QUADS + 2u;
const QUADS = STEP / 4u;
// Loads of sixteen nibbles that make a row of weights.
const PIECES = STEP / 16u;
var<workgroup> xs: array<vec4<f16>, TILE_ROWS * PITCH>;
var<workgroup> ws: array<vec4<f16>, TILE_COLUMNS * PITCH>;
var<workgroup> results: array<f32, WG / 32u * 256u>;

// Operands of the next step on their way from memory.
#for i X_LOADS
var<private> next_x{i}: vec4<f32>;
#end
#for i W_LOADS
var<private> next_w{i}: vec2<u32>;
var<private> next_scale{i}: f32;
#end

fn fetch(m0: u32, n0: u32, k0: u32, lid: u32) {
#for i X_LOADS
    let from_m{i} = min(m0 + ({i}u * WG + lid) / QUADS, p.m - 1u);
    next_x{i} = vec4<f32>(x[from_m{i} * (K / 4u) + k0 / 4u + lid % QUADS]);
#end
#for i W_LOADS
    let from_n{i} = min(n0 + ({i}u * WG + lid) / PIECES, N - 1u);
    next_w{i} = weight[from_n{i} * (K / 16u) + k0 / 16u + lid % PIECES];
    next_scale{i} = f32(scales[from_n{i} * GROUPS + (k0 + lid % PIECES * 16u) / GROUP]);
#end
}

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

// Writes a block that lies in `results`.
fn store(m0: u32, n0: u32, area: u32, lane: u32) {
    for (var i = 0u; i < 8u; i++) {
        let e = i * 32u + lane;
        let m = m0 + e / 16u;
        let n = n0 + e % 16u;
        if m < p.m && n < N { out[m * N + n] = finish(results[area + e], m, n); }
    }
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let n0 = ids.wid.x * TILE_COLUMNS;
    let m0 = ids.wid.y * TILE_ROWS;
    let first_row = ids.subgroup / SUBGROUP_COLUMNS * BLOCK_ROWS * 16u;
    let first_column = ids.subgroup % SUBGROUP_COLUMNS * BLOCK_COLUMNS * 16u;
#for i BLOCK_ROWS
#for j BLOCK_COLUMNS
    var sum{i}{j} = coop_mat16x16<f32, C>();
#end
#end
    fetch(m0, n0, 0u, ids.lid);
    for (var k0 = 0u; k0 < K; k0 += STEP) {
        stage(m0, ids.lid);
        workgroupBarrier();
        if k0 + STEP < K { fetch(m0, n0, k0 + STEP, ids.lid); }
        for (var k = 0u; k < STEP / 4u; k += 4u) {
#for j BLOCK_COLUMNS
            let at_b{j} = (first_column + {j}u * 16u) * PITCH + k;
            let b{j} = coopLoad<coop_mat16x16<f16, B>>(&ws[at_b{j}], PITCH);
#end
#for i BLOCK_ROWS
            let at_a{i} = (first_row + {i}u * 16u) * PITCH + k;
            let a{i} = coopLoadT<coop_mat16x16<f16, A>>(&xs[at_a{i}], PITCH);
#for j BLOCK_COLUMNS
            sum{i}{j} = coopMultiplyAdd(a{i}, b{j}, sum{i}{j});
#end
#end
        }
        workgroupBarrier();
    }
    let area = ids.subgroup * 256u;
#for i BLOCK_ROWS
#for j BLOCK_COLUMNS
    coopStoreT(sum{i}{j}, &results[area], 16u);
    workgroupBarrier();
    store(m0 + first_row + {i}u * 16u, n0 + first_column + {j}u * 16u, area, ids.lane);
    workgroupBarrier();
#end
#end
}
