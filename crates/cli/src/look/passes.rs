//! What the rewrites of a graph and its fusions did.

use std::fmt::Write as _;

use anyhow::Result;
use etwgpu_graph::{Graph, decode, parse};
use etwgpu_kernels::Lowered;
use etwgpu_kernels::fuse::Groups;
use etwgpu_kernels::passes::{PASSES, Pass, PassOptions};
use serde::Serialize;

/// What one rewrite did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassReport {
    /// Its name.
    pub name: &'static str,
    /// Nodes before.
    pub nodes_before: usize,
    /// Nodes after.
    pub nodes_after: usize,
    /// What it says of its work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What became of a group of nodes that one kernel might run together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FusionReport {
    /// Name of the fusion.
    pub name: &'static str,
    /// Its nodes; of a group that cannot be used, the last.
    pub nodes: Vec<usize>,
    /// Why it does not run fused.
    pub refusal: Option<String>,
}

impl PassReport {
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}: {} nodes became {}\n", self.name, self.nodes_before, self.nodes_after);
        self.notes.iter().for_each(|note| text += &format!("  {note}\n"));
        text
    }
}

impl FusionReport {
    pub(super) fn text(&self) -> String {
        let mut text = self.name.to_owned();
        for node in &self.nodes {
            let _ = write!(text, " #{node}");
        }
        match &self.refusal {
            None => text + ": fused\n",
            Some(why) => format!("{text}: not fused, {why}\n"),
        }
    }
}

/// Runs every rewrite that is wanted, in order.
pub(super) fn run(graph: &mut Graph, options: &PassOptions) -> Vec<PassReport> {
    let report = |pass: &Pass| {
        let nodes_before = graph.nodes.len();
        let notes = (pass.run)(graph);
        PassReport { name: pass.name, nodes_before, nodes_after: graph.nodes.len(), notes }
    };
    PASSES.iter().filter(|pass| (pass.wanted)(options)).map(report).collect()
}

/// What the rewrites do to a delegate.
pub(super) fn of(processed: &[u8], options: &PassOptions) -> Result<Vec<PassReport>> {
    Ok(run(&mut decode(&parse(processed)?)?, options))
}

/// The groups found in a graph, in order, and those that were found but cannot be used.
pub(super) fn fusions(groups: &Groups, lowered: &Lowered) -> Vec<FusionReport> {
    let found = (0..groups.len()).map(|number| {
        let group = groups.get(number);
        let nodes = group.nodes();
        // The decision stands at the first node, ahead of that node's own routes.
        let first = nodes.first().and_then(|&first| lowered.plans.get(first));
        let considered = first.and_then(|plan| plan.considered.iter().find(|c| c.route == group.name()));
        let refusal = considered.and_then(|c| c.refusal.as_ref()).map(ToString::to_string);
        FusionReport { name: group.name(), nodes, refusal }
    });
    let mut reports: Vec<_> = found.collect();
    reports.sort_by(|a, b| a.nodes.cmp(&b.nodes));
    let rejected = groups.rejected.iter();
    reports.extend(rejected.map(|rejected| FusionReport {
        name: rejected.name,
        nodes: vec![rejected.node],
        refusal: Some(rejected.reason.clone()),
    }));
    reports
}
