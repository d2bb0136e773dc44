// cache[b, position + s, :] = value[b, s, :], four elements an invocation; with BOTH, keys and values at once.
#import elem
#import cache_elem
#import grid
struct Params {
    count: u32,
    per_batch: u32,
    cache_batch: u32,
    row: u32,
    position: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> keys: array<elem4>;
@group(0) @binding(2) var<storage, read_write> key_cache: array<cache4>;
#ifdef BOTH
@group(0) @binding(3) var<storage, read> values: array<elem4>;
@group(0) @binding(4) var<storage, read_write> value_cache: array<cache4>;
#endif

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let i = linear_thread(ids);
    if i >= p.count { return; }
    let at = i / p.per_batch * p.cache_batch + p.position * p.row + i % p.per_batch;
    key_cache[at] = cache4(keys[i]);
#ifdef BOTH
    value_cache[at] = cache4(values[i]);
#endif
}
