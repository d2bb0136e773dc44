// out[o, i, :] = table[o, index[i], :], one word an invocation; negative indices count from the end.
#import grid
struct Params {
    words: u32,
    row_words: u32,
    indices: u32,
    table_rows: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> index: array<i32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if word >= p.words { return; }
    let row = word / p.row_words;
    let given = index[row % p.indices];
    let wrapped = u32(select(given, given + i32(p.table_rows), given < 0));
    let picked = min(wrapped, p.table_rows - 1u);
    let outer = row / p.indices;
    out[word] = table[(outer * p.table_rows + picked) * p.row_words + word % p.row_words];
}
