//! Rewrites of a graph before it is lowered, in order.

mod half_caches;
mod prepack;

use etwgpu_graph::Graph;

/// What the caller asks of the rewrites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassOptions {
    /// Store the key-value caches of the delegate as `f16`.
    pub f16_kv_cache: bool,
}

/// A rewrite.
pub struct Pass {
    /// Name shown by `etwgpu dump`.
    pub name: &'static str,
    /// Whether the caller asks for it.
    pub wanted: fn(&PassOptions) -> bool,
    /// The rewrite itself; says what the caller should know of it.
    pub run: fn(&mut Graph) -> Vec<String>,
}

/// Every pass, in the order they run.
pub const PASSES: &[Pass] = &[
    // Constants are resident under the values that operators read, so that a prepacked cache is a state of its own.
    Pass { name: "fold_prepack", wanted: |_| true, run: prepack::fold },
    Pass { name: "half_caches", wanted: |options| options.f16_kv_cache, run: half_caches::store },
];

/// Runs every pass that is wanted; returns what the caller should know.
pub fn run(graph: &mut Graph, options: &PassOptions) -> Vec<String> {
    PASSES.iter().filter(|pass| (pass.wanted)(options)).flat_map(|pass| (pass.run)(graph)).collect()
}
