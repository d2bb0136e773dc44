//! Views, clones and squeezes: the same elements under other sizes.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{Dims, Value};

use crate::args::{NodeCx, OpError};
use crate::invalid;
use crate::lower::{Launch, Lower};
use crate::op::{Body, OpDef};
use crate::template::Template;

const fn alias(names: &'static [&'static str], shape: crate::op::ShapeFn) -> OpDef {
    OpDef { names, body: Body::Alias(shape), mutates: &[], recheck: None }
}

/// Copies that change neither sizes nor elements.
pub const CLONE: OpDef = alias(
    &["aten.clone.default", "aten.alias_copy.default", "dim_order_ops._clone_dim_order.default"],
    |cx| Ok(vec![cx.tensor(0)?.dims]),
);

/// Reshape to the sizes of argument 1.
pub const VIEW: OpDef = alias(&["aten.view_copy.default"], |cx| {
    let tensor = cx.tensor(0)?;
    let sizes = cx.ints(1)?;
    Ok(vec![resolve(&tensor.dims, &sizes)?])
});

/// Drops the dimensions of argument 1 that have size one.
pub const SQUEEZE: OpDef = alias(&["aten.squeeze_copy.dims", "aten.squeeze_copy.dim"], |cx| {
    let tensor = cx.tensor(0)?;
    let drop = cx.ints(1)?.iter().map(|&d| tensor.dim(d)).collect::<Result<Vec<_>, _>>()?;
    // What is dropped follows the declared sizes: a live size of one does not change a tensor's rank.
    let bound = cx.bound(0)?;
    let keep = |i: &usize| !(drop.contains(i) && bound.get(*i) == Some(&1));
    Ok(vec![(0..tensor.dims.len()).filter(keep).map(|i| tensor.dims[i]).collect()])
});

/// Inserts a dimension of size one.
pub const UNSQUEEZE: OpDef = alias(&["aten.unsqueeze_copy.default"], |cx| {
    let tensor = cx.tensor(0)?;
    let dim = cx.int(1)?;
    let rank = tensor.dims.len() as i64 + 1;
    let at = if dim < 0 { dim + rank } else { dim };
    let mut dims = tensor.dims.clone();
    if at < 0 || at >= rank || dims.try_insert(at as usize, 1).is_err() {
        return Err(invalid!("cannot insert dimension {dim} into a tensor of rank {}", tensor.dims.len()));
    }
    Ok(vec![dims])
});

/// Fills in a size of -1 and checks that the element count stays.
fn resolve(from: &[u32], sizes: &[i64]) -> Result<Dims, OpError> {
    let product = |sizes: &[i64]| sizes.iter().try_fold(1i64, |n, &s| n.checked_mul(s));
    let wrong = || invalid!("sizes {sizes:?} do not hold the elements of {from:?}");
    let total: i64 = from.iter().map(|&d| i64::from(d)).product();
    let known: Vec<i64> = sizes.iter().copied().filter(|&s| s != -1).collect();
    let known = product(&known).ok_or_else(wrong)?;
    let inferred = if known == 0 { 0 } else { total / known };
    let resolved: Vec<i64> = sizes.iter().map(|&s| if s == -1 { inferred } else { s }).collect();
    if product(&resolved) != Some(total) || resolved.iter().any(|s| u32::try_from(*s).is_err()) {
        return Err(wrong());
    }
    let mut dims = Dims::new();
    for size in resolved {
        dims.try_push(size as u32)
            .map_err(|_| invalid!("rank {} exceeds {}", sizes.len(), dims.capacity()))?;
    }
    Ok(dims)
}

/// Copies argument 0 to the output word by word: for aliases whose source is overwritten later.
pub fn record_copy(lower: &mut Lower<'_>) -> Result<(), OpError> {
    const WG: u32 = 256;
    let (source, out) = (lower.cx.tensor(0)?, lower.cx.out(0)?);
    let words = out.bytes().div_ceil(4);
    let bindings = vec![lower.read(&source), lower.write(&out)];
    let grid = lower.grid(words.div_ceil(WG.into()));
    let shader = Template::new("copy", include_str!("copy.wgsl")).set("WG", WG).shader();
    lower.launch(Launch { shader, bindings, params: vec![words as u32], grid, ops: 0 })
}

/// Whether argument `index` holds no value.
pub fn is_none(cx: &NodeCx<'_>, index: usize) -> bool {
    matches!(cx.value(index), Value::None)
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn views_infer_one_size_and_keep_the_count() {
        assert_eq!(resolve(&[2, 6], &[3, -1]).unwrap()[..], [3, 4]);
        assert_eq!(resolve(&[1, 0, 4], &[-1, 4]).unwrap()[..], [0, 4]);
        assert!(resolve(&[2, 6], &[5, -1]).is_err());
        assert!(resolve(&[0], &[1 << 31, 1 << 31, 4]).is_err(), "a count beyond 64 bits");
    }
}
