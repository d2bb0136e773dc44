//! Weights and states: from the program's constants to resident buffers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use etwgpu_engine::{Buffer, EngineError, Gpu};
use etwgpu_graph::{Constant, ConstantId, Graph, Tensor, ValueId, WeightSource, with_constant};
use etwgpu_kernels::ops::sdpa::caches_by_kind;
use etwgpu_record::{BufferDesc, Recording, WeightKey, WeightLayout};
use half::f16;

use crate::status::Error;

/// Buffers that live as long as a delegate.
#[derive(Default)]
pub(crate) struct Resident {
    weights: BTreeMap<WeightKey, Buffer>,
    states: BTreeMap<ValueId, Buffer>,
}

impl Resident {
    /// Uploads every weight and state that a recording names, one constant at a time.
    pub(crate) fn load(
        gpu: &Gpu,
        graph: &Graph,
        section: &[u8],
        recording: &Recording,
        source: &mut dyn WeightSource,
    ) -> Result<Self, Error> {
        let resident = Self { weights: weights(gpu, recording)?, states: states(gpu, graph, recording)? };
        // The largest first: while it is lent, its pages are this process's, and shaders that are compiled meanwhile have
        // not taken much memory yet.
        let mut order: Vec<(&WeightKey, &Buffer)> = resident.weights.iter().collect();
        order.sort_by_key(|(_, buffer)| Reverse(buffer.size()));
        let (weights, states) = resident.bytes();
        let mut uploads = gpu.uploads(weights + states);
        for (key, buffer) in order {
            let constant = ConstantId(key.constant);
            let (bytes, element) = constant_bytes(graph, constant);
            // Another tensor, which nobody reads, may have more of the constant.
            let bytes = bytes.min(buffer.size());
            upload(graph, section, constant, bytes, source, |b| match key.layout {
                WeightLayout::Raw => uploads.write(buffer, b),
                WeightLayout::Transposed { rows, cols } => {
                    let [rows, cols, element] = [rows as usize, cols as usize, element as usize];
                    let matrix = b.get(..rows * cols * element).ok_or_else(|| {
                        let message = format!("a matrix of {rows} by {cols} has {} bytes", b.len());
                        EngineError::Validation(message)
                    })?;
                    uploads.write(buffer, &transposed(matrix, rows, cols, element))
                }
            })?;
        }
        // New buffers hold zeros, as most states do at first; many of them name the same bytes.
        let mut zeros = BTreeSet::new();
        for (&ValueId(value), buffer) in &resident.states {
            let constant = graph.tensor(ValueId(value)).and_then(|t| t.constant);
            let constant =
                constant.ok_or_else(|| Error::Internal(format!("state %{value} has no constant")))?;
            let Constant { source: name, stored } = &graph.constants[constant.index()];
            let (bytes, _) = constant_bytes(graph, constant);
            if zeros.contains(&(name, bytes)) {
                continue;
            }
            upload(graph, section, constant, bytes, source, |b| {
                if is_zero(b) {
                    zeros.insert((name, bytes));
                    return Ok(());
                }
                match stored {
                    None => uploads.write(buffer, b),
                    Some(_) => uploads.write(buffer, &halves(b)),
                }
            })?;
        }
        uploads.finish()?;
        Ok(resident)
    }

    /// The buffer behind a weight or state.
    pub(crate) fn get(&self, desc: &BufferDesc) -> Option<Buffer> {
        match desc {
            BufferDesc::Weight { key, .. } => self.weights.get(key).cloned(),
            BufferDesc::State { value, .. } => self.states.get(&ValueId(*value)).cloned(),
            BufferDesc::Input { .. } | BufferDesc::Temp { .. } | BufferDesc::Counters { .. } => None,
        }
    }

    /// Bytes of weights and of states.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.weights.values().map(Buffer::size).sum(), self.states.values().map(Buffer::size).sum())
    }
}

/// Storage for every weight that a recording names, in few buffers, in the order of their constants.
fn weights(gpu: &Gpu, recording: &Recording) -> Result<BTreeMap<WeightKey, Buffer>, EngineError> {
    let named = recording.buffers.iter().filter_map(|desc| match *desc {
        BufferDesc::Weight { key, size } => Some((key, size)),
        _ => None,
    });
    let sizes: BTreeMap<WeightKey, u64> = named.collect();
    let buffers = gpu.create_together("weights", &sizes.values().copied().collect::<Vec<_>>())?;
    Ok(sizes.into_keys().zip(buffers).collect())
}

/// Storage for every state that a recording names: in few buffers for key caches, and in others for value caches, which one
/// launch may read while it writes the keys; all other states have buffers of their own.
fn states(gpu: &Gpu, graph: &Graph, recording: &Recording) -> Result<BTreeMap<ValueId, Buffer>, EngineError> {
    let named = recording.buffers.iter().filter_map(|desc| match *desc {
        BufferDesc::State { value, size } => Some((ValueId(value), size)),
        _ => None,
    });
    let mut sizes: BTreeMap<ValueId, u64> = named.collect();
    let mut states = BTreeMap::new();
    for kind in caches_by_kind(graph) {
        let caches: Vec<(ValueId, u64)> = kind.into_iter().filter_map(|id| sizes.remove_entry(&id)).collect();
        let bytes: Vec<u64> = caches.iter().map(|&(_, size)| size).collect();
        let buffers = gpu.create_together("caches", &bytes)?;
        states.extend(caches.into_iter().map(|(id, _)| id).zip(buffers));
    }
    for (id, size) in sizes {
        states.insert(id, gpu.create_buffer("state", size)?);
    }
    Ok(states)
}

/// Bytes and element size, as they are stored, of the largest tensor that a constant initialises.
fn constant_bytes(graph: &Graph, constant: ConstantId) -> (u64, u64) {
    let source = &graph.constants[constant.index()].source;
    let element = |t: &Tensor, c: ConstantId| graph.constants[c.index()].stored.unwrap_or(t.dtype).size();
    let tensors = graph.values.iter().filter_map(|v| match v {
        etwgpu_graph::Value::Tensor(t) => Some(t),
        _ => None,
    });
    tensors
        .filter_map(|t| t.constant.map(|c| (t, c)))
        .filter(|(_, c)| graph.constants[c.index()].source == *source)
        .map(|(t, c)| (t.dims.iter().map(|&d| u64::from(d)).product::<u64>() * element(t, c), element(t, c)))
        .max()
        .unwrap_or((0, 1))
}

fn upload(
    graph: &Graph,
    section: &[u8],
    constant: ConstantId,
    need: u64,
    source: &mut dyn WeightSource,
    put: impl FnOnce(&[u8]) -> Result<(), EngineError>,
) -> Result<(), Error> {
    with_constant(graph, section, constant, need, source, put)??;
    Ok(())
}

/// Whether all bytes are zero, a block at a time, so that processors look at many at once.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
}

/// Single-precision elements rounded to halves: the only conversion that passes ask for.
fn halves(singles: &[u8]) -> Vec<u8> {
    let half = |s: &[u8]| f16::from_f32(f32::from_le_bytes([s[0], s[1], s[2], s[3]])).to_le_bytes();
    singles.chunks_exact(4).flat_map(half).collect()
}

/// A row-major matrix stored column by column; blocks keep both sides in cache.
fn transposed(bytes: &[u8], rows: usize, cols: usize, element: usize) -> Vec<u8> {
    const BLOCK: usize = 32;
    let mut out = vec![0; rows * cols * element];
    for c0 in (0..cols).step_by(BLOCK) {
        for r in 0..rows {
            for c in c0..(c0 + BLOCK).min(cols) {
                let (from, to) = ((r * cols + c) * element, (c * rows + r) * element);
                out[to..to + element].copy_from_slice(&bytes[from..from + element]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{is_zero, transposed};

    #[test]
    fn zeros_are_zero_and_one_other_byte_is_not() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 4095, 4096, 9_999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "at {at}");
            bytes[at] = 0;
        }
    }

    #[test]
    fn transposing_twice_gives_the_matrix_back() {
        let matrix: Vec<u8> = (0..3 * 50 * 2).map(|i| i as u8).collect();
        let once = transposed(&matrix, 3, 50, 2);
        assert_eq!(once[..4], [0, 1, 100, 101]);
        assert_eq!(transposed(&once, 50, 3, 2), matrix);
    }
}
