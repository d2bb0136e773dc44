//! Integers that the host computes: sizes, positions, arithmetic on them.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::Value;

use crate::args::{NodeCx, OpError};
use crate::invalid;
use crate::op::{Body, OpDef};

const fn scalar(names: &'static [&'static str], eval: fn(&NodeCx<'_>) -> Result<i64, OpError>) -> OpDef {
    OpDef { names, body: Body::Scalar(eval), mutates: &[], recheck: None }
}

/// Live size of a dimension.
pub const SIZE: OpDef = scalar(&["sym_size.int"], |cx| {
    let tensor = cx.tensor(0)?;
    let dim = tensor.dim(cx.int(1)?)?;
    tensor.dims.get(dim).map(|&d| i64::from(d)).ok_or_else(|| invalid!("a scalar tensor has no sizes"))
});

/// Element of a host input, as an integer. Zero until the host passed one.
pub const SELECT: OpDef = scalar(&["et_vk.select_as_symint.default"], |cx| {
    let tensor = cx.tensor(0)?;
    if !cx.graph.inputs.contains(&tensor.id) {
        return Err(invalid!("reads an integer from %{}, which is no input of the delegate", tensor.id.0));
    }
    let Some(host) = cx.live.host.get(&tensor.id) else { return Ok(0) };
    let index = element(cx, &tensor.dims)?;
    let value =
        host.get(index).copied().ok_or_else(|| invalid!("element {index} of an input of {}", host.len()))?;
    if i32::try_from(value).is_err() {
        return Err(invalid!("value {value} does not fit in 32 bits"));
    }
    Ok(value)
});

/// Position of element `[0, …, index in dim, …, 0]`.
fn element(cx: &NodeCx<'_>, dims: &[u32]) -> Result<usize, OpError> {
    let tensor = cx.tensor(0)?;
    let dim = tensor.dim(cx.int(1)?)?;
    let size = i64::from(dims.get(dim).copied().unwrap_or(1));
    let given = cx.int(2)?;
    let index = if given < 0 { given + size } else { given };
    if index < 0 || index >= size {
        return Err(invalid!("index {given} is outside dimension {dim} of size {size}"));
    }
    let stride: i64 = dims.iter().skip(dim + 1).map(|&d| i64::from(d)).product();
    Ok((index * stride) as usize)
}

fn operands(cx: &NodeCx<'_>) -> Result<(i64, i64), OpError> {
    Ok((cx.int(0)?, cx.int(1)?))
}

fn in_range(value: Option<i64>) -> Result<i64, OpError> {
    let value = value.filter(|v| i32::try_from(*v).is_ok());
    value.ok_or_else(|| invalid!("the result does not fit in 32 bits"))
}

/// Sum of two integers.
pub const ADD: OpDef = scalar(&["add"], |cx| {
    let (a, b) = operands(cx)?;
    in_range(a.checked_add(b))
});

/// Difference of two integers.
pub const SUB: OpDef = scalar(&["sub"], |cx| {
    let (a, b) = operands(cx)?;
    in_range(a.checked_sub(b))
});

/// Product of two integers.
pub const MUL: OpDef = scalar(&["mul"], |cx| {
    let (a, b) = operands(cx)?;
    in_range(a.checked_mul(b))
});

/// Quotient rounded toward minus infinity. While nothing is known of the inputs, symbolic divisors are zero.
pub const FLOOR_DIV: OpDef = scalar(&["floordiv"], |cx| {
    let (a, b) = operands(cx)?;
    match b {
        0 if cx.live.host.is_empty() && matches!(cx.value(1), Value::SymInt) => Ok(0),
        0 => Err(invalid!("division of {a} by zero")),
        _ => in_range(a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })),
    }
});
