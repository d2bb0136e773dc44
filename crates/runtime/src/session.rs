//! One loaded delegate, and its runs.

use std::sync::Arc;

use etwgpu_engine::{EngineError, Gpu, Patch, Prepared, RunStats, Span};
use etwgpu_graph::{Dims, Graph, Value, ValueId, WeightSource, parse};
use etwgpu_kernels::live::{Dirty, Journal, propagate};
use etwgpu_kernels::lower::relower;
use etwgpu_kernels::{Live, LowerOptions, Lowered, lower};
use etwgpu_record::{BufferDesc, BufferId, Caps, Dispatch};

use crate::convert::{HostType, integers, to_gpu, to_host};
use crate::device;
use crate::knobs::Knobs;
use crate::load::{Model, analyse};
use crate::status::Error;
use crate::weights::Resident;

/// Sets of live sizes whose plans are kept: a decode step, a chunk or two, a few prompts.
const KEPT_PLANS: usize = 8;

/// An argument as the host passes it.
pub enum HostArg<'a> {
    /// A contiguous tensor.
    Tensor {
        /// ExecuTorch `ScalarType`.
        scalar_type: i8,
        /// Sizes, outermost first.
        sizes: &'a [i32],
        /// Elements.
        data: &'a mut [u8],
    },
    /// An integer.
    Int(i64),
    /// Anything else.
    Other,
}

/// The arguments of one run: inputs, then outputs.
pub trait HostCall {
    /// Number of arguments.
    fn len(&self) -> usize;
    /// Whether there are no arguments.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Argument `index`.
    fn arg(&mut self, index: usize) -> HostArg<'_>;
    /// Gives output `index` these sizes; false when the host refuses.
    fn resize(&mut self, index: usize, sizes: &[i32]) -> bool;
    /// Stores an integer into output `index`.
    fn set_int(&mut self, index: usize, value: i64);
}

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
    /// Inputs that symbolic integers are read from.
    integer_inputs: Vec<ValueId>,
    /// Inputs that pick rows of a table, with the table's size.
    row_inputs: Vec<(ValueId, u32)>,
    scratch: Vec<Vec<u8>>,
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
        let at_bound = lower(&model.planner(&caps, &options), &model.bound)?;
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
            integer_inputs: integer_inputs(&model.graph),
            row_inputs: row_inputs(&model),
            scratch: vec![Vec::new(); model.graph.inputs.len()],
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
        self.set_integers(host);
        Ok((index, stats))
    }

    /// Takes over live sizes and integers, and finds or makes the plan for them.
    fn plan_for(&mut self, host: &mut dyn HostCall, journal: &mut Journal) -> Result<usize, Error> {
        self.take_inputs(host, journal)?;
        self.check_rows(host)?;
        resize_outputs(&self.model.graph, &self.live, host)?;
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

    /// Reads sizes and integers of the host's inputs and propagates what changed.
    fn take_inputs(&mut self, host: &mut dyn HostCall, journal: &mut Journal) -> Result<(), Error> {
        let graph = &self.model.graph;
        let live = &mut self.live;
        // Before the first run the integers are those of the bound, not of any host.
        let mut dirty = if self.runs == 0 { Dirty::all(graph) } else { Dirty::none(graph) };
        for (index, &id) in graph.inputs.iter().enumerate() {
            match (graph.value(id), host.arg(index)) {
                (Value::Tensor(tensor), HostArg::Tensor { sizes, scalar_type, data }) => {
                    let dims = checked_dims(index, sizes, &tensor.dims)?;
                    let host_type = HostType::of(scalar_type)?;
                    let count: usize = dims.iter().map(|&d| d as usize).product();
                    if data.len() < count * host_type.size() {
                        return Err(Error::Argument(format!(
                            "input {index} holds {} bytes, its sizes ask for more",
                            data.len()
                        )));
                    }
                    if live.dims[id.index()] != dims {
                        journal.set_dims(live, id, dims);
                        dirty.mark(id);
                    }
                    if self.integer_inputs.contains(&id) {
                        let values = integers(host_type, data)?;
                        if live.host.get(&id) != Some(&values) {
                            journal.set_host(live, id, values);
                            dirty.mark(id);
                        }
                    }
                }
                (Value::SymInt, arg) => {
                    let value = integer_of(index, arg)?;
                    if live.ints[id.index()] != value {
                        journal.set_int(live, id, value);
                        dirty.mark(id);
                    }
                }
                (Value::Tensor(_), _) => {
                    return Err(Error::Argument(format!("input {index} must be a tensor")));
                }
                (_, _) => {}
            }
        }
        if dirty.any() {
            propagate(graph, live, dirty, journal).map_err(Error::Live)?;
        }
        Ok(())
    }

    /// Row numbers that the host passes must exist: the GPU could only clamp them.
    fn check_rows(&self, host: &mut dyn HostCall) -> Result<(), Error> {
        for &(id, rows) in &self.row_inputs {
            let Some(index) = self.model.graph.inputs.iter().position(|&i| i == id) else { continue };
            if let HostArg::Tensor { scalar_type, data, .. } = host.arg(index) {
                for value in integers(HostType::of(scalar_type)?, data)? {
                    if value < 0 || value >= i64::from(rows) {
                        return Err(Error::Argument(format!(
                            "input {index}: row {value} is outside an embedding table of {rows} rows"
                        )));
                    }
                }
            }
        }
        Ok(())
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
            let dispatches = relower(&planner, live, &plan.lowered, node)?;
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
        let lowered = lower(&planner, live)?;
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
        for (position, &id) in graph.inputs.iter().enumerate() {
            let Some(tensor) = graph.tensor(id) else { continue };
            let HostArg::Tensor { scalar_type, data, .. } = host.arg(position) else { continue };
            let host_type = HostType::of(scalar_type)?;
            let scratch = &mut self.scratch[position];
            if host_type.is(tensor.dtype) {
                scratch.clear();
                scratch.extend_from_slice(data);
            } else {
                to_gpu(host_type, data, tensor.dtype, scratch).map_err(|e| at_input(position, e))?;
            }
        }
        let mut uploads: Vec<(BufferId, &[u8])> = Vec::with_capacity(plan.inputs.len());
        for &(id, buffer) in &plan.inputs {
            let position = graph.inputs.iter().position(|&i| i == id);
            let position = position.ok_or_else(|| Error::Internal(format!("%{} is no input", id.0)))?;
            uploads.push((buffer, &self.scratch[position]));
        }
        let copies = &plan.lowered.recording.outputs;
        let inputs = graph.inputs.len();
        let mut failure = None;
        let mut sink = |position: usize, bytes: &[u8]| {
            let output = copies[position].output as usize;
            if let Err(error) = write_output(graph, host, inputs, output, bytes) {
                failure.get_or_insert(error);
            }
            Ok::<(), EngineError>(())
        };
        let stats = plan.prepared.run(&self.gpu, &uploads, &mut sink, spans)?;
        failure.map_or(Ok(stats), Err)
    }

    /// Hands symbolic integers back to the host.
    fn set_integers(&self, host: &mut dyn HostCall) {
        let graph = &self.model.graph;
        for (position, &id) in graph.outputs.iter().enumerate() {
            let value = match graph.value(id) {
                Value::SymInt => self.live.ints[id.index()],
                Value::Int(value) => *value,
                _ => continue,
            };
            let index = graph.inputs.len() + position;
            if let HostArg::Tensor { data, .. } = host.arg(index) {
                let bytes = value.to_le_bytes();
                let count = data.len().min(bytes.len());
                data[..count].copy_from_slice(&bytes[..count]);
            } else {
                host.set_int(index, value);
            }
        }
    }
}

fn at_input(index: usize, error: Error) -> Error {
    match error {
        Error::Argument(text) => Error::Argument(format!("input {index}: {text}")),
        Error::Type(text) => Error::Type(format!("input {index}: {text}")),
        other => other,
    }
}

fn checked_dims(index: usize, sizes: &[i32], bound: &Dims) -> Result<Dims, Error> {
    if sizes.len() != bound.len() {
        return Err(Error::Argument(format!(
            "input {index} has rank {}, the program declares {:?}",
            sizes.len(),
            &bound[..]
        )));
    }
    let mut dims = Dims::new();
    for (&size, &max) in sizes.iter().zip(bound) {
        match u32::try_from(size) {
            Ok(size) if size <= max => dims.push(size),
            _ => {
                return Err(Error::Argument(format!(
                    "input {index} has sizes {sizes:?}, above the declared bound {:?}",
                    &bound[..]
                )));
            }
        }
    }
    Ok(dims)
}

fn integer_of(index: usize, arg: HostArg<'_>) -> Result<i64, Error> {
    let value = match arg {
        HostArg::Int(value) => Some(value),
        HostArg::Tensor { scalar_type, data, .. } => {
            integers(HostType::of(scalar_type)?, data)?.first().copied()
        }
        HostArg::Other => None,
    };
    let value = value.ok_or_else(|| Error::Argument(format!("input {index} must be an integer")))?;
    i32::try_from(value)
        .map(i64::from)
        .map_err(|_| Error::Argument(format!("input {index}: {value} does not fit in 32 bits")))
}

fn resize_outputs(graph: &Graph, live: &Live, host: &mut dyn HostCall) -> Result<(), Error> {
    for (position, &id) in graph.outputs.iter().enumerate() {
        if graph.tensor(id).is_none() {
            continue;
        }
        let index = graph.inputs.len() + position;
        let sizes: Vec<i32> = live.dims[id.index()].iter().map(|&d| d as i32).collect();
        let has_sizes = match host.arg(index) {
            HostArg::Tensor { sizes: now, .. } => now == sizes,
            _ => return Err(Error::Argument(format!("output {position} must be a tensor"))),
        };
        if !has_sizes && !host.resize(index, &sizes) {
            return Err(Error::Argument(format!("output {position} cannot take sizes {sizes:?}")));
        }
    }
    Ok(())
}

fn write_output(
    graph: &Graph,
    host: &mut dyn HostCall,
    inputs: usize,
    output: usize,
    bytes: &[u8],
) -> Result<(), Error> {
    let dtype = graph.tensor(graph.outputs[output]).map(|t| t.dtype);
    let (Some(dtype), HostArg::Tensor { scalar_type, data, .. }) = (dtype, host.arg(inputs + output)) else {
        return Err(Error::Argument(format!("output {output} must be a tensor")));
    };
    let host_type = HostType::of(scalar_type)?;
    let count = bytes.len() / dtype.size() as usize;
    let data = data
        .get_mut(..count * host_type.size())
        .ok_or_else(|| Error::Argument(format!("output {output} is too small for {count} elements")))?;
    to_host(dtype, bytes, host_type, data)
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

fn integer_inputs(graph: &Graph) -> Vec<ValueId> {
    let selects = graph.nodes.iter().filter(|node| node.op == "et_vk.select_as_symint.default");
    selects.filter_map(|node| node.args.first().copied()).collect()
}

/// Inputs that reach the indices of an embedding unchanged.
fn row_inputs(model: &Model) -> Vec<(ValueId, u32)> {
    let graph = &model.graph;
    let tables = graph.nodes.iter().filter_map(|node| {
        let index = match node.op.as_str() {
            "aten.embedding.default" => 1,
            "et_vk.embedding_q4gsw.default" => 3,
            _ => return None,
        };
        let rows = *graph.tensor(*node.args.first()?)?.dims.first()?;
        Some((model.storage.root(*node.args.get(index)?), rows))
    });
    tables.filter(|(id, _)| graph.inputs.contains(id)).collect()
}
