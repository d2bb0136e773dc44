// Built-in inputs of every kernel, and positions in grids that were folded to two dimensions.
struct Ids {
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
#ifdef SUBGROUPS
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(num_subgroups) subgroups: u32,
#endif
}

fn linear_workgroup(ids: Ids) -> u32 {
    return ids.wid.y * ids.groups.x + ids.wid.x;
}

fn linear_thread(ids: Ids) -> u32 {
    return linear_workgroup(ids) * WG + ids.lid;
}
