// How a context is split over workgroups; the same in the kernels that fill the parts and that merges them.
fn split_count() -> u32 {
    return clamp((context() + MIN_SPLIT - 1u) / MIN_SPLIT, 1u, MAX_SPLITS);
}
