//! The same elements with dimensions in another order.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::Dims;

use crate::args::{NodeCx, OpError, TensorArg};
use crate::invalid;
use crate::op::OpDef;
use crate::ops::strided::{Origin, contiguous, record};

/// Dimensions in the order that argument 1 gives.
pub const PERMUTE: OpDef = OpDef::kernel(
    &["aten.permute_copy.default", "aten.permute.default"],
    |cx| {
        let (tensor, order) = (cx.tensor(0)?, order(cx)?);
        Ok(vec![order.iter().map(|&d| tensor.dims[d]).collect()])
    },
    |lower| {
        let (tensor, order) = (lower.cx.tensor(0)?, order(&lower.cx)?);
        let from = contiguous(&tensor.dims);
        let strides: Dims = order.iter().map(|&d| from[d]).collect();
        record(lower, &tensor, Origin::At(0), &strides)
    },
);

/// Rows become columns; tensors of fewer dimensions stay as they are.
pub const TRANSPOSE: OpDef = OpDef::kernel(
    &["aten.t_copy.default"],
    |cx| {
        let dims = matrix(cx)?.dims;
        Ok(vec![dims.iter().rev().copied().collect()])
    },
    |lower| {
        let tensor = matrix(&lower.cx)?;
        let strides: Dims = contiguous(&tensor.dims).iter().rev().copied().collect();
        record(lower, &tensor, Origin::At(0), &strides)
    },
);

fn order(cx: &NodeCx<'_>) -> Result<Vec<usize>, OpError> {
    let tensor = cx.tensor(0)?;
    let given = cx.ints(1)?;
    let order = given.iter().map(|&d| tensor.dim(d)).collect::<Result<Vec<_>, _>>()?;
    let is_each_once = order.len() == tensor.dims.len() && (0..order.len()).all(|d| order.contains(&d));
    if is_each_once {
        Ok(order)
    } else {
        Err(invalid!("{given:?} does not order {} dimensions", tensor.dims.len()))
    }
}

fn matrix(cx: &NodeCx<'_>) -> Result<TensorArg, OpError> {
    let tensor = cx.tensor(0)?;
    match tensor.dims.len() {
        0..=2 => Ok(tensor),
        rank => Err(invalid!("cannot transpose a tensor of rank {rank}")),
    }
}
