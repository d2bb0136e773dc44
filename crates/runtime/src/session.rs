//! One loaded delegate, and its runs.

use std::sync::{Arc, Once};
use std::thread;

use etwgpu_engine::{EngineError, Gpu, Patch, Phase, Prepared, RunStats, Timing, Trace};
use etwgpu_graph::{Dims, WeightSource, parse};
use etwgpu_kernels::live::{Dirty, Journal};
use etwgpu_kernels::lower::relower;
use etwgpu_kernels::{Live, LowerOptions, Lowered, lower};
use etwgpu_record::{BufferDesc, BufferId, Caps, Dispatch, Recording, Totals};

use crate::device;
use crate::host::{HostCall, Inputs, resize_outputs, set_integers, write_output};
use crate::knobs::Knobs;
use crate::load::{Model, analyse};
use crate::observe::{Values, spans, summary};
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
    /// Whether `run` times every launch.
    timed: bool,
}

/// What one timed run did.
pub struct Profile {
    /// The recording that ran, with the work of its launches counted at the live integers.
    pub lowered: Lowered,
    /// When its phases and launches ran; no launches where the device has no timestamps.
    pub trace: Trace,
    /// What the run did.
    pub stats: RunStats,
}

/// Device memory of a loaded delegate, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Constants.
    pub weights: u64,
    /// What the program keeps between runs, such as KV caches.
    pub states: u64,
    /// Plans that are kept, each for its live sizes; all that follows is the sum over them.
    pub plans: usize,
    /// Host inputs.
    pub inputs: u64,
    /// Temporaries.
    pub scratch: u64,
    /// Parameters of launches.
    pub parameters: u64,
    /// Outputs on their way to the host.
    pub staging: u64,
    /// Pipelines of the device, which all delegates share; drivers do not tell their bytes.
    pub pipelines: usize,
}

/// A recording for one set of live sizes.
struct Plan {
    dims: Vec<Dims>,
    ints: Vec<i64>,
    /// Whether all temporaries can be read after a run.
    keeps_values: bool,
    lowered: Lowered,
    prepared: Prepared,
    /// Positions among the delegate's inputs, and where they go.
    inputs: Vec<(usize, BufferId)>,
    /// Nodes to lower again when integers change.
    follows_integers: Vec<usize>,
    last_run: u64,
}

impl Session {
    /// Builds a delegate from its processed bytes and uploads its constants.
    pub fn load(processed: &[u8], knobs: &Knobs, source: &mut dyn WeightSource) -> Result<Self, Error> {
        let model = analyse(processed, &knobs.passes())?;
        let gpu = device::gpu(knobs)?;
        let caps = Caps { precision: knobs.precision()?, ..gpu.caps().clone() };
        model.check_device(&caps)?;
        let options = LowerOptions {
            prefer: knobs.list("prefer_routes"),
            avoid: knobs.list("avoid_routes"),
            keep_values: false,
        };
        let timed = knobs.is_on("timestamp_query");
        if timed && !caps.timestamps {
            warn_untimed(&caps);
        }
        let at_bound = lower(&model.planner(&caps, &options), &model.bound).map_err(Error::Lower)?;
        let section = parse(processed)?.constants;
        if let Some(folder) = knobs.path("cache_dir") {
            gpu.keep_pipelines_in(folder);
        }
        let single = model.single().and_then(|live| lower(&model.planner(&caps, &options), &live).ok());
        let resident = thread::scope(|scope| {
            // Shaders of likely runs are compiled while the weights are on their way.
            let likely = [Some(&at_bound), single.as_ref()].into_iter().flatten();
            let dispatches = likely.flat_map(|lowered| &lowered.recording.dispatches);
            let compiler = scope.spawn(|| gpu.compile(dispatches));
            let resident = Resident::load(&gpu, &model.graph, section, &at_bound.recording, source);
            // What does not compile is reported by the run that needs it.
            drop(compiler.join());
            resident
        })?;
        let (weights, states) = resident.bytes();
        log::info!(
            "loaded {} nodes as {} launches, {:.1} MB of weights, {:.1} MB of state",
            model.graph.nodes.len(),
            at_bound.recording.dispatches.len(),
            weights as f64 / 1e6,
            states as f64 / 1e6
        );
        model.notes.iter().for_each(|note| log::info!("{note}"));
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
            timed,
        })
    }

    /// Device memory as it is now.
    pub fn memory(&self) -> Memory {
        let (weights, states) = self.resident.bytes();
        let pipelines = self.gpu.pipeline_count();
        let mut memory = Memory { weights, states, plans: self.plans.len(), pipelines, ..Memory::default() };
        for plan in &self.plans {
            let totals = Totals::of(&plan.lowered.recording);
            let own = plan.prepared.memory();
            memory.inputs += totals.input_bytes;
            memory.scratch += totals.temp_bytes;
            memory.parameters += own.parameters;
            memory.staging += own.staging;
        }
        memory
    }

    /// Runs once. An error before the GPU starts leaves sizes, state and caches as they were.
    pub fn run(&mut self, host: &mut dyn HostCall) -> Result<RunStats, Error> {
        let watch = host.watch();
        // A run whose values are watched is not the one of production, and Inspector would take a kernel's event for the
        // value of its operator.
        let timing = if self.timed && !watch.values { Timing::Launches } else { Timing::Off };
        let mut trace = Trace::new(timing, watch.spans);
        let (plan, stats) = self.run_with(host, &mut trace, watch.values)?;
        if watch.spans {
            // Counts of work at the live integers cost a lowering, which phases alone do not need.
            let is_timed = !trace.spans.is_empty();
            let recording = if is_timed { self.lowered_now(plan)?.recording } else { Recording::default() };
            spans(&trace, &recording).iter().for_each(|span| host.span(span));
        } else if !trace.spans.is_empty() {
            log::info!("{}", summary(&trace, &self.plans[plan].lowered.recording));
        }
        if watch.values {
            let Plan { lowered, prepared, .. } = &self.plans[plan];
            let Model { graph, storage, .. } = &self.model;
            let values = Values { graph, storage, live: &self.live, lowered };
            values.hand_over(&self.gpu, prepared, host)?;
        }
        Ok(stats)
    }

    /// Runs once with the device timed, and its phases.
    pub fn profile(&mut self, host: &mut dyn HostCall, timing: Timing) -> Result<Profile, Error> {
        let mut trace = Trace::new(timing, true);
        let (plan, stats) = self.run_with(host, &mut trace, false)?;
        Ok(Profile { lowered: self.lowered_now(plan)?, trace, stats })
    }

    /// Runs once like [`Session::profile`], without the recording: lowering it takes as long as some runs.
    pub fn trace(&mut self, host: &mut dyn HostCall, timing: Timing) -> Result<Trace, Error> {
        let mut trace = Trace::new(timing, true);
        self.run_with(host, &mut trace, false)?;
        Ok(trace)
    }

    /// A plan's recording with parameters, grids and counts of work at the live integers, which the plan itself may
    /// have been made before.
    fn lowered_now(&self, plan: usize) -> Result<Lowered, Error> {
        let options = self.options(self.plans[plan].keeps_values);
        lower(&self.model.planner(&self.caps, &options), &self.live).map_err(Error::LowerLive)
    }

    fn options(&self, keep_values: bool) -> LowerOptions {
        LowerOptions { keep_values, ..self.options.clone() }
    }

    fn run_with(
        &mut self,
        host: &mut dyn HostCall,
        trace: &mut Trace,
        keep_values: bool,
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
        let plan = self.plan_for(host, &mut journal, keep_values);
        let index = match plan {
            Ok(index) => index,
            Err(error) => {
                journal.undo(&mut self.live);
                return Err(error);
            }
        };
        trace.end(Phase::Plan);
        let stats = self.run_plan(index, host, trace)?;
        set_integers(&self.model.graph, &self.live, host);
        Ok((index, stats))
    }

    /// Takes over live sizes and integers, and finds or makes the plan for them.
    fn plan_for(
        &mut self,
        host: &mut dyn HostCall,
        journal: &mut Journal,
        keep_values: bool,
    ) -> Result<usize, Error> {
        let graph = &self.model.graph;
        // Before the first run the integers are those of the bound, not of any host.
        let dirty = if self.runs == 0 { Dirty::all(graph) } else { Dirty::none() };
        self.inputs.take(graph, host, &mut self.live, dirty, journal)?;
        self.inputs.check_rows(graph, host)?;
        resize_outputs(graph, &self.live, host)?;
        self.runs += 1;
        let current = if journal.resized() { None } else { self.current };
        let current = current.filter(|&index| self.plans[index].keeps_values == keep_values);
        let fits = |plan: &Plan| plan.keeps_values == keep_values && plan.dims == self.live.dims;
        let kept = current.or_else(|| self.plans.iter().position(fits));
        let index = match kept {
            Some(index) if self.refresh(index)? => index,
            Some(index) => {
                self.plans.remove(index);
                self.add_plan(keep_values)?
            }
            None => self.add_plan(keep_values)?,
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
                plan.prepared.patch(&Patch { dispatch, params: &new.params, grid: new.grid })?;
            }
        }
        plan.ints.clone_from(&live.ints);
        Ok(true)
    }

    fn add_plan(&mut self, keep_values: bool) -> Result<usize, Error> {
        self.current = None;
        if self.plans.len() >= KEPT_PLANS {
            let oldest = (0..self.plans.len()).min_by_key(|&i| self.plans[i].last_run);
            self.plans.remove(oldest.unwrap_or(0));
        }
        let live = &self.live;
        let options = self.options(keep_values);
        let lowered = lower(&self.model.planner(&self.caps, &options), live).map_err(Error::LowerLive)?;
        let resident = |desc: &BufferDesc| self.resident.get(desc);
        let prepared = Prepared::new(&self.gpu, &lowered.recording, &resident)?;
        let inputs = lowered.recording.buffers.iter().zip(0..).filter_map(|(desc, id)| match desc {
            BufferDesc::Input { value, .. } => {
                let position = self.model.graph.inputs.iter().position(|input| input.0 == *value);
                let position = position.ok_or_else(|| Error::Internal(format!("%{value} is no input")));
                Some(position.map(|position| (position, BufferId(id))))
            }
            _ => None,
        });
        let inputs = inputs.collect::<Result<_, _>>()?;
        let follows_integers =
            (0..lowered.plans.len()).filter(|&i| lowered.plans[i].follows_integers).collect();
        let (dims, ints) = (live.dims.clone(), live.ints.clone());
        self.plans.push(Plan {
            dims,
            ints,
            keeps_values: keep_values,
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
        trace: &mut Trace,
    ) -> Result<RunStats, Error> {
        let graph = &self.model.graph;
        let plan = &mut self.plans[index];
        self.inputs.stage(graph, host)?;
        let upload = |&(position, buffer): &(usize, BufferId)| (buffer, self.inputs.staged(position));
        let uploads: Vec<(BufferId, &[u8])> = plan.inputs.iter().map(upload).collect();
        let copies = &plan.lowered.recording.outputs;
        let mut failure = None;
        let mut sink = |position: usize, bytes: &[u8]| {
            let output = copies[position].output as usize;
            if let Err(error) = write_output(graph, host, output, bytes) {
                failure.get_or_insert(error);
            }
            Ok::<(), EngineError>(())
        };
        let stats = plan.prepared.run(&self.gpu, &uploads, &mut sink, trace)?;
        failure.map_or(Ok(stats), Err)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.gpu.finish_keeping_pipelines();
    }
}

/// Says once in a process that kernels cannot be timed here.
fn warn_untimed(caps: &Caps) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| log::warn!("timestamp_query has no effect: {} has no timestamps", caps.name));
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
