//! From processed bytes to a checked graph: everything of a load that needs no GPU.

use etwgpu_graph::{Graph, decode, parse};
use etwgpu_kernels::live::{Dirty, propagate};
use etwgpu_kernels::storage::Storage;
use etwgpu_kernels::{Live, passes};

use crate::status::Error;

/// A delegate's program, ready to be lowered.
pub struct Model {
    /// The graph after passes.
    pub graph: Graph,
    /// Storage of its values.
    pub storage: Storage,
    /// Every tensor at its bound; integers as they follow from that.
    pub bound: Live,
}

/// Parses, decodes, runs the passes and checks every operator at its declared sizes.
pub fn analyse(processed: &[u8]) -> Result<Model, Error> {
    let mut graph = decode(&parse(processed)?)?;
    passes::run(&mut graph);
    let mut bound = Live::at_bound(&graph);
    propagate(&graph, &mut bound, Dirty::all(&graph)).map_err(Error::Declared)?;
    let storage = Storage::of(&graph);
    Ok(Model { graph, storage, bound })
}
