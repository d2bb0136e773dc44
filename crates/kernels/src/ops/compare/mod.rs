//! Comparisons with a tensor or a number.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{DType, Dims, Value};
use half::f16;

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::binary::{broadcast, broadcast_params};
use crate::template::Template;
use crate::unsupported;

/// `a == b`.
pub const EQ: OpDef =
    OpDef::kernel(&["aten.eq.Scalar", "aten.eq.Tensor"], shape, |lower| record(lower, "eq", "EQ"));
/// `a != b`.
pub const NE: OpDef =
    OpDef::kernel(&["aten.ne.Scalar", "aten.ne.Tensor"], shape, |lower| record(lower, "ne", "NE"));
/// `a < b`.
pub const LT: OpDef =
    OpDef::kernel(&["aten.lt.Scalar", "aten.lt.Tensor"], shape, |lower| record(lower, "lt", "LT"));
/// `a <= b`.
pub const LE: OpDef =
    OpDef::kernel(&["aten.le.Scalar", "aten.le.Tensor"], shape, |lower| record(lower, "le", "LE"));
/// `a > b`.
pub const GT: OpDef =
    OpDef::kernel(&["aten.gt.Scalar", "aten.gt.Tensor"], shape, |lower| record(lower, "gt", "GT"));
/// `a >= b`.
pub const GE: OpDef =
    OpDef::kernel(&["aten.ge.Scalar", "aten.ge.Tensor"], shape, |lower| record(lower, "ge", "GE"));

fn shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    let a = cx.tensor(0)?.dims;
    Ok(vec![if is_tensor(cx) { broadcast(&a, &cx.tensor(1)?.dims)? } else { a }])
}

fn is_tensor(cx: &NodeCx<'_>) -> bool {
    matches!(cx.value(1), Value::Tensor(_))
}

fn record(lower: &mut Lower<'_>, label: &'static str, function: &'static str) -> Result<(), OpError> {
    let a = lower.cx.tensor(0)?;
    if is_tensor(&lower.cx) {
        let b = lower.cx.tensor(1)?;
        return record_with(lower, label, function, &a, &Other::Tensor(b));
    }
    let number = lower.number(1)?;
    record_with(lower, label, function, &a, &Other::Number(number))
}

/// What a tensor is compared with.
pub(crate) enum Other {
    Tensor(TensorArg),
    Number(f64),
}

/// Compares `a` with another tensor or a number into output 0.
pub(crate) fn record_with(
    lower: &mut Lower<'_>,
    label: &'static str,
    function: &'static str,
    a: &TensorArg,
    other: &Other,
) -> Result<(), OpError> {
    const WG: u32 = 256;
    let out = lower.cx.out(0)?;
    if !matches!(a.dtype, DType::F32 | DType::F16 | DType::I32) || out.dtype != DType::Bool {
        return Err(unsupported!("{:?} compared into {:?}", a.dtype, out.dtype));
    }
    let (scalar, int_work) = match other {
        Other::Tensor(_) => (0, a.dtype == DType::I32),
        Other::Number(number) => number_bits(a.dtype, *number),
    };
    let mut params = vec![out.numel() as u32, scalar];
    let mut bindings = vec![lower.read(a), lower.write(&out)];
    let mut same = true;
    if let Other::Tensor(b) = other {
        if b.dtype != a.dtype {
            return Err(unsupported!("{:?} compared with {:?}", a.dtype, b.dtype));
        }
        bindings.push(lower.read(b));
        same = a.dims == out.dims && b.dims == out.dims;
        if !same {
            params.extend([0, 0]);
            params.extend(broadcast_params(&out, &[a, b]));
        }
    }
    let grid = lower.grid(out.numel().div_ceil(4).div_ceil(WG.into()));
    let shader = Template::new(label, include_str!("compare.wgsl"))
        .set("WG", WG)
        .flag(function, true)
        .flag("INT", a.dtype == DType::I32)
        .flag("INT_WORK", int_work)
        .flag("F16", a.dtype == DType::F16)
        .flag("SCALAR", matches!(other, Other::Number(_)))
        .flag("BROADCAST", !same)
        .shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: out.numel() })
}

/// A number as elements of `dtype` meet it, and whether they meet as integers.
fn number_bits(dtype: DType, number: f64) -> (u32, bool) {
    let is_i32 = f64::from(number as i32) == number;
    match dtype {
        DType::I32 if is_i32 => (number as i32 as u32, true),
        DType::F16 => (f16::from_f64(number).to_f32().to_bits(), false),
        _ => ((number as f32).to_bits(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_meet_whole_numbers_as_integers() {
        assert_eq!(number_bits(DType::I32, -3.0), (-3i32 as u32, true));
        assert_eq!(number_bits(DType::I32, 0.5), (0.5f32.to_bits(), false));
        assert_eq!(number_bits(DType::I32, f64::NEG_INFINITY), (f32::NEG_INFINITY.to_bits(), false));
        assert_eq!(number_bits(DType::F32, 2.0), (2.0f32.to_bits(), false));
        assert_eq!(number_bits(DType::F16, 0.1).0, f16::from_f64(0.1).to_f32().to_bits());
    }
}
