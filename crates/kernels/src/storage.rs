//! Which values share storage, and what kind of storage it is.

use std::collections::{HashMap, HashSet};

use etwgpu_graph::{Graph, ValueId};

use crate::op::Body;
use crate::ops;

/// Kind of storage behind a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read-only constant.
    Weight,
    /// Constant that the program mutates; lives as long as the delegate.
    State,
    /// Host input.
    Input,
    /// Contents live within one run.
    Temp,
}

/// Storage of every value.
#[derive(Clone, Debug)]
pub struct Storage {
    root: Vec<ValueId>,
    kind: HashMap<ValueId, Kind>,
    mutated: HashSet<ValueId>,
    aliased: Vec<bool>,
}

impl Storage {
    /// Resolves aliases: an alias shares its source's storage unless a later node mutates that storage.
    pub fn of(graph: &Graph) -> Self {
        let everything = |_: usize| true;
        let root = roots(graph, &everything);
        let last = last_mutation(graph, &root);
        let keeps = |index: usize| {
            let source = graph.nodes[index].args.first().copied();
            source.is_none_or(|id| last.get(&root[id.index()]).is_none_or(|&at| at < index))
        };
        let aliased = (0..graph.nodes.len()).map(|i| is_alias(graph, i) && keeps(i)).collect();
        let root = roots(graph, &keeps);
        let mutated = last_mutation(graph, &root);
        let results: HashSet<ValueId> = graph.nodes.iter().flat_map(|node| &node.outs).copied().collect();
        let mut kind = HashMap::new();
        for (index, &id) in root.iter().enumerate() {
            if id.index() == index {
                kind.insert(id, kind_of(graph, id, mutated.contains_key(&id) || results.contains(&id)));
            }
        }
        Self { root, kind, mutated: mutated.into_keys().collect(), aliased }
    }

    /// The value whose storage this one shares; itself when it has its own.
    pub fn root(&self, id: ValueId) -> ValueId {
        self.root[id.index()]
    }

    /// Kind of storage behind a value.
    pub fn kind(&self, id: ValueId) -> Kind {
        self.kind.get(&self.root(id)).copied().unwrap_or(Kind::Temp)
    }

    /// Whether a value lives within one run and no node changes its storage once it is written: values that are equal may
    /// then share it.
    pub fn is_lasting_temp(&self, id: ValueId) -> bool {
        self.kind(id) == Kind::Temp && !self.mutated.contains(&self.root(id))
    }

    /// Whether node `index` is an alias that needs no work.
    pub fn is_aliased(&self, index: usize) -> bool {
        self.aliased[index]
    }
}

fn is_alias(graph: &Graph, node: usize) -> bool {
    ops::find(&graph.nodes[node].op).is_some_and(|op| matches!(op.body, Body::Alias(_)))
}

fn roots(graph: &Graph, keeps: &dyn Fn(usize) -> bool) -> Vec<ValueId> {
    let mut root: Vec<ValueId> = (0..graph.values.len() as u32).map(ValueId).collect();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let (true, Some(&source), Some(&out)) =
            (is_alias(graph, index), node.args.first(), node.outs.first())
            && keeps(index)
        {
            root[out.index()] = root[source.index()];
        }
    }
    root
}

fn last_mutation(graph: &Graph, root: &[ValueId]) -> HashMap<ValueId, usize> {
    let mut last = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for &position in ops::find(&node.op).map_or(&[][..], |op| op.mutates) {
            if let Some(&id) = node.args.get(position) {
                last.insert(root[id.index()], index);
            }
        }
    }
    last
}

fn kind_of(graph: &Graph, id: ValueId, written: bool) -> Kind {
    let constant = graph.tensor(id).is_some_and(|t| t.constant.is_some());
    match (constant, written) {
        (true, true) => Kind::State,
        (true, false) => Kind::Weight,
        _ if graph.inputs.contains(&id) => Kind::Input,
        _ => Kind::Temp,
    }
}
