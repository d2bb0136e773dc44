//! Element types of the host and of the GPU.

use etwgpu_graph::DType;
use half::f16;

use crate::status::Error;

/// Element type of a host tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostType {
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
    Bool,
}

impl HostType {
    /// From ExecuTorch's `ScalarType`.
    pub(crate) fn of(scalar_type: i8) -> Result<Self, Error> {
        Ok(match scalar_type {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::I16,
            3 => Self::I32,
            4 => Self::I64,
            5 => Self::F16,
            6 => Self::F32,
            7 => Self::F64,
            11 => Self::Bool,
            other => {
                return Err(Error::Type(format!("host tensors of ScalarType {other} are not supported")));
            }
        })
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::I16 | Self::F16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether elements cross the boundary unchanged.
    pub(crate) fn is(self, dtype: DType) -> bool {
        matches!(
            (self, dtype),
            (Self::U8, DType::U8)
                | (Self::I8, DType::I8)
                | (Self::I32, DType::I32)
                | (Self::I64, DType::I64)
                | (Self::F16, DType::F16)
                | (Self::F32, DType::F32)
                | (Self::F64, DType::F64)
                | (Self::Bool, DType::Bool)
        )
    }
}

/// ExecuTorch's `ScalarType` of a GPU element type.
pub fn scalar_type(dtype: DType) -> i8 {
    match dtype {
        DType::Bool => 11,
        DType::U8 => 0,
        DType::I8 => 1,
        DType::I32 => 3,
        DType::I64 => 4,
        DType::F16 => 5,
        DType::F32 => 6,
        DType::F64 => 7,
    }
}

fn mismatch(host: HostType, dtype: DType) -> Error {
    Error::Type(format!("host elements {host:?} do not convert to GPU elements {dtype:?}"))
}

/// Converts host elements to GPU elements into `out`. 64-bit integers must fit in 32 bits.
pub(crate) fn to_gpu(host: HostType, bytes: &[u8], dtype: DType, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    match (host, dtype) {
        (HostType::I64, DType::I32) => {
            for value in bytes.chunks_exact(8).map(i64_of) {
                let narrow = i32::try_from(value)
                    .map_err(|_| Error::Argument(format!("integer {value} does not fit in 32 bits")))?;
                out.extend_from_slice(&narrow.to_le_bytes());
            }
        }
        (HostType::F64, DType::F32) => {
            each(bytes, out, |b: [u8; 8]| (f64::from_le_bytes(b) as f32).to_le_bytes())
        }
        (HostType::F32, DType::F16) => {
            each(bytes, out, |b: [u8; 4]| f16::from_f32(f32::from_le_bytes(b)).to_le_bytes())
        }
        (HostType::F64, DType::F16) => {
            each(bytes, out, |b: [u8; 8]| f16::from_f64(f64::from_le_bytes(b)).to_le_bytes())
        }
        (HostType::F16, DType::F32) => {
            each(bytes, out, |b: [u8; 2]| f16::from_le_bytes(b).to_f32().to_le_bytes())
        }
        _ => return Err(mismatch(host, dtype)),
    }
    Ok(())
}

/// Converts GPU elements to host elements, which must be as many.
pub(crate) fn to_host(dtype: DType, bytes: &[u8], host: HostType, out: &mut [u8]) -> Result<(), Error> {
    if host.is(dtype) {
        out.copy_from_slice(bytes);
        return Ok(());
    }
    match (dtype, host) {
        (DType::I32, HostType::I64) => {
            fill(bytes, out, |b: [u8; 4]| i64::from(i32::from_le_bytes(b)).to_le_bytes())
        }
        (DType::F32, HostType::F64) => {
            fill(bytes, out, |b: [u8; 4]| f64::from(f32::from_le_bytes(b)).to_le_bytes())
        }
        (DType::F32, HostType::F16) => {
            fill(bytes, out, |b: [u8; 4]| f16::from_f32(f32::from_le_bytes(b)).to_le_bytes())
        }
        (DType::F16, HostType::F32) => {
            fill(bytes, out, |b: [u8; 2]| f16::from_le_bytes(b).to_f32().to_le_bytes())
        }
        (DType::F16, HostType::F64) => {
            fill(bytes, out, |b: [u8; 2]| f16::from_le_bytes(b).to_f64().to_le_bytes())
        }
        _ => return Err(mismatch(host, dtype)),
    }
    Ok(())
}

/// Elements of an integer host tensor.
pub(crate) fn integers(host: HostType, bytes: &[u8]) -> Result<impl Iterator<Item = i64> + Clone, Error> {
    let element: fn(&[u8]) -> i64 = match host {
        HostType::I64 => i64_of,
        HostType::I32 => |bytes| i64::from(i32::from_le_bytes(array(bytes))),
        other => return Err(Error::Type(format!("integers expected, the host passed {other:?}"))),
    };
    Ok(bytes.chunks_exact(host.size()).map(element))
}

fn i64_of(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(array(bytes))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

fn each<const A: usize, const B: usize>(
    bytes: &[u8],
    out: &mut Vec<u8>,
    convert: impl Fn([u8; A]) -> [u8; B],
) {
    out.extend(bytes.chunks_exact(A).flat_map(|b| convert(array(b))));
}

fn fill<const A: usize, const B: usize>(bytes: &[u8], out: &mut [u8], convert: impl Fn([u8; A]) -> [u8; B]) {
    for (from, to) in bytes.chunks_exact(A).zip(out.chunks_exact_mut(B)) {
        to.copy_from_slice(&convert(array(from)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_narrow_only_when_they_fit() {
        let mut out = Vec::new();
        let bytes: Vec<u8> = [7i64, -3].iter().flat_map(|v| v.to_le_bytes()).collect();
        to_gpu(HostType::I64, &bytes, DType::I32, &mut out).unwrap();
        assert!(integers(HostType::I32, &out).unwrap().eq([7, -3]));
        assert!(to_gpu(HostType::I64, &(1i64 << 40).to_le_bytes(), DType::I32, &mut out).is_err());
    }

    #[test]
    fn halves_round_to_nearest_even_and_come_back() {
        let mut out = Vec::new();
        to_gpu(HostType::F32, &1.000_976_6_f32.to_le_bytes(), DType::F16, &mut out).unwrap();
        let mut back = [0; 4];
        to_host(DType::F16, &out, HostType::F32, &mut back).unwrap();
        assert_eq!(f32::from_le_bytes(back), 1.000_976_6);
        assert!(to_host(DType::F16, &out, HostType::Bool, &mut [0]).is_err());
    }
}
