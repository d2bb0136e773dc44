//! Live sizes and symbolic integers of one run.

use std::collections::HashMap;

use etwgpu_graph::{Dims, Graph, Value, ValueId};
use thiserror::Error;

use crate::args::{NodeCx, OpError};
use crate::op::{Body, OpDef};
use crate::ops;

/// Sizes of every tensor and values of every symbolic integer.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Sizes by value; meaningful for tensors.
    pub dims: Vec<Dims>,
    /// Integers by value; meaningful for symbolic integers.
    pub ints: Vec<i64>,
    /// Elements of host inputs that symbolic integers are read from.
    pub host: HashMap<ValueId, Vec<i64>>,
}

impl Live {
    /// Every tensor at its declared bound, every symbolic integer zero until propagated.
    pub fn at_bound(graph: &Graph) -> Self {
        let dims = graph.values.iter().map(|v| match v {
            Value::Tensor(t) => t.dims.clone(),
            _ => Dims::new(),
        });
        Self { dims: dims.collect(), ints: vec![0; graph.values.len()], host: HashMap::new() }
    }
}

/// What a propagation changed, so that it can be taken back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    dims: Vec<(ValueId, Dims)>,
    ints: Vec<(ValueId, i64)>,
    host: Vec<(ValueId, Option<Vec<i64>>)>,
}

impl Journal {
    /// Whether some tensor has other sizes than before.
    pub fn resized(&self) -> bool {
        !self.dims.is_empty()
    }

    /// Gives a tensor other sizes.
    pub fn set_dims(&mut self, live: &mut Live, id: ValueId, dims: Dims) {
        let before = std::mem::replace(&mut live.dims[id.index()], dims);
        self.dims.push((id, before));
    }

    /// Gives a symbolic integer another value.
    pub fn set_int(&mut self, live: &mut Live, id: ValueId, value: i64) {
        let before = std::mem::replace(&mut live.ints[id.index()], value);
        self.ints.push((id, before));
    }

    /// Notes other elements of a host input.
    pub fn set_host(&mut self, live: &mut Live, id: ValueId, values: Vec<i64>) {
        let before = live.host.insert(id, values);
        self.host.push((id, before));
    }

    /// Takes every change back, the last one first.
    pub fn undo(self, live: &mut Live) {
        for (id, dims) in self.dims.into_iter().rev() {
            live.dims[id.index()] = dims;
        }
        for (id, value) in self.ints.into_iter().rev() {
            live.ints[id.index()] = value;
        }
        for (id, values) in self.host.into_iter().rev() {
            match values {
                Some(values) => live.host.insert(id, values),
                None => live.host.remove(&id),
            };
        }
    }
}

/// A node that refuses the live sizes or values.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{op} (node {node}): {error}")]
pub struct LiveError {
    /// Position in [`Graph::nodes`].
    pub node: usize,
    /// Operator name.
    pub op: String,
    /// What is wrong.
    pub error: OpError,
}

/// Values that differ from the last run.
#[derive(Clone, Debug)]
pub struct Dirty(Vec<ValueId>);

impl Dirty {
    /// Nothing changed yet.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Everything counts as changed.
    pub fn all(graph: &Graph) -> Self {
        Self((0..graph.values.len() as u32).map(ValueId).collect())
    }

    /// Marks one value.
    pub fn mark(&mut self, id: ValueId) {
        self.0.push(id);
    }

    /// Whether anything is marked.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Where changes go: the operator of each node, and the nodes that read each value.
pub struct Flow {
    operators: Vec<Option<&'static OpDef>>,
    readers: Vec<Vec<usize>>,
}

impl Flow {
    /// The flow of a graph.
    pub fn of(graph: &Graph) -> Self {
        let mut readers = vec![Vec::new(); graph.values.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            for &arg in &node.args {
                readers[arg.index()].push(index);
                if let Value::List(items) = graph.value(arg) {
                    items.iter().for_each(|item| readers[item.index()].push(index));
                }
            }
        }
        Self { operators: graph.nodes.iter().map(|node| ops::find(&node.op)).collect(), readers }
    }

    /// Recomputes, in execution order, the sizes and integers that depend on `dirty` values.
    ///
    /// On error `live` is half updated; `journal` takes it back.
    pub fn propagate(
        &self,
        graph: &Graph,
        live: &mut Live,
        dirty: &Dirty,
        journal: &mut Journal,
    ) -> Result<(), LiveError> {
        let mut nodes = Nodes::none(graph.nodes.len());
        let mark_readers = |nodes: &mut Nodes, id: ValueId| {
            let resized = graph.tensor(id).is_some();
            self.readers[id.index()].iter().for_each(|&node| nodes.mark(node, resized));
        };
        dirty.0.iter().for_each(|&id| mark_readers(&mut nodes, id));
        while let Some((index, resized)) = nodes.next() {
            let node = &graph.nodes[index];
            let fail = |error| LiveError { node: index, op: node.op.clone(), error };
            let def = self.operators[index]
                .ok_or_else(|| fail(OpError::Unsupported("no such operator in this delegate".into())))?;
            let cx = NodeCx { graph, live, index };
            if let (Some(recheck), false) = (def.recheck, resized) {
                recheck(&cx).map_err(fail)?;
                continue;
            }
            match def.body {
                Body::Scalar(eval) => {
                    let value = eval(&cx).map_err(fail)?;
                    for &out in &node.outs {
                        if live.ints[out.index()] != value {
                            journal.set_int(live, out, value);
                            mark_readers(&mut nodes, out);
                        }
                    }
                }
                Body::Alias(shape) | Body::Kernel { shape, .. } => {
                    let shapes = shape(&cx).map_err(fail)?;
                    for (&out, dims) in node.outs.iter().zip(&shapes) {
                        check_bound(graph, out, dims).map_err(fail)?;
                        if live.dims[out.index()] != *dims {
                            journal.set_dims(live, out, dims.clone());
                            mark_readers(&mut nodes, out);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// A set of nodes that is walked in execution order, a bit each.
struct Nodes {
    words: Vec<Marks>,
    /// The first node that is not yet walked past.
    at: usize,
}

/// 64 nodes: which are in the set, and for which of these a tensor is the reason.
#[derive(Clone, Copy, Default)]
struct Marks {
    all: u64,
    resized: u64,
}

impl Nodes {
    fn none(count: usize) -> Self {
        Self { words: vec![Marks::default(); count.div_ceil(64)], at: 0 }
    }

    fn mark(&mut self, node: usize, resized: bool) {
        let marks = &mut self.words[node / 64];
        marks.all |= 1 << (node % 64);
        marks.resized |= u64::from(resized) << (node % 64);
    }

    /// The next node, and whether a tensor is the reason.
    fn next(&mut self) -> Option<(usize, bool)> {
        for word in self.at / 64..self.words.len() {
            let ahead = if word == self.at / 64 { u64::MAX << (self.at % 64) } else { u64::MAX };
            let Marks { all, resized } = self.words[word];
            let bits = all & ahead;
            if bits != 0 {
                let bit = bits.trailing_zeros();
                self.at = word * 64 + bit as usize + 1;
                return Some((self.at - 1, resized >> bit & 1 == 1));
            }
        }
        None
    }
}

/// [`Flow::propagate`], for a graph that changes once.
pub fn propagate(
    graph: &Graph,
    live: &mut Live,
    dirty: &Dirty,
    journal: &mut Journal,
) -> Result<(), LiveError> {
    Flow::of(graph).propagate(graph, live, dirty, journal)
}

/// Live sizes may not exceed what the exporter declared: the host sized its own tensors by that bound.
fn check_bound(graph: &Graph, id: ValueId, dims: &Dims) -> Result<(), OpError> {
    let Some(tensor) = graph.tensor(id) else { return Ok(()) };
    let fits = tensor.dims.len() == dims.len() && dims.iter().zip(&tensor.dims).all(|(d, max)| d <= max);
    if fits {
        return Ok(());
    }
    Err(crate::invalid!(
        "output %{} has sizes {:?}, outside its declared bound {:?}",
        id.0,
        &dims[..],
        &tensor.dims[..]
    ))
}
