// TILE_ROWS x TILE_COLUMNS outputs a workgroup on 16x16 matrices; grid: channels (x), rows (y).
#enable f16
#enable wgpu_cooperative_matrix
alias x_item = elem4;
alias weight_item = vec2<u32>;
#import operands
#import grid

const STEP = 32u;
// Rows of f16 in vec4s, padded so that the rows of a matrix fall into different banks.
const PITCH = 10u;
const QUADS = STEP / 4u;
// 16x16 blocks of a subgroup.
const BLOCK_ROWS = TILE_ROWS / SUBGROUP_ROWS / 16u;
const BLOCK_COLUMNS = TILE_COLUMNS / SUBGROUP_COLUMNS / 16u;
var<workgroup> xs: array<vec4<f16>, TILE_ROWS * PITCH>;
var<workgroup> ws: array<vec4<f16>, TILE_COLUMNS * PITCH>;
var<workgroup> results: array<f32, WG / 32u * 256u>;

// Operands of the next step on their way from memory.
const X_LOADS = TILE_ROWS * QUADS / WG;
const W_LOADS = TILE_COLUMNS * 2u / WG;
var<private> next_x: array<vec4<f32>, X_LOADS>;
var<private> next_w: array<vec2<u32>, W_LOADS>;
var<private> next_scale: array<f32, W_LOADS>;

fn fetch(m0: u32, n0: u32, k0: u32, lid: u32) {
    for (var i = 0u; i < X_LOADS; i++) {
        let at = i * WG + lid;
        let m = min(m0 + at / QUADS, p.m - 1u);
        next_x[i] = vec4<f32>(x[m * (K / 4u) + k0 / 4u + at % QUADS]);
    }
    for (var i = 0u; i < W_LOADS; i++) {
        let at = i * WG + lid;
        let n = min(n0 + at / 2u, N - 1u);
        next_w[i] = weight[(n * (K / 8u) + k0 / 8u) / 2u + at % 2u];
        next_scale[i] = f32(scales[n * GROUPS + k0 / GROUP]);
    }
}

fn quad_of(word: u32, shift: u32, scale: f32) -> vec4<f16> {
    let nibbles = (vec4(word) >> (vec4(0u, 4u, 8u, 12u) + shift)) & vec4(15u);
    return vec4<f16>((vec4<f32>(nibbles) - 8.0) * scale);
}

fn stage(m0: u32, lid: u32) {
    for (var i = 0u; i < X_LOADS; i++) {
        let at = i * WG + lid;
        let q = row_quant(min(m0 + at / QUADS, p.m - 1u));
        xs[at / QUADS * PITCH + at % QUADS] = vec4<f16>(quantised(next_x[i], q));
    }
    for (var i = 0u; i < W_LOADS; i++) {
        let at = (i * WG + lid) / 2u * PITCH + lid % 2u * 4u;
        ws[at] = quad_of(next_w[i].x, 0u, next_scale[i]);
        ws[at + 1u] = quad_of(next_w[i].x, 16u, next_scale[i]);
        ws[at + 2u] = quad_of(next_w[i].y, 0u, next_scale[i]);
        ws[at + 3u] = quad_of(next_w[i].y, 16u, next_scale[i]);
    }
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let n0 = ids.wid.x * TILE_COLUMNS;
    let m0 = ids.wid.y * TILE_ROWS;
    let first_row = ids.subgroup / SUBGROUP_COLUMNS * BLOCK_ROWS * 16u;
    let first_column = ids.subgroup % SUBGROUP_COLUMNS * BLOCK_COLUMNS * 16u;
    var sums: array<array<coop_mat16x16<f32, C>, BLOCK_COLUMNS>, BLOCK_ROWS>;
    fetch(m0, n0, 0u, ids.lid);
    for (var k0 = 0u; k0 < K; k0 += STEP) {
        stage(m0, ids.lid);
        workgroupBarrier();
        if k0 + STEP < K { fetch(m0, n0, k0 + STEP, ids.lid); }
        for (var k = 0u; k < STEP / 4u; k += 4u) {
            var b: array<coop_mat16x16<f16, B>, BLOCK_COLUMNS>;
            for (var j = 0u; j < BLOCK_COLUMNS; j++) {
                let at = (first_column + j * 16u) * PITCH + k;
                b[j] = coopLoad<coop_mat16x16<f16, B>>(&ws[at], PITCH);
            }
            for (var i = 0u; i < BLOCK_ROWS; i++) {
                let at = (first_row + i * 16u) * PITCH + k;
                let a = coopLoadT<coop_mat16x16<f16, A>>(&xs[at], PITCH);
                for (var j = 0u; j < BLOCK_COLUMNS; j++) {
                    sums[i][j] = coopMultiplyAdd(a, b[j], sums[i][j]);
                }
            }
        }
        workgroupBarrier();
    }
    let area = ids.subgroup * 256u;
    for (var i = 0u; i < BLOCK_ROWS; i++) {
        for (var j = 0u; j < BLOCK_COLUMNS; j++) {
            let block = sums[i][j];
            coopStoreT(block, &results[area], 16u);
            workgroupBarrier();
            for (var e = ids.lane; e < 256u; e += 32u) {
                let m = m0 + first_row + i * 16u + e / 16u;
                let n = n0 + first_column + j * 16u + e % 16u;
                if m < p.m && n < N { out[m * N + n] = finish(results[area + e], m, n); }
            }
            workgroupBarrier();
        }
    }
}
