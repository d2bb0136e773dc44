//! Why the plan of a delegate is what it is.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use etwgpu_graph::{Graph, Value, ValueId};
use etwgpu_kernels::lower::{Lowered, NodePlan};
use etwgpu_kernels::ops;
use etwgpu_kernels::{Body, Live, lower};
use etwgpu_record::Totals;
use etwgpu_runtime::{Model, analyse};
use serde::{Serialize, Serializer};

use super::device::Device;
use super::passes::{self, FusionReport, PassReport};
use super::sizes::{self, is_integer_input};
use super::target::{Sizes, Target};
use crate::pte::Delegate;

/// The plan of one delegate and its reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Device that it is for.
    pub device: String,
    /// Inputs at their live sizes.
    pub inputs: Vec<String>,
    /// Rewrites of the graph.
    pub passes: Vec<PassReport>,
    /// Groups of nodes that may run together.
    pub fusions: Vec<FusionReport>,
    /// Nodes in order.
    pub steps: Vec<Step>,
    /// Sums over the recording.
    #[serde(serialize_with = "by_name")]
    pub totals: Totals,
}

/// The plan of one node.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Operator name.
    pub op: String,
    /// Debug handles of the source operators that it stands for.
    pub handles: Vec<u32>,
    /// Outputs at their live sizes.
    pub outputs: Vec<String>,
    /// Why it has no launches, if it has none.
    pub without_work: Option<String>,
    /// Routes taken, where there was a choice; several for operators made of several parts.
    pub routes: Vec<&'static str>,
    /// Routes that were considered before those, and did not fit.
    pub refusals: Vec<Refused>,
    /// Kernel and grid of each launch.
    pub launches: Vec<Launch>,
    /// Whether it is planned again when a symbolic integer changes.
    pub follows_integers: bool,
    /// Bytes that it must move at least.
    pub bytes: u64,
    /// Arithmetic operations.
    pub operations: u64,
}

/// A route that was not taken.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// Its name.
    pub route: &'static str,
    /// Why not.
    pub reason: String,
}

/// One launch.
#[derive(Clone, Debug, Serialize)]
pub struct Launch {
    /// Kernel.
    pub kernel: &'static str,
    /// Workgroups.
    pub grid: [u32; 3],
}

/// Explains the chosen delegates.
pub(super) fn explain(target: &Target, as_json: bool, out: &mut String) -> Result<()> {
    let pte = target.open()?;
    let program = pte.program()?;
    let mut reports = Vec::new();
    for chosen in target.choose(&program)? {
        let (method, position, backend) = (chosen.method, chosen.position, chosen.delegate.id);
        if !chosen.is_ours() {
            if !as_json {
                let _ = writeln!(out, "== {}: {backend}, of another backend", chosen.place());
            }
            continue;
        }
        let device = Device::choose(target.caps.as_ref(), chosen.delegate);
        let report = device.and_then(|device| report(chosen.delegate, &device, &target.sizes));
        let report = report.with_context(|| chosen.place())?;
        if as_json {
            let mut value = serde_json::to_value(&report)?;
            value["method"] = method.into();
            value["delegate"] = position.into();
            value["backend"] = backend.into();
            reports.push(value);
        } else {
            let _ = write!(out, "== {}: {backend}\n{}", chosen.place(), report.text());
        }
    }
    if as_json {
        let value = serde_json::json!({ "model": target.name(), "delegates": reports });
        let _ = writeln!(out, "{value:#}");
    }
    Ok(())
}

/// Plans a delegate and says why the plan is what it is.
pub fn report(delegate: &Delegate<'_>, device: &Device, sizes: &Sizes) -> Result<Report> {
    let Device { caps, options, passes: wanted } = device;
    let passes = passes::of(delegate.processed, wanted)?;
    let model = analyse(delegate.processed, wanted)?;
    model.check_device(caps)?;
    let live = sizes::live(&model, sizes)?;
    let lowered = lower(&model.planner(caps, options), &live)?;
    let steps = (0..model.graph.nodes.len()).map(|index| step(&model, &live, &lowered, index));
    Ok(Report {
        device: caps.name.clone(),
        inputs: model.graph.inputs.iter().map(|&id| input(&model.graph, &live, id)).collect(),
        passes,
        fusions: passes::fusions(&model.groups, &lowered),
        steps: steps.collect(),
        totals: Totals::of(&lowered.recording),
    })
}

fn step(model: &Model, live: &Live, lowered: &Lowered, index: usize) -> Step {
    let node = &model.graph.nodes[index];
    let NodePlan { dispatches, considered, follows_integers } = &lowered.plans[index];
    let dispatches = &lowered.recording.dispatches[dispatches.clone()];
    let refusal = |c: &etwgpu_kernels::route::Considered| {
        c.refusal.as_ref().map(|why| Refused { route: c.route, reason: why.to_string() })
    };
    let launches = dispatches.iter().map(|d| Launch { kernel: d.shader.label, grid: d.grid });
    Step {
        op: node.op.clone(),
        handles: node.handles.clone(),
        outputs: node.outs.iter().map(|&id| value(&model.graph, live, id)).collect(),
        without_work: dispatches.is_empty().then(|| without_work(model, lowered, index)),
        routes: considered.iter().filter(|c| c.refusal.is_none()).map(|c| c.route).collect(),
        refusals: considered.iter().filter_map(refusal).collect(),
        launches: launches.collect(),
        follows_integers: *follows_integers,
        bytes: dispatches.iter().map(|d| d.bytes).sum(),
        operations: dispatches.iter().map(|d| d.ops).sum(),
    }
}

fn without_work(model: &Model, lowered: &Lowered, index: usize) -> String {
    let fused = model.groups.of_node(index).filter(|&group| lowered.fused[group]);
    if let Some(group) = fused.map(|group| model.groups.get(group)) {
        return format!("part of {} at #{}", group.name(), group.nodes().last().unwrap_or(&index));
    }
    let reason = match ops::find(&model.graph.nodes[index].op).map(|def| def.body) {
        Some(Body::Scalar(_)) => "computed on the host",
        Some(Body::Alias(_)) if model.storage.is_aliased(index) => "shares its argument's memory",
        _ => "nothing to do at these sizes",
    };
    reason.to_owned()
}

/// A value at its live size, such as `%3:f32[1,5]`.
fn value(graph: &Graph, live: &Live, id: ValueId) -> String {
    match graph.value(id) {
        Value::Tensor(tensor) => {
            let dims: Vec<String> = live.dims[id.index()].iter().map(u32::to_string).collect();
            format!("%{}:{}[{}]", id.0, format!("{:?}", tensor.dtype).to_lowercase(), dims.join(","))
        }
        Value::SymInt => format!("%{} = {}", id.0, live.ints[id.index()]),
        other => format!("%{}:{other:?}", id.0),
    }
}

/// An input at its live size, with the elements that integers are read from.
pub(crate) fn input(graph: &Graph, live: &Live, id: ValueId) -> String {
    let text = value(graph, live, id);
    match (graph.tensor(id), live.host.get(&id)) {
        (Some(_), Some(elements)) => format!("{text} = {:?}", &elements[..elements.len().min(8)]),
        (Some(_), None) if is_integer_input(graph, id) => format!("{text} = 0"),
        _ => text,
    }
}

fn by_name<S: Serializer>(totals: &Totals, serializer: S) -> Result<S::Ok, S::Error> {
    let value = serde_json::json!({
        "dispatches": totals.dispatches,
        "shaders": totals.shaders,
        "barriers": totals.barriers,
        "temp_bytes": totals.temp_bytes,
        "weight_bytes": totals.weight_bytes,
        "state_bytes": totals.state_bytes,
        "input_bytes": totals.input_bytes,
        "output_bytes": totals.output_bytes,
        "moved_bytes": totals.moved_bytes,
        "operations": totals.ops,
    });
    value.serialize(serializer)
}

impl Report {
    /// The report for reading.
    pub fn text(&self) -> String {
        let mut text = format!("for {}\n", self.device);
        for (position, input) in self.inputs.iter().enumerate() {
            let _ = writeln!(text, "input{position} {input}");
        }
        text.push_str("passes\n");
        for pass in &self.passes {
            text.push_str(&pass.text());
        }
        text.push_str("fusions\n");
        for fusion in &self.fusions {
            text.push_str(&fusion.text());
        }
        text.push_str("steps\n");
        for (index, step) in self.steps.iter().enumerate() {
            step.write(index, &mut text);
        }
        let _ = write!(text, "totals\n{}", self.totals);
        text
    }
}

impl Step {
    fn write(&self, index: usize, text: &mut String) {
        let _ =
            writeln!(text, "#{index} {} handles {:?} -> {}", self.op, self.handles, self.outputs.join(", "));
        if let Some(why) = &self.without_work {
            let _ = writeln!(text, "  no work: {why}");
        }
        for Refused { route, reason } in &self.refusals {
            let _ = writeln!(text, "  not {route}: {reason}");
        }
        for route in &self.routes {
            let _ = writeln!(text, "  route {route}");
        }
        for Launch { kernel, grid: [x, y, z] } in &self.launches {
            let _ = writeln!(text, "  launch {kernel} [{x},{y},{z}]");
        }
        if self.follows_integers {
            text.push_str("  planned again when an integer changes\n");
        }
        if !self.launches.is_empty() {
            let _ = writeln!(text, "  work {} bytes, {} ops", self.bytes, self.operations);
        }
    }
}
