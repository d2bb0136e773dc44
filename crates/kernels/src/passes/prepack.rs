//! `et_vk.prepack` makes a resident tensor of a constant; here every constant is one already.

use etwgpu_graph::{Graph, Value};

/// Turns the output of each prepack into a constant with the same initial bytes, and drops the node.
///
/// Two prepacks of one constant stay two values: a mutated cache must not share storage with another one.
pub(super) fn fold(graph: &mut Graph) -> Vec<String> {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        let constant = match (node.op.as_str(), node.args.first()) {
            ("et_vk.prepack.default", Some(&source)) => graph.tensor(source).and_then(|t| t.constant),
            _ => None,
        };
        match (constant, node.outs.first().map(|out| &mut graph.values[out.index()])) {
            (Some(constant), Some(Value::Tensor(out))) => out.constant = Some(constant),
            _ => graph.nodes.push(node),
        }
    }
    Vec::new()
}
