//! Key-value caches that live in the delegate, stored as `f16` although the program declares `f32`: half the memory, and
//! half the bytes that a decode step reads.
//!
//! Kernels take such caches beside `f32` activations; rows are rounded when they are written, all arithmetic stays `f32`.

use std::collections::BTreeMap;

use etwgpu_graph::{Constant, ConstantId, DType, Graph, Value, ValueId};

use crate::ops;
use crate::ops::sdpa::{cache_arguments, user_beside};

/// Turns the caches that allow it into `f16` tensors, and says which do not and why.
pub(super) fn store(graph: &mut Graph) -> Vec<String> {
    let caches = caches(graph);
    if caches.is_empty() {
        return Vec::new();
    }
    let mut refused: BTreeMap<&str, Vec<ValueId>> = BTreeMap::new();
    let mut stored = 0;
    for (id, refusal) in &caches {
        match refusal {
            None => {
                halve(graph, *id);
                stored += 1;
            }
            Some(why) => refused.entry(why).or_default().push(*id),
        }
    }
    let mut notes = vec![format!("{stored} of {} caches are stored as f16", caches.len())];
    for (why, ids) in refused {
        let ids: Vec<String> = ids.iter().map(|id| format!("%{}", id.0)).collect();
        notes.push(format!("{} not: {why}", ids.join(" ")));
    }
    notes
}

/// Every cache, and why it must stay as it is.
fn caches(graph: &Graph) -> BTreeMap<ValueId, Option<String>> {
    let mut caches = BTreeMap::new();
    for node in &graph.nodes {
        for &id in cache_arguments(&node.op).iter().filter_map(|&at| node.args.get(at)) {
            caches.entry(id).or_insert_with(|| refusal(graph, id));
        }
    }
    // One refusal of a pair may follow from another.
    while let Some((id, why)) = unpaired(graph, &caches) {
        caches.insert(id, Some(why));
    }
    caches
}

fn refusal(graph: &Graph, id: ValueId) -> Option<String> {
    let tensor = graph.tensor(id)?;
    if graph.inputs.contains(&id) || graph.outputs.contains(&id) {
        return Some("the host passes or receives it".into());
    }
    if tensor.constant.is_none() || !is_mutated(graph, id) {
        return Some("it is no state of the delegate".into());
    }
    if tensor.dtype != DType::F32 {
        return Some(format!("its elements are {:?}", tensor.dtype));
    }
    user_beside(graph, id).map(|node| format!("{} uses it, too", node.op))
}

fn is_mutated(graph: &Graph, id: ValueId) -> bool {
    let mutates = |op: &str| ops::find(op).map_or(&[][..], |def| def.mutates);
    let mut nodes = graph.nodes.iter();
    nodes.any(|node| mutates(&node.op).iter().any(|&at| node.args.get(at) == Some(&id)))
}

/// A cache that could be stored as `f16`, next to one that cannot.
fn unpaired(graph: &Graph, caches: &BTreeMap<ValueId, Option<String>>) -> Option<(ValueId, String)> {
    let is_kept = |id: &ValueId| caches.get(id).is_some_and(Option::is_some);
    graph.nodes.iter().find_map(|node| {
        let group: Vec<ValueId> =
            cache_arguments(&node.op).iter().filter_map(|&at| node.args.get(at).copied()).collect();
        let free = group.iter().find(|id| !is_kept(id))?;
        let kept = group.iter().find(|id| is_kept(id))?;
        Some((*free, format!("%{} beside it is not", kept.0)))
    })
}

/// Makes a tensor `f16` and its initial bytes ones that are converted.
fn halve(graph: &mut Graph, id: ValueId) {
    let Value::Tensor(tensor) = &mut graph.values[id.index()] else { return };
    let Some(constant) = tensor.constant else { return };
    let source = graph.constants[constant.index()].source.clone();
    tensor.constant = Some(ConstantId(graph.constants.len() as u32));
    graph.constants.push(Constant { source, stored: Some(tensor.dtype) });
    tensor.dtype = DType::F16;
}
