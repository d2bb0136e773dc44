//! Inputs made up for a run.

use anyhow::Result;
use etwgpu_graph::{DType, Value, ValueId};
use etwgpu_kernels::Live;
use etwgpu_runtime::{Model, scalar_type};
use half::f16;

use crate::npy::Array;

/// Inputs at live sizes: floats between -1 and 1, row numbers within their tables, and the integers that are asked for.
pub fn synthesise(model: &Model, live: &Live) -> Result<Vec<Array>> {
    let rows = model.row_inputs();
    let mut random = Random(1);
    let arrays = model.graph.inputs.iter().map(|&id| match model.graph.value(id) {
        Value::Tensor(tensor) => {
            let sizes: Vec<i32> = live.dims[id.index()].iter().map(|&d| d as i32).collect();
            let count = sizes.iter().map(|&s| s as usize).product();
            let bytes = match live.host.get(&id) {
                Some(given) => elements(tensor.dtype, given.iter().map(|&v| v as f64)),
                None => {
                    let bound = rows.iter().find(|(input, _)| *input == id).map(|&(_, rows)| rows);
                    let next = |_| random.element(tensor.dtype, bound);
                    elements(tensor.dtype, (0..count).map(next))
                }
            };
            Array { scalar_type: scalar_type(tensor.dtype), sizes, bytes }
        }
        _ => integer(live, id),
    });
    Ok(arrays.collect())
}

fn integer(live: &Live, id: ValueId) -> Array {
    let value = live.ints.get(id.index()).copied().unwrap_or(0);
    Array { scalar_type: scalar_type(DType::I64), sizes: Vec::new(), bytes: value.to_le_bytes().to_vec() }
}

fn elements(dtype: DType, values: impl Iterator<Item = f64>) -> Vec<u8> {
    let bytes = |value: f64| match dtype {
        DType::Bool | DType::U8 => vec![value as u8],
        DType::I8 => vec![value as i8 as u8],
        DType::I32 => (value as i32).to_le_bytes().to_vec(),
        DType::I64 => (value as i64).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        DType::F32 => (value as f32).to_le_bytes().to_vec(),
        DType::F64 => value.to_le_bytes().to_vec(),
    };
    values.flat_map(bytes).collect()
}

/// A linear congruential generator: the same inputs every time.
struct Random(u64);

impl Random {
    fn element(&mut self, dtype: DType, rows: Option<u32>) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = (self.0 >> 33) as u32;
        match (dtype, rows) {
            (_, Some(rows)) => f64::from(bits % rows.max(1)),
            (DType::F16 | DType::F32 | DType::F64, None) => f64::from(bits) / f64::from(1u32 << 30) - 1.0,
            // Integers of no known use are kept small: they may be positions.
            _ => f64::from(bits % 2),
        }
    }
}
