//! A tensor repeated along dimensions of size one and along new ones.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::Dims;

use crate::args::OpError;
use crate::invalid;
use crate::op::OpDef;
use crate::ops::binary::broadcast_strides;
use crate::ops::strided::{Origin, record};

/// Sizes in argument 1; -1 keeps a dimension's size.
pub const EXPAND: OpDef = OpDef::kernel(
    &["aten.expand_copy.default"],
    |cx| resolve(&cx.tensor(0)?.dims, &cx.ints(1)?).map(|dims| vec![dims]),
    |lower| {
        let (tensor, out) = (lower.cx.tensor(0)?, lower.cx.out(0)?);
        record(lower, &tensor, Origin::At(0), &broadcast_strides(&tensor.dims, &out.dims))
    },
);

fn resolve(from: &[u32], sizes: &[i64]) -> Result<Dims, OpError> {
    let fail = || invalid!("sizes {from:?} do not expand to {sizes:?}");
    let added = sizes.len().checked_sub(from.len()).ok_or_else(fail)?;
    let mut dims = Dims::new();
    for (i, &size) in sizes.iter().enumerate() {
        let own = i.checked_sub(added).map(|j| from[j]);
        let resolved = match (own, u32::try_from(size)) {
            (Some(own), Err(_)) if size == -1 => own,
            (None | Some(1), Ok(size)) => size,
            (Some(own), Ok(size)) if own == size => size,
            _ => return Err(fail()),
        };
        dims.try_push(resolved).map_err(|_| fail())?;
    }
    Ok(dims)
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn ones_grow_and_other_sizes_stay() {
        assert_eq!(resolve(&[3, 1], &[2, -1, 4]).unwrap()[..], [2, 3, 4]);
        assert_eq!(resolve(&[], &[2]).unwrap()[..], [2]);
        assert_eq!(resolve(&[1], &[0]).unwrap()[..], [0]);
        assert!(resolve(&[3], &[-1, 3]).is_err());
        assert!(resolve(&[3], &[4]).is_err());
        assert!(resolve(&[2, 3], &[3]).is_err());
    }
}
