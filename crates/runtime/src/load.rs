//! From processed bytes to a checked graph: everything of a load that needs no GPU.

use etwgpu_graph::{Graph, Value, ValueId, decode, parse};
use etwgpu_kernels::args::NodeCx;
use etwgpu_kernels::fuse::Groups;
use etwgpu_kernels::live::{Dirty, Journal, propagate};
use etwgpu_kernels::lower::Planner;
use etwgpu_kernels::passes::{self, PassOptions};
use etwgpu_kernels::storage::Storage;
use etwgpu_kernels::{Live, LowerOptions};
use etwgpu_record::Caps;

use crate::status::Error;

/// A delegate's program, ready to be lowered.
pub struct Model {
    /// The graph after passes.
    pub graph: Graph,
    /// Storage of its values.
    pub storage: Storage,
    /// Nodes that may run together.
    pub groups: Groups,
    /// Every tensor at its bound; integers as they follow from that.
    pub bound: Live,
    /// What the passes say of their work.
    pub notes: Vec<String>,
}

impl Model {
    /// What lowering takes, for a device and a caller's choices.
    pub fn planner<'a>(&'a self, caps: &'a Caps, options: &'a LowerOptions) -> Planner<'a> {
        Planner { graph: &self.graph, storage: &self.storage, groups: &self.groups, caps, options }
    }

    /// Refuses a device that lacks what the passes were asked for.
    pub fn check_device(&self, caps: &Caps) -> Result<(), Error> {
        let stored_otherwise = self.graph.constants.iter().any(|constant| constant.stored.is_some());
        if stored_otherwise && !caps.f16 {
            let why = format!("enable_f16_kv_cache needs f16 in shaders, which {} lacks", caps.name);
            return Err(Error::Setting(why));
        }
        Ok(())
    }

    /// Live sizes with every length that the program asks its inputs for at one, such as a single token of a decoder;
    /// none when it asks for no length or refuses such inputs.
    pub fn single(&self) -> Option<Live> {
        let mut live = self.bound.clone();
        let mut dirty = Dirty::none();
        for (index, node) in self.graph.nodes.iter().enumerate().filter(|(_, n)| n.op == "sym_size.int") {
            let cx = NodeCx { graph: &self.graph, live: &self.bound, index };
            let (tensor, dim) = (cx.tensor(0).ok()?, cx.int(1).ok()?);
            let dim = tensor.dim(dim).ok()?;
            if self.graph.inputs.contains(&node.args[0]) {
                *live.dims[tensor.id.index()].get_mut(dim)? = 1;
                dirty.mark(tensor.id);
            }
        }
        let has_length = dirty.any();
        let propagated = propagate(&self.graph, &mut live, &dirty, &mut Journal::default());
        (has_length && propagated.is_ok()).then_some(live)
    }

    /// Inputs that reach the indices of an embedding unchanged, with the rows of its table.
    pub fn row_inputs(&self) -> Vec<(ValueId, u32)> {
        let tables = self.graph.nodes.iter().filter_map(|node| {
            let index = match node.op.as_str() {
                "aten.embedding.default" => 1,
                "et_vk.embedding_q4gsw.default" => 3,
                _ => return None,
            };
            let rows = *self.graph.tensor(*node.args.first()?)?.dims.first()?;
            Some((self.storage.root(*node.args.get(index)?), rows))
        });
        tables.filter(|(id, _)| self.graph.inputs.contains(id)).collect()
    }
}

/// Elements of a tensor at most, counting an empty dimension as one: indices on the GPU are 32 bits wide.
const MAX_ELEMENTS: u64 = 1 << 31;

/// Refuses tensors whose elements cannot be numbered.
fn check_sizes(graph: &Graph) -> Result<(), Error> {
    for (index, value) in graph.values.iter().enumerate() {
        let Value::Tensor(tensor) = value else { continue };
        let count = tensor.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::from(d.max(1))));
        if count.is_none_or(|n| n >= MAX_ELEMENTS) {
            return Err(Error::TooLarge { value: index, dims: tensor.dims.to_vec() });
        }
    }
    Ok(())
}

/// Parses, decodes, runs the passes and checks every operator at its declared sizes.
pub fn analyse(processed: &[u8], options: &PassOptions) -> Result<Model, Error> {
    let mut graph = decode(&parse(processed)?)?;
    check_sizes(&graph)?;
    let notes = passes::run(&mut graph, options);
    let mut bound = Live::at_bound(&graph);
    propagate(&graph, &mut bound, &Dirty::all(&graph), &mut Journal::default()).map_err(Error::Declared)?;
    let storage = Storage::of(&graph);
    let groups = Groups::of(&graph, &storage);
    Ok(Model { graph, storage, groups, bound, notes })
}
