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

fn stage_x(m0: u32, k0: u32, lid: u32) {
    for (var i = lid; i < TILE_ROWS * QUADS; i += WG) {
        let row = i / QUADS;
        let quad = i % QUADS;
        let m = min(m0 + row, p.m - 1u);
        let v = quantised(vec4<f32>(x[m * (K / 4u) + k0 / 4u + quad]), row_quant(m));
        xs[row * PITCH + quad] = vec4<f16>(v);
    }
}

fn quad_of(word: u32, shift: u32, scale: f32) -> vec4<f16> {
    let nibbles = (vec4(word) >> (vec4(0u, 4u, 8u, 12u) + shift)) & vec4(15u);
    return vec4<f16>((vec4<f32>(nibbles) - 8.0) * scale);
}

fn stage_w(n0: u32, k0: u32, lid: u32) {
    for (var i = lid; i < TILE_COLUMNS * 2u; i += WG) {
        let row = i / 2u;
        let half = i % 2u;
        let n = min(n0 + row, N - 1u);
        let words = weight[(n * (K / 8u) + k0 / 8u) / 2u + half];
        let scale = f32(scales[n * GROUPS + k0 / GROUP]);
        let at = row * PITCH + half * 4u;
        ws[at] = quad_of(words.x, 0u, scale);
        ws[at + 1u] = quad_of(words.x, 16u, scale);
        ws[at + 2u] = quad_of(words.y, 0u, scale);
        ws[at + 3u] = quad_of(words.y, 16u, scale);
    }
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let n0 = ids.wid.x * TILE_COLUMNS;
    let m0 = ids.wid.y * TILE_ROWS;
    let first_row = ids.subgroup / SUBGROUP_COLUMNS * BLOCK_ROWS * 16u;
    let first_column = ids.subgroup % SUBGROUP_COLUMNS * BLOCK_COLUMNS * 16u;
    var sums: array<array<coop_mat16x16<f32, C>, BLOCK_COLUMNS>, BLOCK_ROWS>;
    for (var k0 = 0u; k0 < K; k0 += STEP) {
        stage_x(m0, k0, ids.lid);
        stage_w(n0, k0, ids.lid);
        workgroupBarrier();
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
