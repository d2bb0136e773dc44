//! Fusions: groups of nodes that one kernel can run together.
//!
//! A group is found once, on the graph alone. Whether it runs fused is decided at every lowering, by live sizes and
//! device; where it does not, its nodes are lowered one by one. So a fusion can only add speed, never a wrong answer.

mod attention_front;
#[cfg(feature = "reference")]
pub mod cases;
mod linears;
mod residual;
mod swiglu;
mod view;

use etwgpu_graph::{Graph, ValueId};

use crate::args::{NodeCx, OpError};
use crate::lower::{Lower, Planner};
use crate::route::Refusal;
use crate::storage::Storage;
pub(crate) use view::View;

/// A group of nodes that can run as one.
pub trait Fused: Send + Sync {
    /// Name, as in `fuse.swiglu`.
    fn name(&self) -> &'static str;
    /// Its nodes, in execution order. The fused work takes the place of the last.
    fn nodes(&self) -> Vec<usize>;
    /// Values that it provides; whatever else its nodes compute must not be read by others.
    fn results(&self) -> Vec<ValueId>;
    /// Whether it can run fused at these sizes on this device. `cx` stands at the last node.
    fn fits(&self, cx: &NodeCx<'_>, planner: &Planner<'_>) -> Result<(), Refusal>;
    /// Records the fused work.
    fn record(&self, lower: &mut Lower<'_>) -> Result<(), OpError>;
}

/// A fusion: finds groups of one kind.
struct Fusion {
    name: &'static str,
    find: fn(&View<'_>) -> Vec<Box<dyn Fused>>,
}

/// Every fusion. A node belongs to the first group that claims it, so larger groups come first.
const FUSIONS: &[Fusion] = &[
    Fusion { name: "fuse.attention_front", find: attention_front::find },
    Fusion { name: "fuse.swiglu", find: swiglu::find },
    Fusion { name: "fuse.residual", find: residual::find },
    // What is left of a normalisation's readers: a head, or projections that something stands behind.
    Fusion { name: "fuse.norm_linears", find: linears::find },
];

/// Names of every fusion.
pub fn names() -> Vec<&'static str> {
    FUSIONS.iter().map(|fusion| fusion.name).collect()
}

/// A group that was found but cannot be used, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Name of the fusion.
    pub name: &'static str,
    /// Last node of the group.
    pub node: usize,
    /// What stands in the way.
    pub reason: String,
}

/// The groups of a graph.
#[derive(Default)]
pub struct Groups {
    groups: Vec<Box<dyn Fused>>,
    of_node: Vec<Option<usize>>,
    /// Groups that were found but cannot be used.
    pub rejected: Vec<Rejected>,
}

impl Groups {
    /// Finds every group.
    pub fn of(graph: &Graph, storage: &Storage) -> Self {
        let view = View::of(graph, storage);
        let mut groups = Self { of_node: vec![None; graph.nodes.len()], ..Self::default() };
        for fusion in FUSIONS {
            for group in (fusion.find)(&view) {
                let nodes = group.nodes();
                if nodes.iter().any(|&n| groups.of_node[n].is_some()) {
                    continue;
                }
                match view.obstacle(&nodes, &group.results()) {
                    None => {
                        for node in nodes {
                            groups.of_node[node] = Some(groups.groups.len());
                        }
                        groups.groups.push(group);
                    }
                    Some(reason) => {
                        let node = nodes.last().copied().unwrap_or(0);
                        groups.rejected.push(Rejected { name: fusion.name, node, reason });
                    }
                }
            }
        }
        groups
    }

    /// The group that a node belongs to.
    pub fn of_node(&self, node: usize) -> Option<usize> {
        self.of_node.get(node).copied().flatten()
    }

    /// A group by number.
    pub fn get(&self, group: usize) -> &dyn Fused {
        self.groups[group].as_ref()
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}
