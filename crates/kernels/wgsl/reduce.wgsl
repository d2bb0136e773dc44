// Sums, minima and maxima over a workgroup of WG invocations; every invocation gets the result.
#import grid
var<workgroup> reduce_partial: array<f32, WG>;

#ifdef SUBGROUPS
fn workgroup_sum(value: f32, ids: Ids) -> f32 {
    let part = subgroupAdd(value);
    if ids.lane == 0u { reduce_partial[ids.subgroup] = part; }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < ids.subgroups; i++) { total += reduce_partial[i]; }
    workgroupBarrier();
    return total;
}

fn workgroup_max(value: f32, ids: Ids) -> f32 {
    let part = subgroupMax(value);
    if ids.lane == 0u { reduce_partial[ids.subgroup] = part; }
    workgroupBarrier();
    var total = reduce_partial[0];
    for (var i = 1u; i < ids.subgroups; i++) { total = max(total, reduce_partial[i]); }
    workgroupBarrier();
    return total;
}
#else
fn workgroup_sum(value: f32, ids: Ids) -> f32 {
    reduce_partial[ids.lid] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if ids.lid < half { reduce_partial[ids.lid] += reduce_partial[ids.lid + half]; }
        workgroupBarrier();
    }
    let total = reduce_partial[0];
    workgroupBarrier();
    return total;
}

fn workgroup_max(value: f32, ids: Ids) -> f32 {
    reduce_partial[ids.lid] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if ids.lid < half { reduce_partial[ids.lid] = max(reduce_partial[ids.lid], reduce_partial[ids.lid + half]); }
        workgroupBarrier();
    }
    let total = reduce_partial[0];
    workgroupBarrier();
    return total;
}
#endif

fn workgroup_min(value: f32, ids: Ids) -> f32 {
    return -workgroup_max(-value, ids);
}
