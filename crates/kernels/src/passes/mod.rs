//! Rewrites of a graph before it is lowered, in order.

mod prepack;

use etwgpu_graph::Graph;

/// A rewrite.
pub struct Pass {
    /// Name shown by `etwgpu dump`.
    pub name: &'static str,
    /// The rewrite itself.
    pub run: fn(&mut Graph),
}

/// Every pass, in the order they run.
pub const PASSES: &[Pass] = &[
    // Constants are resident under the values that operators read, so that a prepacked cache is a state of its own.
    Pass { name: "fold_prepack", run: prepack::fold },
];

/// Runs every pass.
pub fn run(graph: &mut Graph) {
    for pass in PASSES {
        (pass.run)(graph);
    }
}
