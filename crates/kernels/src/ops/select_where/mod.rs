//! A choice between two tensors, element by element.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{DType, Dims};

use crate::args::{NodeCx, OpError};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::binary::{broadcast, broadcast_params};
use crate::template::Template;
use crate::unsupported;

/// `condition ? a : b`, with broadcasting.
pub const WHERE: OpDef = OpDef::kernel(&["aten.where.self"], shape, lower);

fn shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    let values = broadcast(&cx.tensor(1)?.dims, &cx.tensor(2)?.dims)?;
    broadcast(&cx.tensor(0)?.dims, &values).map(|dims| vec![dims])
}

fn lower(lower: &mut Lower<'_>) -> Result<(), OpError> {
    const WG: u32 = 256;
    let cx = &lower.cx;
    let (condition, a, b, out) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?, cx.out(0)?);
    let element = out.dtype.size();
    if condition.dtype != DType::Bool || a.dtype != out.dtype || b.dtype != out.dtype || element > 4 {
        return Err(unsupported!(
            "{:?} ? {:?} : {:?} into {:?}",
            condition.dtype,
            a.dtype,
            b.dtype,
            out.dtype
        ));
    }
    let words = out.bytes().div_ceil(4);
    let mut params = vec![out.numel() as u32, words as u32, 0, 0];
    params.extend(broadcast_params(&out, &[&condition, &a, &b]));
    let bindings = vec![lower.read(&condition), lower.read(&a), lower.read(&b), lower.write(&out)];
    let grid = lower.grid(words.div_ceil(WG.into()));
    let template = Template::new("where", include_str!("where.wgsl"));
    let shader = template.set("WG", WG).set("ELEMENT_BYTES", element as u32).shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: 0 })
}
