// Softmax of each score row over the keys its query sees; zeros up to the end of what the row's tile sees.
#import attention
#import reduce
@group(0) @binding(1) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let row = linear_workgroup(ids);
    if row >= p.batch * p.heads * p.seq { return; }
    let s = row % p.seq;
    let pitch = (context() + 3u) / 4u * 4u;
    let base = (row / p.seq * ((p.seq + 3u) / 4u * 4u) + s) * pitch;
    let seen = visible(s);
    var highest = HIDDEN;
    for (var c = ids.lid; c < seen; c += WG) { highest = max(highest, scores[base + c]); }
    highest = workgroup_max(highest, ids);
    var sum = 0.0;
    for (var c = ids.lid; c < seen; c += WG) {
        let e = exp(scores[base + c] - highest);
        scores[base + c] = e;
        sum += e;
    }
    let inverse = 1.0 / workgroup_sum(sum, ids);
#ifdef ALL_TILES
    let end = pitch;
#else
    let end = (visible(min(s / 4u * 4u + 3u, p.seq - 1u)) + 3u) / 4u * 4u;
#endif
    for (var c = ids.lid; c < end; c += WG) {
        var v = 0.0;
        if c < seen { v = scores[base + c] * inverse; }
        scores[base + c] = v;
    }
}
