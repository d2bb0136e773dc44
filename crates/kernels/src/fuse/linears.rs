//! Linear layers as parts of a fusion, and the fusion of a normalisation into the layers that read it.

use etwgpu_graph::{DType, ValueId};
use etwgpu_record::Caps;

use super::{Found, Fused, Miss, View, near};
use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Lower, Planner, record_node};
use crate::ops::linear::joint::{Epilogue, Joint, Norm, Quantise, Segment};
use crate::ops::linear::{Problem, coop, gemv};
use crate::ops::{linear, qparams, rms_norm};
use crate::route::{Refusal, require};

/// Linear layers over one input, with what is done to that input first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Linears {
    /// The layers, at most three.
    pub(super) layers: Vec<usize>,
    /// Normalisation of their input.
    norm: Option<usize>,
    /// Choices of quantisation parameters, where activations are quantised.
    qparams: Vec<usize>,
    /// The choice that the first layer uses. All are made from the same rows.
    first_choice: Option<usize>,
}

/// A linear layer with 4-bit weights that computes argument `index` of a node.
pub(super) fn producer(view: &View<'_>, node: usize, index: usize) -> Option<usize> {
    view.producer(node, index, &[linear::Q4.names[0], linear::DYNAMIC_Q8_Q4.names[0]])
}

/// Like [`producer`], with a reason where there is none. `what` is the argument in words.
pub(super) fn layer(view: &View<'_>, node: usize, index: usize, what: &str) -> Result<usize, Miss> {
    let why = || near(format!("{what} comes from no linear layer with 4-bit weights"));
    producer(view, node, index).ok_or_else(why)
}

impl Linears {
    /// Layers that share their input and kind.
    pub(super) fn of(view: &View<'_>, layers: &[usize]) -> Result<Self, Miss> {
        let &first = layers.first().ok_or(None)?;
        let same =
            |&l: &usize| view.arg(l, 0) == view.arg(first, 0) && view.node(l).op == view.node(first).op;
        if layers.len() > 3 {
            return Err(near(format!("{} layers share an input, one launch takes three", layers.len())));
        }
        if !layers.iter().all(same) {
            return Err(near("the layers differ in kind or in their input"));
        }
        let mut chosen = Vec::new();
        if view.node(first).op == linear::DYNAMIC_Q8_Q4.names[0] {
            for &layer in layers {
                let choice = view.producer(layer, 1, qparams::CHOOSE_QPARAMS.names);
                let why = || near("the quantisation parameters are not chosen from the layers' own input");
                let choice = choice.filter(|&c| view.arg(c, 0) == view.arg(first, 0)).ok_or_else(why)?;
                chosen.push(choice);
            }
        }
        let first_choice = chosen.first().copied();
        chosen.sort_unstable();
        chosen.dedup();
        let norm = view.producer(first, 0, rms_norm::RMS_NORM.names);
        let mut linears = Self { layers: layers.to_vec(), norm, qparams: chosen, first_choice };
        // A normalisation that others read too must be stored anyway.
        let all = linears.nodes();
        if norm.is_some_and(|n| view.readers(n, 0).iter().any(|r| !all.contains(r))) {
            linears.norm = None;
        }
        // So must parameters that other layers use.
        let all = linears.nodes();
        let private = |&q: &usize| (0..2).all(|out| view.readers(q, out).iter().all(|r| all.contains(r)));
        let is_private = linears.qparams.iter().all(private);
        if is_private { Ok(linears) } else { Err(near("others use the same quantisation parameters")) }
    }

    pub(super) fn has_norm(&self) -> bool {
        self.norm.is_some()
    }

    /// All nodes, in execution order.
    pub(super) fn nodes(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> =
            self.layers.iter().chain(&self.norm).chain(&self.qparams).copied().collect();
        nodes.sort_unstable();
        nodes
    }

    /// Whether one launch can do everything.
    pub(super) fn fits_all(&self, cx: &NodeCx<'_>, caps: &Caps, epilogue: Epilogue) -> Result<(), Refusal> {
        let joint = self.joint(cx, epilogue).map_err(|e| e.to_string())?;
        gemv::fits_joint(&joint, caps)
    }

    /// Whether the products fit one launch, behind the nodes that come before them.
    pub(super) fn fits_products(
        &self,
        cx: &NodeCx<'_>,
        planner: &Planner<'_>,
        epilogue: Epilogue,
    ) -> Result<(), Refusal> {
        require(!planner.avoids(coop::NAME), "the route for products is switched off")?;
        let (_, joint) = self.behind(cx, epilogue).map_err(|e| e.to_string())?;
        coop::fits_joint(&joint, planner.caps)
    }

    /// Records everything in one launch.
    pub(super) fn record_all(
        &self,
        lower: &mut Lower<'_>,
        epilogue: Epilogue,
        label: &'static str,
    ) -> Result<(), OpError> {
        let joint = self.joint(&lower.cx, epilogue)?;
        gemv::record_joint(lower, &joint, label)
    }

    /// Records the products in one launch, and what comes before them.
    pub(super) fn record_products(
        &self,
        lower: &mut Lower<'_>,
        epilogue: Epilogue,
        label: &'static str,
    ) -> Result<(), OpError> {
        let (before, joint) = self.behind(&lower.cx, epilogue)?;
        record_nodes(lower, &before)?;
        coop::record_joint(lower, &joint, label)
    }

    /// Records what comes before the layers as nodes of their own.
    pub(super) fn record_inputs(&self, lower: &mut Lower<'_>) -> Result<(), OpError> {
        let before: Vec<usize> = self.norm.iter().chain(&self.qparams).copied().collect();
        record_nodes(lower, &before)
    }

    fn problems(&self, cx: &NodeCx<'_>) -> Result<Vec<Problem>, OpError> {
        self.layers.iter().map(|&l| Problem::quantised(&cx.at(l))).collect()
    }

    /// All of it at the live sizes.
    fn joint(&self, cx: &NodeCx<'_>, epilogue: Epilogue) -> Result<Joint, OpError> {
        let mut joint = self.products(cx, epilogue)?;
        if let Some(node) = self.norm {
            joint.x = cx.at(node).tensor(0)?;
            joint.norm = Some(norm_of(&cx.at(node))?);
        }
        joint.quantise = if self.qparams.is_empty() { Quantise::No } else { Quantise::Here };
        Ok(joint)
    }

    /// What is left behind nodes that run by themselves, and those: parameters in `f16` are rounded where they are stored.
    fn behind(&self, cx: &NodeCx<'_>, epilogue: Epilogue) -> Result<(Vec<usize>, Joint), OpError> {
        let products = self.products(cx, epilogue.clone())?;
        if self.qparams.is_empty() || products.x.dtype == DType::F32 {
            return Ok((Vec::new(), self.joint(cx, epilogue)?));
        }
        Ok((self.norm.into_iter().chain(self.first_choice).collect(), products))
    }

    /// The products alone, with the first layer's choice of parameters for all.
    fn products(&self, cx: &NodeCx<'_>, epilogue: Epilogue) -> Result<Joint, OpError> {
        let problems = self.problems(cx)?;
        let Some(first) = problems.first() else { return Err(crate::invalid!("a fusion without layers")) };
        self.qparams.iter().try_for_each(|&node| qparams::check(&cx.at(node)))?;
        if let Some(out) = self.outs(cx)?.iter().find(|out| out.dtype != first.x.dtype) {
            return Err(crate::unsupported!("{:?} activations into {:?}", first.x.dtype, out.dtype));
        }
        Ok(Joint {
            m: first.m,
            k: first.k,
            x: first.x.clone(),
            norm: None,
            quantise: first.dynamic.clone().map_or(Quantise::No, Quantise::Given),
            segments: problems.iter().map(Segment::of).collect::<Result<_, _>>()?,
            epilogue,
        })
    }

    /// Outputs of the layers.
    pub(super) fn outs(&self, cx: &NodeCx<'_>) -> Result<Vec<TensorArg>, OpError> {
        self.layers.iter().map(|&l| cx.at(l).out(0)).collect()
    }
}

/// Records nodes one by one, in the place of a group.
pub(super) fn record_nodes(lower: &mut Lower<'_>, nodes: &[usize]) -> Result<(), OpError> {
    nodes.iter().try_for_each(|&node| lower.for_node(node, record_node))
}

fn norm_of(cx: &NodeCx<'_>) -> Result<Norm, OpError> {
    let [_, weight, _] = rms_norm::operands(cx)?;
    Ok(Norm { weight, eps: rms_norm::epsilon(cx)? })
}

/// A normalisation, or quantisation, and the layers behind it.
struct NormLinears {
    linears: Linears,
    results: Vec<ValueId>,
}

pub(super) fn find(view: &View<'_>) -> Found {
    let mut found = Found::default();
    let mut seen = Vec::new();
    let mut layers = view.named(linear::Q4.names[0]);
    layers.extend(view.named(linear::DYNAMIC_Q8_Q4.names[0]));
    layers.sort_unstable();
    for &layer in &layers {
        let input = view.arg(layer, 0);
        if seen.contains(&input) {
            continue;
        }
        seen.push(input);
        let siblings: Vec<usize> = layers.iter().copied().filter(|&l| view.arg(l, 0) == input).collect();
        let last = siblings.last().copied().unwrap_or(layer);
        found.note(last, of_siblings(view, &siblings));
    }
    found
}

fn of_siblings(view: &View<'_>, siblings: &[usize]) -> Result<NormLinears, Miss> {
    let linears = Linears::of(view, siblings)?;
    // A layer on its own has nothing to be fused with.
    let results = siblings.iter().flat_map(|&l| view.node(l).outs.clone()).collect();
    if linears.nodes().len() > 1 { Ok(NormLinears { linears, results }) } else { Err(None) }
}

impl Fused for NormLinears {
    fn name(&self) -> &'static str {
        "fuse.norm_linears"
    }

    fn nodes(&self) -> Vec<usize> {
        self.linears.nodes()
    }

    fn results(&self) -> Vec<ValueId> {
        self.results.clone()
    }

    fn fits(&self, cx: &NodeCx<'_>, planner: &Planner<'_>) -> Result<(), Refusal> {
        let outs = self.linears.outs(cx).map_err(|e| e.to_string())?;
        let epilogue = Epilogue::Store(outs);
        let Err(refusal) = self.linears.fits_all(cx, planner.caps, epilogue.clone()) else { return Ok(()) };
        // A single layer is left to its own routes, behind the nodes before it.
        let several = self.linears.layers.len() > 1;
        if several { self.linears.fits_products(cx, planner, epilogue) } else { Err(refusal) }
    }

    fn record(&self, lower: &mut Lower<'_>) -> Result<(), OpError> {
        let cx = lower.cx;
        let epilogue = Epilogue::Store(self.linears.outs(&cx)?);
        let in_one = self.linears.fits_all(&cx, lower.caps(), epilogue.clone());
        let label = if self.linears.has_norm() { "norm_linears" } else { "linears" };
        lower.consider(label, in_one.clone());
        match in_one {
            Ok(()) => self.linears.record_all(lower, epilogue, label),
            Err(_) => {
                lower.consider("linears_coop", Ok(()));
                self.linears.record_products(lower, epilogue, "linears_coop")
            }
        }
    }
}
