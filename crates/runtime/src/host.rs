//! What crosses the boundary between the host and a delegate, and the checks that it passes.

use etwgpu_graph::{Dims, Graph, Value, ValueId};
use etwgpu_kernels::Live;
use etwgpu_kernels::live::{Dirty, Flow, Journal};

use crate::convert::{HostType, integers, to_gpu, to_host};
use crate::load::Model;
use crate::observe::{NamedSpan, NodeValue, Watch};
use crate::order::{from_row_major, to_row_major};
use crate::status::Error;

/// An argument as the host passes it.
pub enum HostArg<'a> {
    /// A tensor without gaps.
    Tensor {
        /// ExecuTorch `ScalarType`.
        scalar_type: i8,
        /// Sizes, outermost first.
        sizes: &'a [i32],
        /// Dimensions from the outermost in memory to the innermost; empty for row-major order.
        order: &'a [u8],
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
    /// What the host wants to be told of the run.
    fn watch(&self) -> Watch {
        Watch::default()
    }
    /// A span of the run, if spans are watched.
    fn span(&mut self, _span: &NamedSpan) {}
    /// An intermediate value of the run, if values are watched.
    fn value(&mut self, _value: &NodeValue) {}
}

/// The inputs of a delegate: which of them decide more than elements, and their elements on the way to the GPU.
pub(crate) struct Inputs {
    flow: Flow,
    /// Inputs that symbolic integers are read from.
    integers: Vec<ValueId>,
    /// Inputs that pick rows of a table, with the table's size.
    rows: Vec<(ValueId, u32)>,
    /// Elements as the GPU takes them, by input.
    staged: Vec<Vec<u8>>,
}

impl Inputs {
    pub(crate) fn of(model: &Model) -> Self {
        let graph = &model.graph;
        let staged = vec![Vec::new(); graph.inputs.len()];
        Self { flow: Flow::of(graph), integers: integer_inputs(graph), rows: model.row_inputs(), staged }
    }

    /// Reads sizes and integers of the host's inputs and propagates what changed.
    ///
    /// `dirty` marks what counts as changed in any case.
    pub(crate) fn take(
        &self,
        graph: &Graph,
        host: &mut dyn HostCall,
        live: &mut Live,
        mut dirty: Dirty,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        for (index, &id) in graph.inputs.iter().enumerate() {
            match (graph.value(id), host.arg(index)) {
                (Value::Tensor(tensor), HostArg::Tensor { sizes, scalar_type, order, data }) => {
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
                    if self.integers.contains(&id) {
                        let rows = to_row_major(data, host_type.size(), sizes, order);
                        let values = integers(host_type, &rows)?;
                        let known = live.host.get(&id);
                        if !known.is_some_and(|known| known.iter().copied().eq(values.clone())) {
                            journal.set_host(live, id, values.collect());
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
            self.flow.propagate(graph, live, &dirty, journal).map_err(Error::Live)?;
        }
        Ok(())
    }

    /// Row numbers that the host passes must exist: the GPU could only clamp them.
    pub(crate) fn check_rows(&self, graph: &Graph, host: &mut dyn HostCall) -> Result<(), Error> {
        for &(id, rows) in &self.rows {
            let Some(index) = graph.inputs.iter().position(|&i| i == id) else { continue };
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

    /// Converts the elements of every input to those of the GPU.
    pub(crate) fn stage(&mut self, graph: &Graph, host: &mut dyn HostCall) -> Result<(), Error> {
        for (position, &id) in graph.inputs.iter().enumerate() {
            let Some(tensor) = graph.tensor(id) else { continue };
            let HostArg::Tensor { scalar_type, sizes, order, data } = host.arg(position) else { continue };
            let host_type = HostType::of(scalar_type)?;
            let data = &*to_row_major(data, host_type.size(), sizes, order);
            let staged = &mut self.staged[position];
            if host_type.is(tensor.dtype) {
                staged.clear();
                staged.extend_from_slice(data);
            } else {
                to_gpu(host_type, data, tensor.dtype, staged).map_err(|e| at_input(position, e))?;
            }
        }
        Ok(())
    }

    /// The elements of an input as they were staged last.
    pub(crate) fn staged(&self, position: usize) -> &[u8] {
        &self.staged[position]
    }
}

/// Hands symbolic integers back to the host.
pub(crate) fn set_integers(graph: &Graph, live: &Live, host: &mut dyn HostCall) {
    for (position, &id) in graph.outputs.iter().enumerate() {
        let value = match graph.value(id) {
            Value::SymInt => live.ints[id.index()],
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
        HostArg::Tensor { scalar_type, data, .. } => integers(HostType::of(scalar_type)?, data)?.next(),
        HostArg::Other => None,
    };
    let value = value.ok_or_else(|| Error::Argument(format!("input {index} must be an integer")))?;
    i32::try_from(value)
        .map(i64::from)
        .map_err(|_| Error::Argument(format!("input {index}: {value} does not fit in 32 bits")))
}

/// Gives every output its live sizes.
pub(crate) fn resize_outputs(graph: &Graph, live: &Live, host: &mut dyn HostCall) -> Result<(), Error> {
    for (position, &id) in graph.outputs.iter().enumerate() {
        if graph.tensor(id).is_none() {
            continue;
        }
        let index = graph.inputs.len() + position;
        let sizes = live.dims[id.index()].iter().map(|&d| d as i32);
        let has_sizes = match host.arg(index) {
            HostArg::Tensor { sizes: now, .. } => now.iter().copied().eq(sizes.clone()),
            _ => return Err(Error::Argument(format!("output {position} must be a tensor"))),
        };
        if has_sizes {
            continue;
        }
        let sizes: Vec<i32> = sizes.collect();
        if !host.resize(index, &sizes) {
            return Err(Error::Argument(format!("output {position} cannot take sizes {sizes:?}")));
        }
    }
    Ok(())
}

/// Converts the elements of an output to those of the host.
pub(crate) fn write_output(
    graph: &Graph,
    host: &mut dyn HostCall,
    output: usize,
    bytes: &[u8],
) -> Result<(), Error> {
    let dtype = graph.tensor(graph.outputs[output]).map(|t| t.dtype);
    let (Some(dtype), HostArg::Tensor { scalar_type, sizes, order, data }) =
        (dtype, host.arg(graph.inputs.len() + output))
    else {
        return Err(Error::Argument(format!("output {output} must be a tensor")));
    };
    let host_type = HostType::of(scalar_type)?;
    let count = bytes.len() / dtype.size() as usize;
    let data = data
        .get_mut(..count * host_type.size())
        .ok_or_else(|| Error::Argument(format!("output {output} is too small for {count} elements")))?;
    if order.is_empty() {
        return to_host(dtype, bytes, host_type, data);
    }
    let mut rows = vec![0; data.len()];
    to_host(dtype, bytes, host_type, &mut rows)?;
    from_row_major(&rows, host_type.size(), sizes, order, data);
    Ok(())
}

fn integer_inputs(graph: &Graph) -> Vec<ValueId> {
    let selects = graph.nodes.iter().filter(|node| node.op == "et_vk.select_as_symint.default");
    selects.filter_map(|node| node.args.first().copied()).collect()
}
