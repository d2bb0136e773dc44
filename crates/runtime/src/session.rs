//! One loaded delegate, and its runs.

use std::sync::Arc;

use etwgpu_engine::{EngineError, Gpu, Patch, Prepared, RunStats, Span};
use etwgpu_graph::{Dims, ValueId, WeightSource, parse};
use etwgpu_kernels::live::{Dirty, Journal};
use etwgpu_kernels::lower::relower;
use etwgpu_kernels::{Live, LowerOptions, Lowered, lower};
use etwgpu_record::{BufferDesc, BufferId, Caps, Dispatch};

use crate::device;
use crate::host::{HostCall, Inputs, resize_outputs, set_integers, write_output};
use crate::knobs::Knobs;
use crate::load::{Model, analyse};
use crate::status::Error;
use crate::weights::Resident;

/// Sets of live sizes whose plans are kept: a decode step, a chunk or two, a few prompts.
const KEPT_PLANS: usize = 8;

/// One loaded delegate.
pub struct Session {
    gpu: Arc<Gpu>,
    /// The device as planning sees it for this delegate.
    caps: Caps,
    model: Model,
    options: LowerOptions,
    resident: Resident,
    live: Live,
    plans: Vec<Plan>,
    /// The plan of the last run.
    current: Option<usize>,
    runs: u64,
    inputs: Inputs,
}

/// What one timed run did.
pub struct Profile<'a> {
    /// The recording that ran.
    pub lowered: &'a Lowered,
    /// When each launch ran; empty where the device has no timestamps.
    pub spans: Vec<Span>,
    /// What the run did.
    pub stats: RunStats,
}

/// A recording for one set of live sizes.
struct Plan {
    dims: Vec<Dims>,
    ints: Vec<i64>,
    lowered: Lowered,
    prepared: Prepared,
    inputs: Vec<(ValueId, BufferId)>,
    /// Nodes to lower again when integers change.
    follows_integers: Vec<usize>,
    last_run: u64,
}

impl Session {
    /// Builds a delegate from its processed bytes and uploads its constants.
    pub fn load(processed: &[u8], knobs: &Knobs, source: &mut dyn WeightSource) -> Result<Self, Error> {
        let model = analyse(processed)?;
        let gpu = device::gpu(knobs)?;
        let caps = Caps { precision: knobs.precision()?, ..gpu.caps().clone() };
        let options = LowerOptions { prefer: knobs.list("prefer_routes"), avoid: knobs.list("avoid_routes") };
        let at_bound = lower(&model.planner(&caps, &options), &model.bound).map_err(Error::Lower)?;
        let section = parse(processed)?.constants;
        let resident = Resident::load(&gpu, &model.graph, section, &at_bound.recording, source)?;
        let (weights, states) = resident.bytes();
        log::info!(
            "loaded {} nodes as {} launches, {:.1} MB of weights, {:.1} MB of state",
            model.graph.nodes.len(),
            at_bound.recording.dispatches.len(),
            weights as f64 / 1e6,
            states as f64 / 1e6
        );
        Ok(Self {
            live: model.bound.clone(),
            inputs: Inputs::of(&model),
            gpu,
            caps,
            model,
            options,
            resident,
            plans: Vec::new(),
            current: None,
            runs: 0,
        })
    }

    /// Runs once. An error before the GPU starts leaves sizes, state and caches as they were.
    pub fn run(&mut self, host: &mut dyn HostCall) -> Result<RunStats, Error> {
        self.run_with(host, None).map(|(_, stats)| stats)
    }

    /// Runs once with every launch timed on the device.
    pub fn profile(&mut self, host: &mut dyn HostCall) -> Result<Profile<'_>, Error> {
        let mut spans = Vec::new();
        let (plan, stats) = self.run_with(host, Some(&mut spans))?;
        Ok(Profile { lowered: &self.plans[plan].lowered, spans, stats })
    }

    fn run_with(
        &mut self,
        host: &mut dyn HostCall,
        spans: Option<&mut Vec<Span>>,
    ) -> Result<(usize, RunStats), Error> {
        let graph = &self.model.graph;
        let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
        if host.len() != inputs + outputs {
            return Err(Error::Argument(format!(
                "{} arguments for a delegate of {inputs} inputs and {outputs} outputs",
                host.len()
            )));
        }
        let mut journal = Journal::default();
        let plan = self.plan_for(host, &mut journal);
        let index = match plan {
            Ok(index) => index,
            Err(error) => {
                journal.undo(&mut self.live);
                return Err(error);
            }
        };
        let stats = self.run_plan(index, host, spans)?;
        set_integers(&self.model.graph, &self.live, host);
        Ok((index, stats))
    }

    /// Takes over live sizes and integers, and finds or makes the plan for them.
    fn plan_for(&mut self, host: &mut dyn HostCall, journal: &mut Journal) -> Result<usize, Error> {
        let graph = &self.model.graph;
        // Before the first run the integers are those of the bound, not of any host.
        let dirty = if self.runs == 0 { Dirty::all(graph) } else { Dirty::none(graph) };
        self.inputs.take(graph, host, &mut self.live, dirty, journal)?;
        self.inputs.check_rows(graph, host)?;
        resize_outputs(graph, &self.live, host)?;
        self.runs += 1;
        let current = if journal.resized() { None } else { self.current };
        let kept = current.or_else(|| self.plans.iter().position(|plan| plan.dims == self.live.dims));
        let index = match kept {
            Some(index) if self.refresh(index)? => index,
            Some(index) => {
                self.plans.remove(index);
                self.add_plan()?
            }
            None => self.add_plan()?,
        };
        self.plans[index].last_run = self.runs;
        self.current = Some(index);
        Ok(index)
    }

    /// Updates a kept plan for integers that changed; false when the work itself would be different.
    fn refresh(&mut self, index: usize) -> Result<bool, Error> {
        let (live, plan) = (&self.live, &mut self.plans[index]);
        if plan.ints == live.ints {
            return Ok(true);
        }
        // Until every parameter is rewritten the plan belongs to no set of integers.
        plan.ints.clear();
        plan.prepared.set_integers(|value| live.ints[value as usize]);
        let planner = self.model.planner(&self.caps, &self.options);
        for &node in &plan.follows_integers {
            let dispatches = relower(&planner, live, &plan.lowered, node).map_err(Error::LowerLive)?;
            let range = plan.lowered.plans[node].dispatches.clone();
            if !same_work(&dispatches, &plan.lowered.recording.dispatches[range.clone()]) {
                return Ok(false);
            }
            for (dispatch, new) in range.zip(&dispatches) {
                plan.prepared.patch(&Patch { dispatch, params: &new.params, grid: new.grid });
            }
        }
        plan.ints.clone_from(&live.ints);
        Ok(true)
    }

    fn add_plan(&mut self) -> Result<usize, Error> {
        self.current = None;
        if self.plans.len() >= KEPT_PLANS {
            let oldest = (0..self.plans.len()).min_by_key(|&i| self.plans[i].last_run);
            self.plans.remove(oldest.unwrap_or(0));
        }
        let live = &self.live;
        let planner = self.model.planner(&self.caps, &self.options);
        let lowered = lower(&planner, live).map_err(Error::LowerLive)?;
        let resident = |desc: &BufferDesc| self.resident.get(desc);
        let prepared = Prepared::new(&self.gpu, &lowered.recording, &resident)?;
        let inputs = lowered.recording.buffers.iter().zip(0..).filter_map(|(desc, id)| match desc {
            BufferDesc::Input { value, .. } => Some((ValueId(*value), BufferId(id))),
            _ => None,
        });
        let inputs = inputs.collect();
        let follows_integers =
            (0..lowered.plans.len()).filter(|&i| lowered.plans[i].follows_integers).collect();
        let (dims, ints) = (live.dims.clone(), live.ints.clone());
        self.plans.push(Plan {
            dims,
            ints,
            lowered,
            prepared,
            inputs,
            follows_integers,
            last_run: self.runs,
        });
        Ok(self.plans.len() - 1)
    }

    fn run_plan(
        &mut self,
        index: usize,
        host: &mut dyn HostCall,
        spans: Option<&mut Vec<Span>>,
    ) -> Result<RunStats, Error> {
        let graph = &self.model.graph;
        let plan = &mut self.plans[index];
        self.inputs.stage(graph, host)?;
        let mut uploads: Vec<(BufferId, &[u8])> = Vec::with_capacity(plan.inputs.len());
        for &(id, buffer) in &plan.inputs {
            let position = graph.inputs.iter().position(|&i| i == id);
            let position = position.ok_or_else(|| Error::Internal(format!("%{} is no input", id.0)))?;
            uploads.push((buffer, self.inputs.staged(position)));
        }
        let copies = &plan.lowered.recording.outputs;
        let mut failure = None;
        let mut sink = |position: usize, bytes: &[u8]| {
            let output = copies[position].output as usize;
            if let Err(error) = write_output(graph, host, output, bytes) {
                failure.get_or_insert(error);
            }
            Ok::<(), EngineError>(())
        };
        let stats = plan.prepared.run(&self.gpu, &uploads, &mut sink, spans)?;
        failure.map_or(Ok(stats), Err)
    }
}

/// Whether launches differ in parameters and grids alone.
fn same_work(new: &[Dispatch], old: &[Dispatch]) -> bool {
    let same = |(n, o): (&Dispatch, &Dispatch)| {
        let bindings = n.bindings.iter().zip(&o.bindings);
        n.shader == o.shader
            && n.params.len() == o.params.len()
            && bindings.clone().all(|(a, b)| (a.offset, a.size) == (b.offset, b.size))
    };
    new.len() == old.len() && new.iter().zip(old).all(same)
}
