//! Products of one input with up to three 4-bit weight matrices, and what one launch may do before and after them.

use etwgpu_graph::{DType, ValueId};
use etwgpu_record::WeightLayout;

use super::operands::{Builder, scalars};
use super::{DynamicQ8, Problem, Weights};
use crate::args::{OpError, TensorArg};

/// One weight matrix of a launch.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) n: u32,
    pub(crate) group: u32,
    pub(crate) weight: TensorArg,
    pub(crate) scales: TensorArg,
    pub(crate) bias: Option<TensorArg>,
}

/// What happens to the activations first.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) weight: TensorArg,
    pub(crate) eps: f32,
}

/// How activations are quantised to 8 bits.
#[derive(Clone, Debug)]
pub(crate) enum Quantise {
    No,
    /// With scales and zero points that were chosen before.
    Given(DynamicQ8),
    /// With parameters chosen here, from the whole row.
    Here,
}

/// Rotation of queries and keys, and where the new keys and values go.
#[derive(Clone, Debug)]
pub(crate) struct RopeCache {
    pub(crate) cos: TensorArg,
    pub(crate) sin: TensorArg,
    /// Rotates halves instead of pairs.
    pub(crate) halves: bool,
    /// First row of the tables.
    pub(crate) table_start: u32,
    pub(crate) head_dim: u32,
    pub(crate) q_out: TensorArg,
    pub(crate) key_cache: TensorArg,
    pub(crate) value_cache: TensorArg,
    /// Row of the caches that the first token goes to.
    pub(crate) position: u32,
    /// The symbolic integer that the position is, if it is one.
    pub(crate) symbolic_position: Option<ValueId>,
    /// The same for the first row of the tables.
    pub(crate) symbolic_start: Option<ValueId>,
}

/// What happens to the products.
#[derive(Clone, Debug)]
pub(crate) enum Epilogue {
    /// One output a segment.
    Store(Vec<TensorArg>),
    /// `out = product + residual`.
    Residual { residual: TensorArg, out: TensorArg },
    /// `out = silu(first) * second`.
    SwiGlu(TensorArg),
    /// Queries rotated, keys rotated into their cache, values into theirs.
    RopeCache(RopeCache),
}

/// The work of one launch.
#[derive(Clone, Debug)]
pub(crate) struct Joint {
    /// Rows of activations.
    pub(crate) m: u64,
    /// Input channels.
    pub(crate) k: u32,
    pub(crate) x: TensorArg,
    pub(crate) norm: Option<Norm>,
    pub(crate) quantise: Quantise,
    pub(crate) segments: Vec<Segment>,
    pub(crate) epilogue: Epilogue,
}

/// Names that shaders give to the operands of segments.
const NAMES: [[&str; 4]; 3] = [
    ["weight0", "scales0", "bias0", "out0"],
    ["weight1", "scales1", "bias1", "out1"],
    ["weight2", "scales2", "bias2", "out2"],
];

/// Constants and flags a segment.
const FLAGS: [[&str; 4]; 3] =
    [["N0", "G0", "GROUP0", "BIAS0"], ["N1", "G1", "GROUP1", "BIAS1"], ["N2", "G2", "GROUP2", "BIAS2"]];

impl Segment {
    pub(crate) fn of(problem: &Problem) -> Result<Self, OpError> {
        let Weights::Q4 { group, scales } = &problem.weights else {
            return Err(crate::unsupported!("weights are not 4-bit"));
        };
        Ok(Self {
            n: problem.n,
            group: *group,
            weight: problem.weight.clone(),
            scales: scales.clone(),
            bias: problem.bias.clone(),
        })
    }
}

impl Joint {
    /// One layer by itself.
    pub(super) fn single(problem: &Problem, out: TensorArg) -> Result<Self, OpError> {
        let epilogue = match &problem.residual {
            Some(residual) => Epilogue::Residual { residual: residual.clone(), out },
            None => Epilogue::Store(vec![out]),
        };
        Ok(Self {
            m: problem.m,
            k: problem.k,
            x: problem.x.clone(),
            norm: None,
            quantise: problem.dynamic.clone().map_or(Quantise::No, Quantise::Given),
            segments: vec![Segment::of(problem)?],
            epilogue,
        })
    }

    /// Output channels, the two halves of a gate counted once.
    pub(super) fn columns(&self) -> u32 {
        match &self.epilogue {
            Epilogue::SwiGlu(_) => self.segments[0].n,
            _ => self.segments.iter().map(|s| s.n).sum(),
        }
    }

    /// Blocks of `size` output channels, none across two matrices; the two halves of a gate are walked together.
    pub(super) fn blocks(&self, size: u32) -> u32 {
        let walked = if matches!(self.epilogue, Epilogue::SwiGlu(_)) { 1 } else { self.segments.len() };
        self.segments[..walked].iter().map(|s| s.n.div_ceil(size)).sum()
    }

    /// Multiplications and additions.
    pub(super) fn ops(&self) -> u64 {
        self.segments.iter().map(|s| 2 * self.m * u64::from(s.n) * u64::from(self.k)).sum()
    }

    /// Whether some operand is `f16`.
    pub(super) fn uses_f16(&self) -> bool {
        let dynamic = matches!(&self.quantise, Quantise::Given(given) if given.scale.dtype == DType::F16);
        let of_segment = |s: &Segment| {
            s.scales.dtype == DType::F16 || s.bias.as_ref().is_some_and(|b| b.dtype == DType::F16)
        };
        let caches =
            matches!(&self.epilogue, Epilogue::RopeCache(rope) if rope.key_cache.dtype == DType::F16);
        dynamic || caches || self.x.dtype == DType::F16 || self.segments.iter().any(of_segment)
    }

    /// Storage buffers that a launch of all of it binds.
    pub(crate) fn buffers(&self) -> u32 {
        let biases = self.segments.iter().filter(|s| s.bias.is_some()).count() as u32;
        let quantise = if matches!(self.quantise, Quantise::Given(_)) { 2 } else { 0 };
        let epilogue = match &self.epilogue {
            Epilogue::Store(outs) => outs.len() as u32,
            Epilogue::Residual { .. } => 2,
            Epilogue::SwiGlu(_) => 1,
            Epilogue::RopeCache(_) => 5,
        };
        1 + u32::from(self.norm.is_some()) + 2 * self.segments.len() as u32 + biases + quantise + epilogue
    }

    /// Sizes of the segments, and which operands they have.
    pub(super) fn describe_segments(&self, builder: &mut Builder<'_, '_>) {
        for (segment, flags) in self.segments.iter().zip(FLAGS) {
            let groups = segment.scales.dims[0];
            builder.with(|t| {
                t.set(flags[0], segment.n)
                    .set(flags[1], groups)
                    .set(flags[2], segment.group)
                    .flag(flags[3], segment.bias.is_some())
            });
        }
        builder.with(|t| t.flag("TWO", self.segments.len() > 1).flag("THREE", self.segments.len() > 2));
    }

    /// Weights, as arrays of `item`, and their scales, as arrays that `scales_of` names, given the segment's position.
    pub(super) fn bind_weights(
        &self,
        builder: &mut Builder<'_, '_>,
        item: &'static str,
        scales_of: impl Fn(usize, DType) -> &'static str,
    ) {
        for (position, (segment, names)) in self.segments.iter().zip(NAMES).enumerate() {
            builder.read(names[0], item, &segment.weight);
            let [groups, cols] = [0, 1].map(|d| segment.scales.dims[d]);
            let layout = WeightLayout::Transposed { rows: groups, cols };
            let scales = builder.lower.weight(&segment.scales, layout);
            builder.bind(names[1], scales_of(position, segment.scales.dtype), scales);
        }
    }

    /// Biases, as arrays that `arrays` names.
    pub(super) fn bind_biases(&self, builder: &mut Builder<'_, '_>, arrays: fn(DType) -> &'static str) {
        for (segment, names) in self.segments.iter().zip(NAMES) {
            if let Some(bias) = &segment.bias {
                builder.read(names[2], arrays(bias.dtype), bias);
            }
        }
    }

    /// Weights of the normalisation, where there is one.
    pub(super) fn bind_norm(&self, builder: &mut Builder<'_, '_>) {
        if let Some(norm) = &self.norm {
            builder.with(|t| t.flag("NORM", true));
            builder.read("norm_weight", "array<elem4>", &norm.weight);
        }
    }

    /// Parameters of quantised activations, where they were chosen before.
    pub(super) fn bind_quantised(&self, builder: &mut Builder<'_, '_>) {
        if let Quantise::Given(given) = &self.quantise {
            builder.read("x_scale", scalars(given.scale.dtype), &given.scale);
            builder.read("x_zero", "array<u32>", &given.zero);
        }
    }

    /// Outputs, and what is added to them, as arrays that `arrays` names. The rotation's are its own.
    pub(super) fn bind_outputs(&self, builder: &mut Builder<'_, '_>, arrays: fn(DType) -> &'static str) {
        let elements = arrays(self.x.dtype);
        match &self.epilogue {
            Epilogue::Store(outs) => {
                for (out, names) in outs.iter().zip(NAMES) {
                    builder.write(names[3], elements, out);
                }
            }
            Epilogue::Residual { residual, out } => {
                builder.with(|t| t.flag("RESIDUAL", true));
                builder.read("residual", elements, residual);
                builder.write("out0", elements, out);
            }
            Epilogue::SwiGlu(out) => {
                builder.write("out0", elements, out);
            }
            Epilogue::RopeCache(_) => {}
        }
    }
}
