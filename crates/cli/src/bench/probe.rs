//! Graphs of single operators on random data.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use etwgpu_engine::{Buffer, EngineError, Gpu, Prepared, RunStats, Span, Timing, Trace};
use etwgpu_graph::{Constant, ConstantId, ConstantSource, DType, Graph, Node, Tensor, Value, ValueId};
use etwgpu_kernels::fuse::Groups;
use etwgpu_kernels::live::{Dirty, Journal, propagate};
use etwgpu_kernels::lower::Planner;
use etwgpu_kernels::storage::Storage;
use etwgpu_kernels::{Live, LowerOptions, Lowered, lower};
use etwgpu_record::{BufferDesc, BufferId};

/// A graph under construction.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) graph: Graph,
}

impl Builder {
    pub(super) fn tensor(&mut self, dtype: DType, dims: &[u32]) -> ValueId {
        self.value(Tensor { dtype, dims: dims.iter().copied().collect(), constant: None })
    }

    pub(super) fn input(&mut self, dtype: DType, dims: &[u32]) -> ValueId {
        let id = self.tensor(dtype, dims);
        self.graph.inputs.push(id);
        id
    }

    pub(super) fn weight(&mut self, dtype: DType, dims: &[u32]) -> ValueId {
        let constant = ConstantId(self.graph.constants.len() as u32);
        let source = ConstantSource::Named(format!("weight {}", constant.0));
        self.graph.constants.push(Constant { source, stored: None });
        self.value(Tensor { dtype, dims: dims.iter().copied().collect(), constant: Some(constant) })
    }

    fn value(&mut self, tensor: Tensor) -> ValueId {
        self.graph.add_value(Value::Tensor(tensor))
    }

    /// Anything but a tensor.
    pub(super) fn argument(&mut self, value: Value) -> ValueId {
        self.graph.add_value(value)
    }

    pub(super) fn node(&mut self, op: &str, args: &[ValueId], outs: &[ValueId]) {
        let node = Node { op: op.into(), handles: Vec::new(), args: args.to_vec(), outs: outs.to_vec() };
        self.graph.nodes.push(node);
    }
}

/// Plans a graph at its sizes.
pub(super) fn plan(gpu: &Gpu, graph: &Graph, options: &LowerOptions) -> Result<Lowered> {
    let mut live = Live::at_bound(graph);
    propagate(graph, &mut live, &Dirty::all(graph), &mut Journal::default())?;
    let storage = Storage::of(graph);
    let groups = Groups::of(graph, &storage);
    let planner = Planner { graph, storage: &storage, groups: &groups, caps: gpu.caps(), options };
    Ok(lower(&planner, &live)?)
}

/// A planned graph with its buffers.
pub(super) struct Probe {
    gpu: Arc<Gpu>,
    /// What runs.
    pub(super) lowered: Lowered,
    prepared: Prepared,
}

impl Probe {
    /// Plans a graph and fills its inputs and weights.
    pub(super) fn new(gpu: &Arc<Gpu>, graph: &Graph, options: &LowerOptions) -> Result<Self> {
        let lowered = plan(gpu, graph, options)?;
        let mut random = Random(1);
        let weights: RefCell<HashMap<_, Buffer>> = RefCell::default();
        for desc in &lowered.recording.buffers {
            let BufferDesc::Weight { key, size } = *desc else { continue };
            let dtype = graph.values.iter().find_map(|value| match value {
                Value::Tensor(t) if t.constant == Some(ConstantId(key.constant)) => Some(t.dtype),
                _ => None,
            });
            let buffer = gpu.create_buffer("weight", size)?;
            gpu.upload(&buffer, &random.elements(dtype.unwrap_or(DType::U8), size))?;
            weights.borrow_mut().insert(key, buffer);
        }
        let resident = |desc: &BufferDesc| match desc {
            BufferDesc::Weight { key, .. } => weights.borrow().get(key).cloned(),
            _ => None,
        };
        let prepared = Prepared::new(gpu, &lowered.recording, &resident)?;
        let mut probe = Self { gpu: gpu.clone(), lowered, prepared };
        probe.fill_inputs(graph, &mut random)?;
        Ok(probe)
    }

    /// Inputs keep their elements from run to run.
    fn fill_inputs(&mut self, graph: &Graph, random: &mut Random) -> Result<(), EngineError> {
        let inputs = self.lowered.recording.buffers.iter().zip(0..).filter_map(|(desc, id)| {
            let BufferDesc::Input { value, size } = *desc else { return None };
            let dtype = graph.tensor(ValueId(value)).map_or(DType::U8, |t| t.dtype);
            Some((BufferId(id), random.elements(dtype, size)))
        });
        let inputs: Vec<(BufferId, Vec<u8>)> = inputs.collect();
        let inputs: Vec<(BufferId, &[u8])> = inputs.iter().map(|(id, bytes)| (*id, &bytes[..])).collect();
        self.prepared.run(&self.gpu, &inputs, &mut |_, _| Ok(()), &mut Trace::off()).map(|_| ())
    }

    /// Runs as a delegate would.
    pub(super) fn run(&mut self) -> Result<RunStats, EngineError> {
        self.prepared.run(&self.gpu, &[], &mut |_, _| Ok(()), &mut Trace::off())
    }

    /// Runs with timestamps; nothing where the device has none.
    pub(super) fn spans(&mut self, timing: Timing) -> Result<Vec<Span>, EngineError> {
        let mut trace = Trace::new(timing, false);
        self.prepared.run(&self.gpu, &[], &mut |_, _| Ok(()), &mut trace)?;
        Ok(trace.spans)
    }
}

/// Reproducible bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Floats between -1/8 and 1/8, other elements of any bits.
    fn elements(&mut self, dtype: DType, bytes: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes as usize + 8);
        while (out.len() as u64) < bytes {
            let bits = self.next();
            match dtype {
                DType::F32 => out.extend((bits as i32 as f32 / (1u64 << 34) as f32).to_le_bytes()),
                DType::F16 => {
                    out.extend(half::f16::from_f32(bits as i32 as f32 / (1u64 << 34) as f32).to_le_bytes());
                }
                _ => out.extend(bits.to_le_bytes()),
            }
        }
        out.truncate(bytes as usize);
        out
    }
}
