//! Which buffer holds which value of a recording under construction.

use std::collections::HashMap;

use etwgpu_graph::{Graph, ValueId};
use etwgpu_record::{BufferDesc, BufferId, Recording, WeightKey, WeightLayout};

use crate::args::TensorArg;
use crate::live::Live;
use crate::lower::Planner;
use crate::storage::Kind;

/// Buffers of a recording under construction.
#[derive(Default)]
pub(crate) struct Buffers {
    /// The buffer of each value that is stored.
    pub(crate) values: HashMap<ValueId, BufferId>,
    weights: HashMap<WeightKey, BufferId>,
}

impl Buffers {
    pub(crate) fn of_tensor(
        &mut self,
        planner: &Planner<'_>,
        live: &Live,
        recording: &mut Recording,
        arg: &TensorArg,
    ) -> BufferId {
        let root = planner.storage.root(arg.id);
        if planner.storage.kind(arg.id) == Kind::Weight {
            return self.of_weight(planner.graph, recording, root, WeightLayout::Raw);
        }
        *self.values.entry(root).or_insert_with(|| {
            let value = root.0;
            let size = padded(tensor_bytes(planner.graph, root, &live.dims[root.index()]));
            let bound = planner.graph.tensor(root).map_or(0, |t| tensor_bytes(planner.graph, root, &t.dims));
            recording.add_buffer(match planner.storage.kind(root) {
                Kind::State => BufferDesc::State { value, size: padded(bound) },
                Kind::Input => BufferDesc::Input { value, size },
                Kind::Temp | Kind::Weight => BufferDesc::Temp { size },
            })
        })
    }

    pub(crate) fn of_weight(
        &mut self,
        graph: &Graph,
        recording: &mut Recording,
        root: ValueId,
        layout: WeightLayout,
    ) -> BufferId {
        let tensor = graph.tensor(root);
        let constant = tensor.and_then(|t| t.constant).map_or(0, |c| canonical(graph, c.index()));
        let key = WeightKey { constant: constant as u32, layout };
        let size = padded(tensor.map_or(0, |t| tensor_bytes(graph, root, &t.dims)));
        let add = || recording.add_buffer(BufferDesc::Weight { key, size });
        let buffer = *self.weights.entry(key).or_insert_with(add);
        // Tensors of several sizes may be the beginnings of one constant.
        if let BufferDesc::Weight { size: had, .. } = &mut recording.buffers[buffer.index()] {
            *had = size.max(*had);
        }
        buffer
    }
}

/// The first constant with the same source: equal bytes are resident once.
fn canonical(graph: &Graph, constant: usize) -> usize {
    let source = &graph.constants[constant].source;
    graph.constants[..constant].iter().position(|c| c.source == *source).unwrap_or(constant)
}

fn tensor_bytes(graph: &Graph, id: ValueId, dims: &[u32]) -> u64 {
    let element = graph.tensor(id).map_or(0, |t| t.dtype.size());
    dims.iter().map(|&d| u64::from(d)).product::<u64>() * element
}

/// Buffers end on a 16-byte boundary, so that shaders may read whole `vec4`s, and are never empty.
pub(crate) fn padded(size: u64) -> u64 {
    size.next_multiple_of(16).max(16)
}
