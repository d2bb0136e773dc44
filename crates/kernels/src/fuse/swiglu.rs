//! Gate, activation and product of a gated feed-forward: `silu(x·G) * (x·U)`.

use etwgpu_graph::ValueId;

use super::linears::{self, Linears};
use super::{Found, Fused, Miss, View, near};
use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Lower, Planner};
use crate::ops::linear::joint::Epilogue;
use crate::ops::{binary, unary};
use crate::route::{Refusal, require};

struct SwiGlu {
    /// Gate, then up.
    linears: Linears,
    /// Sigmoid, product with the gate, product with up.
    elementwise: [usize; 3],
    result: ValueId,
}

pub(super) fn find(view: &View<'_>) -> Found {
    Found::at(view.named(binary::MUL.names[0]), |product| ending_at(view, product))
}

fn ending_at(view: &View<'_>, product: usize) -> Result<SwiGlu, Miss> {
    let mut miss = None;
    // Either factor may be the activated gate, and either factor of that the sigmoid.
    for (gated, up) in [(0, 1), (1, 0)] {
        let Some(activated) = view.producer(product, gated, binary::MUL.names) else { continue };
        for (plain, squashed) in [(0, 1), (1, 0)] {
            let Some(sigmoid) = view.producer(activated, squashed, unary::SIGMOID.names) else { continue };
            if view.arg(sigmoid, 0) != view.arg(activated, plain) {
                continue;
            }
            let layers = linears::layer(view, activated, plain, "the gate")
                .and_then(|gate| Ok([gate, linears::layer(view, product, up, "the gated factor")?]));
            match layers.and_then(|layers| Linears::of(view, &layers)) {
                Ok(linears) if linears.layers[0] != linears.layers[1] => {
                    let result = *view.node(product).outs.first().ok_or(None)?;
                    return Ok(SwiGlu { linears, elementwise: [sigmoid, activated, product], result });
                }
                Ok(_) => miss = near("the gate gates itself"),
                Err(why) => miss = why,
            }
        }
    }
    Err(miss)
}

impl Fused for SwiGlu {
    fn name(&self) -> &'static str {
        "fuse.swiglu"
    }

    fn nodes(&self) -> Vec<usize> {
        let mut nodes = self.linears.nodes();
        nodes.extend(self.elementwise);
        nodes.sort_unstable();
        nodes
    }

    fn results(&self) -> Vec<ValueId> {
        vec![self.result]
    }

    fn fits(&self, cx: &NodeCx<'_>, _planner: &Planner<'_>) -> Result<(), Refusal> {
        let out = cx.at(self.elementwise[2]).out(0).map_err(|e| e.to_string())?;
        let outs = self.linears.outs(cx).map_err(|e| e.to_string())?;
        let same = |t: &TensorArg| t.numel() == out.numel() && t.dtype == out.dtype;
        require(outs.iter().all(same), "the product broadcasts, or its factors differ in type")
    }

    fn record(&self, lower: &mut Lower<'_>) -> Result<(), OpError> {
        let cx = lower.cx;
        let out = cx.at(self.elementwise[2]).out(0)?;
        let epilogue = Epilogue::SwiGlu(out.clone());
        let in_one = self.linears.fits_all(&cx, lower.caps(), epilogue.clone());
        lower.consider("norm_swiglu", in_one.clone());
        if in_one.is_ok() {
            return self.linears.record_all(lower, epilogue, "norm_swiglu");
        }
        let products = self.linears.fits_products(&cx, lower.planner(), epilogue.clone());
        lower.consider("swiglu_coop", products.clone());
        if products.is_ok() {
            return self.linears.record_products(lower, epilogue, "swiglu_coop");
        }
        linears::record_nodes(lower, &self.linears.nodes())?;
        let outs = self.linears.outs(&cx)?;
        binary::record_swiglu(lower, &outs[0], &outs[1], &out)
    }
}
