// out[o, i, :] = table[o, index[i], :], one output word an invocation; negative indices count from the end.
#import grid
#import packed
struct Params {
    count: u32,
    row: u32,
    indices: u32,
    table_rows: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> index: array<i32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

// Indices outside the table pick its first or last row.
fn source(i: u32) -> u32 {
    let row = i / p.row;
    let given = index[row % p.indices];
    let wrapped = select(given, given + i32(p.table_rows), given < 0);
    let picked = u32(clamp(wrapped, 0, i32(p.table_rows) - 1));
    return (row / p.indices * p.table_rows + picked) * p.row + i % p.row;
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let word = linear_thread(ids);
    if word * PER_WORD >= p.count { return; }
    var result = 0u;
    for (var i = word * PER_WORD; i < min((word + 1u) * PER_WORD, p.count); i++) {
        let at = source(i);
        result = repacked(result, i, unpacked(table[at / PER_WORD], at));
    }
    out[word] = result;
}
