//! Who produces and who reads what, seen through aliases.

use std::collections::HashMap;

use etwgpu_graph::{Graph, Node, Value, ValueId};

use crate::args::NodeCx;
use crate::live::Live;
use crate::ops;
use crate::storage::Storage;

/// A graph in which views and clones do not show.
pub(crate) struct View<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) storage: &'a Storage,
    /// The declared sizes, for reading constant arguments.
    bound: Live,
    producer: HashMap<ValueId, usize>,
    readers: HashMap<ValueId, Vec<usize>>,
    outputs: Vec<ValueId>,
}

impl<'a> View<'a> {
    pub(crate) fn of(graph: &'a Graph, storage: &'a Storage) -> Self {
        let mut view = Self {
            graph,
            storage,
            bound: Live::at_bound(graph),
            producer: HashMap::new(),
            readers: HashMap::new(),
            outputs: graph.outputs.iter().map(|&id| storage.root(id)).collect(),
        };
        for (index, node) in graph.nodes.iter().enumerate().filter(|(i, _)| !storage.is_aliased(*i)) {
            for &out in &node.outs {
                view.producer.insert(storage.root(out), index);
            }
            for id in view.read_by(node) {
                view.readers.entry(storage.root(id)).or_default().push(index);
            }
        }
        view
    }

    fn read_by(&self, node: &Node) -> Vec<ValueId> {
        let members = |&id: &ValueId| match self.graph.value(id) {
            Value::List(items) => items.clone(),
            _ => vec![id],
        };
        node.args.iter().flat_map(members).collect()
    }

    /// A node's arguments at their declared sizes.
    pub(crate) fn cx(&self, index: usize) -> NodeCx<'_> {
        NodeCx { graph: self.graph, live: &self.bound, index }
    }

    pub(crate) fn node(&self, index: usize) -> &'a Node {
        &self.graph.nodes[index]
    }

    /// Nodes with this name, in order.
    pub(crate) fn named(&self, op: &str) -> Vec<usize> {
        (0..self.graph.nodes.len()).filter(|&i| self.graph.nodes[i].op == op).collect()
    }

    /// The value behind argument `index` of a node, through views.
    pub(crate) fn arg(&self, node: usize, index: usize) -> Option<ValueId> {
        self.node(node).args.get(index).map(|&id| self.storage.root(id))
    }

    /// The node that computes argument `index` of a node, if it is one of `ops`.
    pub(crate) fn producer(&self, node: usize, index: usize, ops: &[&str]) -> Option<usize> {
        let producer = *self.producer.get(&self.arg(node, index)?)?;
        ops.contains(&self.node(producer).op.as_str()).then_some(producer)
    }

    /// Nodes that read output `index` of a node.
    pub(crate) fn readers(&self, node: usize, index: usize) -> &[usize] {
        let out = self.node(node).outs.get(index).map(|&id| self.storage.root(id));
        out.and_then(|id| self.readers.get(&id)).map_or(&[], Vec::as_slice)
    }

    /// Why these nodes cannot run together in the place of the last one, if something stands in the way.
    pub(crate) fn obstacle(&self, nodes: &[usize], results: &[ValueId]) -> Option<String> {
        let (&first, &last) = (nodes.first()?, nodes.last()?);
        let results: Vec<ValueId> = results.iter().map(|&id| self.storage.root(id)).collect();
        for &node in nodes {
            for &out in &self.node(node).outs {
                let out = self.storage.root(out);
                let outside = self.readers.get(&out).into_iter().flatten().find(|r| !nodes.contains(r));
                match (results.contains(&out), outside) {
                    (false, Some(&reader)) => {
                        return Some(format!("node {reader} reads what node {node} computes within"));
                    }
                    (true, Some(&reader)) if reader < last => {
                        return Some(format!("node {reader} needs a result before node {last}"));
                    }
                    _ => {}
                }
                if !results.contains(&out) && self.outputs.contains(&out) {
                    return Some(format!("the host reads what node {node} computes within"));
                }
            }
        }
        (first..last).filter(|i| !nodes.contains(i)).find_map(|between| self.conflict(between, nodes))
    }

    /// Whether a node that runs between the group's nodes touches what they mutate, or mutates what they read.
    fn conflict(&self, between: usize, nodes: &[usize]) -> Option<String> {
        let mutated = |index: usize| self.mutated(index);
        let touched = |index: usize| -> Vec<ValueId> {
            self.read_by(self.node(index)).iter().map(|&id| self.storage.root(id)).collect()
        };
        let clash = nodes.iter().any(|&node| {
            mutated(node).iter().any(|id| touched(between).contains(id))
                || mutated(between).iter().any(|id| touched(node).contains(id))
        });
        clash.then(|| format!("node {between} in between touches the same state"))
    }

    fn mutated(&self, index: usize) -> Vec<ValueId> {
        let node = self.node(index);
        let positions = ops::find(&node.op).map_or(&[][..], |op| op.mutates);
        positions.iter().filter_map(|&p| node.args.get(p)).map(|&id| self.storage.root(id)).collect()
    }
}
