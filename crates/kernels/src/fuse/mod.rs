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
    find: fn(&View<'_>) -> Found,
}

/// Why there is no group at a node: for a reason that is worth telling, or because it has nothing to do with the pattern.
type Miss = Option<String>;

/// A miss that is worth telling.
fn near(why: impl Into<String>) -> Miss {
    Some(why.into())
}

/// What a fusion finds: groups, and nodes where one nearly ends.
#[derive(Default)]
struct Found {
    groups: Vec<Box<dyn Fused>>,
    missed: Vec<(usize, String)>,
}

impl Found {
    /// Notes what is found at a node where a group may end.
    fn note<G: Fused + 'static>(&mut self, node: usize, found: Result<G, Miss>) {
        match found {
            Ok(group) => self.groups.push(Box::new(group)),
            Err(Some(why)) => self.missed.push((node, why)),
            Err(None) => {}
        }
    }

    /// What is found at each of some nodes.
    fn at<G: Fused + 'static>(nodes: Vec<usize>, find: impl Fn(usize) -> Result<G, Miss>) -> Self {
        let mut found = Self::default();
        nodes.into_iter().for_each(|node| found.note(node, find(node)));
        found
    }
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

/// A group that was found but cannot be used, or that is nearly there, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Name of the fusion.
    pub name: &'static str,
    /// Last node of the group, or the node at which it would end.
    pub node: usize,
    /// What stands in the way.
    pub reason: String,
}

/// The groups of a graph.
#[derive(Default)]
pub struct Groups {
    groups: Vec<Box<dyn Fused>>,
    of_node: Vec<Option<usize>>,
    /// Groups that were found but cannot be used, and places where one nearly is. Nodes of other groups are left out.
    pub rejected: Vec<Rejected>,
}

impl Groups {
    /// Finds every group.
    pub fn of(graph: &Graph, storage: &Storage) -> Self {
        let view = View::of(graph, storage);
        let mut groups = Self { of_node: vec![None; graph.nodes.len()], ..Self::default() };
        for fusion in FUSIONS {
            let Found { groups: found, missed } = (fusion.find)(&view);
            let missed =
                missed.into_iter().map(|(node, reason)| Rejected { name: fusion.name, node, reason });
            groups.rejected.extend(missed);
            for group in found {
                groups.take(&view, fusion.name, group);
            }
        }
        let of_node = &groups.of_node;
        groups.rejected.retain(|rejected| of_node[rejected.node].is_none());
        groups
    }

    /// Takes a group, unless something stands in its way.
    fn take(&mut self, view: &View<'_>, name: &'static str, group: Box<dyn Fused>) {
        let nodes = group.nodes();
        let taken = nodes.iter().find_map(|&n| Some((n, self.of_node[n]?)));
        let obstacle = match taken {
            Some((node, by)) => Some(format!("node {node} is part of {}", self.groups[by].name())),
            None => view.obstacle(&nodes, &group.results()),
        };
        match obstacle {
            None => {
                for node in nodes {
                    self.of_node[node] = Some(self.groups.len());
                }
                self.groups.push(group);
            }
            Some(reason) => {
                let node = nodes.last().copied().unwrap_or(0);
                self.rejected.push(Rejected { name, node, reason });
            }
        }
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
