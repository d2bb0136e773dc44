//! Rows picked by an index tensor: embedding tables, `index.Tensor` with one index.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{DType, Dims};

use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::template::Template;
use crate::{invalid, unsupported};

/// `weight[indices]` for a table `[V, E]`.
pub const EMBEDDING: OpDef = OpDef::kernel(
    &["aten.embedding.default"],
    |cx| Ok(vec![picked_dims(&cx.tensor(0)?, 0, &cx.tensor(1)?)?]),
    |lower| {
        let (table, index) = (lower.cx.tensor(0)?, lower.cx.tensor(1)?);
        record(lower, "embedding", &table, 0, &index)
    },
);

/// `self[:, …, index]` with an index in exactly one position.
pub const INDEX: OpDef = OpDef::kernel(
    &["aten.index.Tensor"],
    |cx| {
        let (dim, index) = single_index(cx)?;
        Ok(vec![picked_dims(&cx.tensor(0)?, dim, &index)?])
    },
    |lower| {
        let table = lower.cx.tensor(0)?;
        let (dim, index) = single_index(&lower.cx)?;
        record(lower, "index", &table, dim, &index)
    },
);

fn single_index(cx: &NodeCx<'_>) -> Result<(usize, TensorArg), OpError> {
    let mut given = cx.tensors(1)?.into_iter().enumerate().filter_map(|(dim, index)| Some((dim, index?)));
    match (given.next(), given.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(unsupported!("exactly one index tensor is supported")),
    }
}

/// The index's sizes take the place of dimension `dim`.
fn picked_dims(table: &TensorArg, dim: usize, index: &TensorArg) -> Result<Dims, OpError> {
    if dim >= table.dims.len() {
        return Err(invalid!("index position {dim} is outside a tensor of rank {}", table.dims.len()));
    }
    let sizes = table.dims[..dim].iter().chain(&index.dims).chain(&table.dims[dim + 1..]);
    let mut dims = Dims::new();
    for &size in sizes {
        dims.try_push(size).map_err(|_| invalid!("the result has too many dimensions"))?;
    }
    Ok(dims)
}

fn record(
    lower: &mut Lower<'_>,
    label: &'static str,
    table: &TensorArg,
    dim: usize,
    index: &TensorArg,
) -> Result<(), OpError> {
    const WG: u32 = 256;
    let out = lower.cx.out(0)?;
    let inner: u32 = table.dims[dim + 1..].iter().product();
    let element = table.dtype.size() as u32;
    if index.dtype != DType::I32 || out.dtype != table.dtype || element > 4 {
        return Err(unsupported!("{:?} picked by {:?} into {:?}", table.dtype, index.dtype, out.dtype));
    }
    let rows = table.dims[dim];
    if rows == 0 && out.numel() > 0 {
        return Err(invalid!("{} rows picked from none", index.numel()));
    }
    // Rows that end on a word move word by word.
    let item = if (inner * element).is_multiple_of(4) { 4 } else { element };
    let items = out.bytes() / u64::from(item);
    let words = out.bytes().div_ceil(4);
    let params = vec![items as u32, inner * element / item, index.numel() as u32, rows];
    let bindings = vec![lower.read(table).touching(out.bytes()), lower.read(index), lower.write(&out)];
    let grid = lower.grid(words.div_ceil(WG.into()));
    let template = Template::new(label, include_str!("gather.wgsl"));
    let shader = template.set("WG", WG).set("ELEMENT_BYTES", item).shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: 0 })
}
