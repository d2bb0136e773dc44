//! Slices and selections: every output element is a source element at an affine position.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{Dims, ValueId};

use crate::args::{NodeCx, OpError, TensorArg};
use crate::invalid;
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::template::Template;

/// `self[dim, start:end:step]` with Python's clamping.
pub const SLICE: OpDef = OpDef::kernel(
    &["aten.slice_copy.Tensor"],
    |cx| {
        let (tensor, slice) = (cx.tensor(0)?, Slice::of(cx)?);
        let mut dims = tensor.dims;
        dims[slice.dim] = slice.len;
        Ok(vec![dims])
    },
    |lower| {
        if lower.cx.symbolic(4).is_some() {
            lower.follow_integers();
        }
        let (tensor, slice) = (lower.cx.tensor(0)?, Slice::of(&lower.cx)?);
        let mut strides = contiguous(&tensor.dims);
        let stride = strides[slice.dim];
        strides[slice.dim] *= slice.step;
        let origin = match lower.cx.symbolic(2) {
            Some(start) => Origin::Follows { start, size: tensor.dims[slice.dim], stride },
            None => Origin::At(slice.start * stride),
        };
        record(lower, &tensor, origin, &strides)
    },
);

/// `self` at one index of a dimension, which disappears.
pub const SELECT: OpDef = OpDef::kernel(
    &["aten.select_copy.int"],
    |cx| {
        let tensor = cx.tensor(0)?;
        let mut dims = tensor.dims.clone();
        dims.remove(select_position(cx, &tensor)?.0);
        Ok(vec![dims])
    },
    |lower| {
        let tensor = lower.cx.tensor(0)?;
        let (dim, index) = select_position(&lower.cx, &tensor)?;
        let mut strides = contiguous(&tensor.dims);
        let offset = index * strides.remove(dim);
        record(lower, &tensor, Origin::At(offset), &strides)
    },
);

struct Slice {
    dim: usize,
    start: u32,
    len: u32,
    step: u32,
}

impl Slice {
    fn of(cx: &NodeCx<'_>) -> Result<Self, OpError> {
        let tensor = cx.tensor(0)?;
        let dim = tensor.dim(cx.int_or(1, 0)?)?;
        let size = i64::from(*tensor.dims.get(dim).ok_or_else(|| invalid!("cannot slice a scalar tensor"))?);
        let clamp = |v: i64| if v < 0 { (v + size).max(0) } else { v.min(size) };
        let (start, end) = (clamp(cx.int_or(2, 0)?), clamp(cx.int_or(3, i64::MAX)?));
        let step = cx.int_or(4, 1)?;
        if step < 1 || step > i64::from(u32::MAX) {
            return Err(invalid!("slice step {step} is not positive"));
        }
        let len = (end - start).max(0).div_ceil_by(step);
        Ok(Self { dim, start: start as u32, len: len as u32, step: step as u32 })
    }
}

trait DivCeilBy {
    fn div_ceil_by(self, step: Self) -> Self;
}

impl DivCeilBy for i64 {
    fn div_ceil_by(self, step: Self) -> Self {
        (self + step - 1) / step
    }
}

fn select_position(cx: &NodeCx<'_>, tensor: &TensorArg) -> Result<(usize, u32), OpError> {
    let dim = tensor.dim(cx.int_or(1, 0)?)?;
    let size =
        i64::from(*tensor.dims.get(dim).ok_or_else(|| invalid!("cannot select from a scalar tensor"))?);
    let given = cx.int(2)?;
    let index = if given < 0 { given + size } else { given };
    if index < 0 || index >= size {
        return Err(invalid!("select index {given} is outside dimension {dim} of size {size}"));
    }
    Ok((dim, index as u32))
}

/// Strides of a row-major tensor.
pub(crate) fn contiguous(dims: &[u32]) -> Dims {
    let mut strides: Dims = dims.iter().copied().collect();
    let mut stride = 1;
    for (s, &d) in strides.iter_mut().zip(dims).rev() {
        *s = stride;
        stride *= d;
    }
    strides
}

/// Pads to eight entries, innermost last, as the shader's two `vec4`s.
pub(crate) fn pad8(values: &[u32], fill: u32) -> [u32; 8] {
    let mut padded = [fill; 8];
    padded[8 - values.len()..].copy_from_slice(values);
    padded
}

/// Which element of the source is the first of a copy.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    /// Always this one.
    At(u32),
    /// The one at a position in a dimension of this size and stride that follows a symbolic integer, clamped as Python does.
    Follows { start: ValueId, size: u32, stride: u32 },
}

/// Records a copy into output 0 of the elements at `origin + sum of coordinate * stride`, unless those are all of the source
/// in its order.
pub(crate) fn record(
    lower: &mut Lower<'_>,
    source: &TensorArg,
    origin: Origin,
    strides: &[u32],
) -> Result<(), OpError> {
    const WG: u32 = 256;
    // Which parameter is `start`.
    const START: u32 = 3;
    let out = lower.cx.out(0)?;
    let in_order =
        out.dims.iter().zip(strides).zip(contiguous(&out.dims)).all(|((&d, &s), c)| d == 1 || s == c);
    if matches!(origin, Origin::At(0)) && in_order && lower.shares(source)? {
        return Ok(());
    }
    let element = out.dtype.size();
    if element > 4 || source.dtype.size() != element {
        return Err(crate::unsupported!("{:?} elements copied to {:?}", source.dtype, out.dtype));
    }
    let words = out.bytes().div_ceil(4);
    let (offset, symbol, [start, size, stride]) = match origin {
        Origin::At(offset) => (offset, None, [0; 3]),
        Origin::Follows { start, size, stride } => {
            (0, Some(start), [lower.cx.live.ints[start.index()] as u32, size, stride])
        }
    };
    let mut params = vec![out.numel() as u32, words as u32, offset, start];
    params.extend(pad8(&out.dims, 1));
    params.extend(pad8(strides, 0));
    params.extend([size, stride]);
    let bindings = vec![lower.read(source).touching(out.bytes()), lower.write(&out)];
    let grid = lower.grid(words.div_ceil(WG.into()));
    let shader = Template::new("strided_copy", include_str!("strided.wgsl"))
        .set("WG", WG)
        .set("ELEMENT_BYTES", element as u32)
        .shader();
    lower.launch_live(Launch { shader, bindings, params, grid, ops: 0 }, &[(START, symbol)])
}
