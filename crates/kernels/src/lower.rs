//! Lowering: a graph at live sizes becomes a recording.

mod context;

use std::collections::HashMap;
use std::ops::Range;

use etwgpu_graph::{Graph, ValueId};
use etwgpu_record::{BufferId, Caps, Dispatch, OutputCopy, Recording, assign_slots};
use thiserror::Error;

use crate::args::{NodeCx, OpError, TensorArg};
use crate::buffers::Buffers;
use crate::fuse::Groups;
use crate::live::Live;
use crate::op::Body;
use crate::ops;
use crate::route::Considered;
use crate::storage::Storage;

pub use self::context::{Launch, Lower, fold_grid};

/// Bytes of temporaries up to which they share memory only where that costs no wait.
const KEEP_APART: u64 = 64 << 20;

/// Choices that the caller makes for the planner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LowerOptions {
    /// Routes to take wherever they fit, before any other.
    pub prefer: Vec<String>,
    /// Routes never to take.
    pub avoid: Vec<String>,
    /// Keep every temporary in memory of its own, so that all can be read after the run.
    pub keep_values: bool,
}

/// A node that cannot be lowered.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{op} (node {node}): {error}")]
pub struct LowerError {
    /// Position in [`Graph::nodes`].
    pub node: usize,
    /// Operator name.
    pub op: String,
    /// What is wrong.
    pub error: OpError,
}

/// What became of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePlan {
    /// Its launches in the recording.
    pub dispatches: Range<usize>,
    /// Routes considered for it, in order of preference.
    pub considered: Vec<Considered>,
    /// Whether symbolic integers decide more than live parameters: the node is lowered again when they change.
    pub follows_integers: bool,
}

/// A recording and how it came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lowered {
    /// The work.
    pub recording: Recording,
    /// One plan a node; a group's launches stand at its last node.
    pub plans: Vec<NodePlan>,
    /// Whether each group runs fused.
    pub fused: Vec<bool>,
    /// Buffers of the values that are stored, by the value whose storage it is; empty unless temporaries are kept.
    pub values: HashMap<ValueId, BufferId>,
}

/// What lowering knows besides the live sizes.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    /// The graph after passes.
    pub graph: &'a Graph,
    /// Storage of its values.
    pub storage: &'a Storage,
    /// Nodes that may run together.
    pub groups: &'a Groups,
    /// The device.
    pub caps: &'a Caps,
    /// The caller's choices.
    pub options: &'a LowerOptions,
}

impl Planner<'_> {
    /// Whether the caller switched a route or a fusion off.
    pub(crate) fn avoids(&self, name: &str) -> bool {
        self.options.avoid.iter().any(|avoided| avoided == name)
    }
}

/// Records the work of every node for these live sizes.
pub fn lower(planner: &Planner<'_>, live: &Live) -> Result<Lowered, LowerError> {
    let mut lowered = Lowered { fused: vec![false; planner.groups.len()], ..Lowered::default() };
    let mut buffers = Buffers::default();
    for index in 0..planner.graph.nodes.len() {
        let start = lowered.recording.dispatches.len();
        let mut plan = NodePlan {
            considered: decide_group(planner, live, index, &mut lowered.fused),
            ..NodePlan::default()
        };
        if let Some(unit) = Unit::at(planner, &lowered.fused, index) {
            lower_unit(planner, live, unit, &mut lowered.recording, &mut buffers, &mut plan)?;
            let sources = unit.sources(planner);
            lowered.recording.dispatches[start..]
                .iter_mut()
                .filter(|d| d.sources.is_empty())
                .for_each(|d| d.sources.clone_from(&sources));
        }
        plan.dispatches = start..lowered.recording.dispatches.len();
        lowered.plans.push(plan);
    }
    record_outputs(planner, live, &mut lowered.recording, &mut buffers);
    if planner.options.keep_values {
        lowered.values = buffers.values;
    } else {
        assign_slots(&mut lowered.recording, KEEP_APART);
    }
    Ok(lowered)
}

/// Records the work that stands at one node again, for integers that changed while sizes did not.
///
/// Buffers are numbered afresh: only shaders, parameters and grids compare with the full recording.
pub fn relower(
    planner: &Planner<'_>,
    live: &Live,
    lowered: &Lowered,
    index: usize,
) -> Result<Vec<Dispatch>, LowerError> {
    let mut recording = Recording::default();
    if let Some(unit) = Unit::at(planner, &lowered.fused, index) {
        lower_unit(planner, live, unit, &mut recording, &mut Buffers::default(), &mut NodePlan::default())?;
    }
    Ok(recording.dispatches)
}

/// What is lowered at one place: a node, or the group that ends there.
#[derive(Clone, Copy)]
enum Unit {
    Node(usize),
    Group { group: usize, last: usize },
}

impl Unit {
    /// None for a node that runs as part of a group which ends later.
    fn at(planner: &Planner<'_>, fused: &[bool], index: usize) -> Option<Self> {
        match planner.groups.of_node(index) {
            Some(group) if fused[group] => {
                let is_last = planner.groups.get(group).nodes().last() == Some(&index);
                is_last.then_some(Self::Group { group, last: index })
            }
            _ => Some(Self::Node(index)),
        }
    }

    /// Ids of the program's operators that are lowered here.
    fn sources(self, planner: &Planner<'_>) -> Vec<u32> {
        let nodes = match self {
            Self::Node(index) => vec![index],
            Self::Group { group, .. } => planner.groups.get(group).nodes(),
        };
        nodes.iter().flat_map(|&node| planner.graph.nodes[node].handles.clone()).collect()
    }
}

/// Decides, at the first node of a group, whether it runs fused.
fn decide_group(planner: &Planner<'_>, live: &Live, index: usize, fused: &mut [bool]) -> Vec<Considered> {
    let Some(number) = planner.groups.of_node(index) else { return Vec::new() };
    let group = planner.groups.get(number);
    let nodes = group.nodes();
    if nodes.first() != Some(&index) {
        return Vec::new();
    }
    let last = nodes.last().copied().unwrap_or(index);
    let cx = NodeCx { graph: planner.graph, live, index: last };
    let avoided = planner.avoids(group.name());
    let fit = if avoided { Err("switched off".into()) } else { group.fits(&cx, planner) };
    fused[number] = fit.is_ok();
    vec![Considered { route: group.name(), refusal: fit.err() }]
}

fn lower_unit(
    planner: &Planner<'_>,
    live: &Live,
    unit: Unit,
    recording: &mut Recording,
    buffers: &mut Buffers,
    plan: &mut NodePlan,
) -> Result<(), LowerError> {
    let (Unit::Node(index) | Unit::Group { last: index, .. }) = unit;
    let node = &planner.graph.nodes[index];
    let fail = |error| LowerError { node: index, op: node.op.clone(), error };
    let cx = NodeCx { graph: planner.graph, live, index };
    let mut lower = Lower {
        cx,
        planner,
        recording,
        buffers,
        considered: Vec::new(),
        follows_integers: false,
        route: None,
        alone: false,
    };
    let first = lower.recording.dispatches.len();
    match unit {
        Unit::Group { group, .. } => {
            let group = planner.groups.get(group);
            lower.route = Some(group.name());
            group.record(&mut lower)
        }
        Unit::Node(_) => record_node(&mut lower),
    }
    .map_err(fail)?;
    plan.considered.append(&mut lower.considered);
    plan.follows_integers = lower.follows_integers;
    for dispatch in &mut recording.dispatches[first..] {
        dispatch.is_patched = plan.follows_integers;
    }
    Ok(())
}

/// Records the node that `lower.cx` stands at, by itself.
pub(crate) fn record_node(lower: &mut Lower<'_>) -> Result<(), OpError> {
    let op = &lower.cx.node().op;
    let def = ops::find(op).ok_or_else(|| crate::unsupported!("no such operator in this delegate"))?;
    match def.body {
        Body::Scalar(_) => Ok(()),
        Body::Alias(_) if lower.planner.storage.is_aliased(lower.cx.index) => Ok(()),
        Body::Alias(_) => ops::copy::record_copy(lower),
        Body::Kernel { lower: record, .. } => record(lower),
    }
}

fn record_outputs(planner: &Planner<'_>, live: &Live, recording: &mut Recording, buffers: &mut Buffers) {
    for (position, &id) in planner.graph.outputs.iter().enumerate() {
        let Some(tensor) = planner.graph.tensor(id) else { continue };
        let dims = live.dims[id.index()].clone();
        let arg = TensorArg { id, dtype: tensor.dtype, dims };
        let buffer = buffers.of_tensor(planner, live, recording, &arg);
        recording.outputs.push(OutputCopy { output: position as u32, buffer, size: arg.bytes() });
    }
}
