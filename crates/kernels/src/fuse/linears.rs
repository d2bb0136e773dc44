//! Linear layers as parts of a fusion, and the fusion of a normalisation into the layers that read it.

use etwgpu_graph::ValueId;
use etwgpu_record::Caps;

use super::{Fused, View};
use crate::args::{NodeCx, OpError, TensorArg};
use crate::lower::{Lower, record_node};
use crate::ops::linear::gemv::{Epilogue, Gemv, Norm, Quantise, Segment, fits_shape};
use crate::ops::linear::{Problem, Weights};
use crate::ops::{linear, qparams, rms_norm};
use crate::route::{Refusal, require};

/// Linear layers over one input, with what is done to that input first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Linears {
    /// The layers, at most three.
    pub(super) layers: Vec<usize>,
    /// Normalisation of their input.
    norm: Option<usize>,
    /// Choice of quantisation parameters, where activations are quantised.
    qparams: Vec<usize>,
}

/// A linear layer with 4-bit weights that computes argument `index` of a node.
pub(super) fn producer(view: &View<'_>, node: usize, index: usize) -> Option<usize> {
    view.producer(node, index, &[linear::Q4.names[0], linear::DYNAMIC_Q8_Q4.names[0]])
}

impl Linears {
    /// Layers that share their input and kind; none when they do not.
    pub(super) fn of(view: &View<'_>, layers: &[usize]) -> Option<Self> {
        let &first = layers.first()?;
        let same =
            |&l: &usize| view.arg(l, 0) == view.arg(first, 0) && view.node(l).op == view.node(first).op;
        if layers.len() > 3 || !layers.iter().all(same) {
            return None;
        }
        let mut chosen = Vec::new();
        if view.node(first).op == linear::DYNAMIC_Q8_Q4.names[0] {
            for &layer in layers {
                let choice = view.producer(layer, 1, qparams::CHOOSE_QPARAMS.names)?;
                if view.arg(choice, 0) != view.arg(first, 0) {
                    return None;
                }
                chosen.push(choice);
            }
            chosen.sort_unstable();
            chosen.dedup();
        }
        let norm = view.producer(first, 0, rms_norm::RMS_NORM.names);
        let mut linears = Self { layers: layers.to_vec(), norm, qparams: chosen };
        // A normalisation that others read too must be stored anyway.
        let all = linears.nodes();
        if norm.is_some_and(|n| view.readers(n, 0).iter().any(|r| !all.contains(r))) {
            linears.norm = None;
        }
        // So must parameters that other layers use.
        let all = linears.nodes();
        let private = |&q: &usize| (0..2).all(|out| view.readers(q, out).iter().all(|r| all.contains(r)));
        linears.qparams.iter().all(private).then_some(linears)
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

    /// Whether the products fit one launch; the number of buffers is checked with the launch itself.
    pub(super) fn fits(&self, cx: &NodeCx<'_>, caps: &Caps, epilogue: Epilogue) -> Result<(), Refusal> {
        let gemv = self.gemv(cx, epilogue).map_err(|e| e.to_string())?;
        for segment in &gemv.segments {
            fits_shape(gemv.m, gemv.k, segment.group, caps)?;
        }
        let rounds = matches!(gemv.quantise, Quantise::Here) && gemv.x.dtype != etwgpu_graph::DType::F32;
        require(!rounds, "quantisation parameters are rounded to f16")?;
        require(gemv.buffers() <= caps.max_storage_buffers, "too many buffers for one launch")
    }

    /// Records what comes before the layers as nodes of their own.
    pub(super) fn record_inputs(&self, lower: &mut Lower<'_>) -> Result<(), OpError> {
        let before: Vec<usize> = self.norm.iter().chain(&self.qparams).copied().collect();
        record_nodes(lower, &before)
    }

    /// The launch for the live sizes.
    pub(super) fn gemv(&self, cx: &NodeCx<'_>, epilogue: Epilogue) -> Result<Gemv, OpError> {
        let problems =
            self.layers.iter().map(|&l| Problem::quantised(&cx.at(l))).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = problems.first() else { return Err(crate::invalid!("a fusion without layers")) };
        let norm = self.norm.map(|n| norm_of(&cx.at(n))).transpose()?;
        let x = match self.norm {
            Some(node) => cx.at(node).tensor(0)?,
            None => first.x.clone(),
        };
        Ok(Gemv {
            m: first.m,
            k: first.k,
            x,
            norm,
            quantise: if self.qparams.is_empty() { Quantise::No } else { Quantise::Here },
            segments: problems.iter().map(segment).collect::<Result<_, _>>()?,
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
    let here = lower.cx;
    for &node in nodes {
        lower.cx = here.at(node);
        record_node(lower)?;
    }
    lower.cx = here;
    Ok(())
}

fn norm_of(cx: &NodeCx<'_>) -> Result<Norm, OpError> {
    Ok(Norm { weight: cx.tensor(1)?, eps: rms_norm::epsilon(cx)? })
}

fn segment(problem: &Problem) -> Result<Segment, OpError> {
    let Weights::Q4 { group, scales } = &problem.weights else {
        return Err(crate::unsupported!("weights are not 4-bit"));
    };
    Ok(Segment {
        n: problem.n,
        group: *group,
        weight: problem.weight.clone(),
        scales: scales.clone(),
        bias: problem.bias.clone(),
    })
}

/// A normalisation, or quantisation, and the layers behind it.
struct NormLinears {
    linears: Linears,
    results: Vec<ValueId>,
}

pub(super) fn find(view: &View<'_>) -> Vec<Box<dyn Fused>> {
    let mut found: Vec<Box<dyn Fused>> = Vec::new();
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
        if let Some(linears) = Linears::of(view, &siblings)
            && linears.nodes().len() > 1
        {
            let results = siblings.iter().flat_map(|&l| view.node(l).outs.clone()).collect();
            found.push(Box::new(NormLinears { linears, results }));
        }
    }
    found
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

    fn fits(&self, cx: &NodeCx<'_>, caps: &Caps) -> Result<(), Refusal> {
        let outs = self.linears.outs(cx).map_err(|e| e.to_string())?;
        self.linears.fits(cx, caps, Epilogue::Store(outs))
    }

    fn record(&self, lower: &mut Lower<'_>) -> Result<(), OpError> {
        let outs = self.linears.outs(&lower.cx)?;
        let label = if self.linears.has_norm() { "norm_linears" } else { "linears" };
        self.linears.gemv(&lower.cx, Epilogue::Store(outs))?.record(lower, label)
    }
}
