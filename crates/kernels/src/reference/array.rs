//! Tensors of the reference.

use etwgpu_graph::{DType, Dims};
use half::f16;

/// A tensor's elements; every element type but 64-bit integers is exact in `f64`.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Element type that the values are rounded to.
    pub dtype: DType,
    /// Sizes.
    pub dims: Dims,
    /// Elements in row-major order.
    pub values: Vec<f64>,
}

impl Array {
    /// Values rounded to an element type; panics unless there are as many as the sizes say.
    pub fn new(dtype: DType, dims: &[u32], values: Vec<f64>) -> Self {
        let dims: Dims = dims.iter().copied().collect();
        assert_eq!(count(&dims), values.len(), "values for sizes {:?}", &dims[..]);
        Self { dtype, dims, values: values.into_iter().map(|v| round_to(dtype, v)).collect() }
    }

    /// Elements as the GPU stores them.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &v in &self.values {
            match self.dtype {
                DType::Bool | DType::U8 => bytes.push(v as u8),
                DType::I8 => bytes.push(v as i8 as u8),
                DType::I32 => bytes.extend((v as i32).to_le_bytes()),
                DType::I64 => bytes.extend((v as i64).to_le_bytes()),
                DType::F16 => bytes.extend(f16::from_f64(v).to_le_bytes()),
                DType::F32 => bytes.extend((v as f32).to_le_bytes()),
                DType::F64 => bytes.extend(v.to_le_bytes()),
            }
        }
        bytes
    }

    /// Reads elements back from the GPU's form.
    pub fn from_bytes(dtype: DType, dims: &[u32], bytes: &[u8]) -> Self {
        let element = |b: &[u8]| match (dtype, b) {
            (DType::I8, [b]) => f64::from(*b as i8),
            (_, [b]) => f64::from(*b),
            (_, [a, b]) => f16::from_le_bytes([*a, *b]).to_f64(),
            (DType::I32, [a, b, c, d]) => f64::from(i32::from_le_bytes([*a, *b, *c, *d])),
            (_, [a, b, c, d]) => f64::from(f32::from_le_bytes([*a, *b, *c, *d])),
            _ => panic!("{dtype:?} elements are not read back"),
        };
        let values: Vec<f64> = bytes.chunks_exact(dtype.size() as usize).map(element).collect();
        assert_eq!(count(dims), values.len(), "elements for sizes {dims:?}");
        Self { dtype, dims: dims.iter().copied().collect(), values }
    }

    /// Size of the last dimension; one for a scalar tensor.
    pub fn width(&self) -> usize {
        self.dims.last().map_or(1, |&d| d as usize)
    }

    /// Sizes as `usize`.
    pub fn sizes(&self) -> Vec<usize> {
        self.dims.iter().map(|&d| d as usize).collect()
    }
}

/// Elements of a tensor with these sizes.
pub fn count(dims: &[u32]) -> usize {
    dims.iter().map(|&d| d as usize).product()
}

/// Integers wrap, floats round to nearest even.
fn round_to(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::Bool => f64::from(u8::from(v != 0.0)),
        DType::U8 => f64::from(v as i64 as u8),
        DType::I8 => f64::from(v as i64 as i8),
        DType::I32 => f64::from(v as i64 as i32),
        DType::I64 | DType::F64 => v,
        DType::F16 => f16::from_f64(v).to_f64(),
        DType::F32 => f64::from(v as f32),
    }
}

/// The position of each element of a tensor, in row-major order.
pub fn positions(sizes: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..sizes.iter().product()).map(move |flat| {
        let mut rest: usize = flat;
        let mut position = vec![0; sizes.len()];
        for (at, &size) in position.iter_mut().zip(sizes).rev() {
            *at = rest % size;
            rest /= size;
        }
        position
    })
}

/// The row-major index of a position.
pub fn flat(sizes: &[usize], position: &[usize]) -> usize {
    sizes.iter().zip(position).fold(0, |index, (&size, &at)| index * size + at)
}
