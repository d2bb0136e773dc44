//! A linear layer and the addition behind it.

use etwgpu_graph::ValueId;

use super::linears::{self, Linears};
use super::{Found, Fused, Miss, View, near};
use crate::args::{NodeCx, OpError};
use crate::lower::{Lower, Planner};
use crate::ops::linear::joint::Epilogue;
use crate::ops::linear::{Problem, ROUTES};
use crate::ops::{binary, linear};
use crate::route::{Refusal, require};

struct Residual {
    linears: Linears,
    add: usize,
    /// Which operand of the addition is not the product.
    other: usize,
    result: ValueId,
}

pub(super) fn find(view: &View<'_>) -> Found {
    Found::at(view.named(binary::ADD.names[0]), |add| ending_at(view, add))
}

fn ending_at(view: &View<'_>, add: usize) -> Result<Residual, Miss> {
    let is_plain = view.cx(add).float_opt(2).ok().ok_or(None)?.unwrap_or(1.0) == 1.0;
    // Of two products the later one takes the sum.
    let operands = [0, 1].map(|index| linears::producer(view, add, index));
    let (layer, other) = match operands {
        [Some(a), Some(b)] => {
            if a > b {
                (a, 1)
            } else {
                (b, 0)
            }
        }
        [Some(a), None] => (a, 1),
        [None, Some(b)] => (b, 0),
        [None, None] => {
            let is_float =
                [0, 1].iter().any(|&index| view.producer(add, index, linear::FLOAT.names).is_some());
            return Err(if is_float { near("the layer's weights are not 4-bit") } else { None });
        }
    };
    if !is_plain {
        return Err(near("the sum has a factor"));
    }
    let result = *view.node(add).outs.first().ok_or(None)?;
    Ok(Residual { linears: Linears::of(view, &[layer])?, add, other, result })
}

impl Residual {
    fn epilogue(&self, cx: &NodeCx<'_>) -> Result<Epilogue, OpError> {
        let add = cx.at(self.add);
        Ok(Epilogue::Residual { residual: add.tensor(self.other)?, out: add.out(0)? })
    }
}

impl Fused for Residual {
    fn name(&self) -> &'static str {
        "fuse.residual"
    }

    fn nodes(&self) -> Vec<usize> {
        let mut nodes = self.linears.nodes();
        nodes.push(self.add);
        nodes
    }

    fn results(&self) -> Vec<ValueId> {
        vec![self.result]
    }

    fn fits(&self, cx: &NodeCx<'_>, _planner: &Planner<'_>) -> Result<(), Refusal> {
        let epilogue = self.epilogue(cx).map_err(|e| e.to_string())?;
        let product = self.linears.outs(cx).map_err(|e| e.to_string())?;
        if let (Epilogue::Residual { residual, out }, [product]) = (&epilogue, &product[..]) {
            require(residual.dims == out.dims && product.numel() == out.numel(), "the sum broadcasts")?;
            require(
                residual.dtype == out.dtype && product.dtype == out.dtype,
                "operands of different types",
            )?;
        }
        Ok(())
    }

    fn record(&self, lower: &mut Lower<'_>) -> Result<(), OpError> {
        let cx = lower.cx;
        let epilogue = self.epilogue(&cx)?;
        let in_one = self.linears.fits_all(&cx, lower.caps(), epilogue.clone());
        lower.consider("linear_residual", in_one.clone());
        if in_one.is_ok() {
            return self.linears.record_all(lower, epilogue, "linear_residual");
        }
        let products = self.linears.fits_products(&cx, lower.planner(), epilogue.clone());
        lower.consider("residual_coop", products.clone());
        if products.is_ok() {
            return self.linears.record_products(lower, epilogue, "residual_coop");
        }
        let add = cx.at(self.add);
        let (residual, out) = (add.tensor(self.other)?, add.out(0)?);
        self.linears.record_inputs(lower)?;
        let layer = Problem::quantised(&cx.at(self.linears.layers[0]))?.with_residual(residual, out);
        lower.choose(ROUTES, &layer)
    }
}
