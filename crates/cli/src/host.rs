//! A host for a delegate without ExecuTorch: arguments in vectors.

use etwgpu_graph::{Graph, Value};
use etwgpu_runtime::{HostArg, HostCall, scalar_type};

use crate::npy::{Array, element_size};

/// Inputs, then outputs.
#[derive(Clone)]
pub struct Arguments {
    /// The arguments.
    pub arrays: Vec<Array>,
}

impl Arguments {
    /// Arguments for a delegate: the inputs given, outputs at their bounds.
    pub fn new(graph: &Graph, inputs: Vec<Array>) -> Self {
        let outputs = graph.outputs.iter().map(|&id| match graph.value(id) {
            Value::Tensor(tensor) => {
                let sizes: Vec<i32> = tensor.dims.iter().map(|&d| d as i32).collect();
                empty(scalar_type(tensor.dtype), sizes)
            }
            _ => empty(4, vec![]),
        });
        Self { arrays: inputs.into_iter().chain(outputs).collect() }
    }
}

fn empty(scalar_type: i8, sizes: Vec<i32>) -> Array {
    let count: usize = sizes.iter().map(|&s| s as usize).product();
    Array { scalar_type, sizes, bytes: vec![0; count * element_size(scalar_type).unwrap_or(4)] }
}

impl HostCall for Arguments {
    fn len(&self) -> usize {
        self.arrays.len()
    }

    fn arg(&mut self, index: usize) -> HostArg<'_> {
        let array = &mut self.arrays[index];
        HostArg::Tensor {
            scalar_type: array.scalar_type,
            sizes: &array.sizes,
            order: &[],
            data: &mut array.bytes,
        }
    }

    fn resize(&mut self, index: usize, sizes: &[i32]) -> bool {
        self.arrays[index] = empty(self.arrays[index].scalar_type, sizes.to_vec());
        true
    }

    fn set_int(&mut self, index: usize, value: i64) {
        self.arrays[index].bytes = value.to_le_bytes().to_vec();
    }
}
