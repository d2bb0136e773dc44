//! Few rows of activations against 4-bit weights: the activations stay in registers, the weights stream past.
//!
//! An invocation owns 32 consecutive channels (one 16-byte load of nibbles), a workgroup spans all of K and walks
//! several output channels. Weight loads are contiguous across lanes, scales too. Because each workgroup sees the
//! whole row, what comes before the product (normalisation, quantisation) and after it (gate, residual, rotation,
//! cache write) is done on the way.

use etwgpu_graph::{DType, ValueId};
use etwgpu_record::{Caps, WeightLayout};

use super::operands::{Builder, scalars};
use super::{DynamicQ8, Problem, Weights};
use crate::args::{OpError, TensorArg};
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};
use crate::template::Template;

/// Channels of one invocation and load.
const CHUNK: u32 = 32;

/// Largest M: beyond it the tiled route reads the weights less often.
pub(crate) const MAX_ROWS: u64 = 4;

/// Workgroups that keep a large GPU busy.
const BUSY: u32 = 512;

/// Invocations of a workgroup, unless a row needs more.
const WG: u32 = 256;

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

/// One launch.
#[derive(Clone, Debug)]
pub(crate) struct Gemv {
    pub(crate) m: u64,
    pub(crate) k: u32,
    pub(crate) x: TensorArg,
    pub(crate) norm: Option<Norm>,
    pub(crate) quantise: Quantise,
    pub(crate) segments: Vec<Segment>,
    pub(crate) epilogue: Epilogue,
}

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    let Weights::Q4 { group, .. } = problem.weights else { return Err("weights are not 4-bit".into()) };
    require(problem.residual.is_none(), "the sum is fused elsewhere")?;
    fits_shape(problem.m, problem.k, group, caps)
}

/// Whether products of these sizes can run here.
pub(crate) fn fits_shape(m: u64, k: u32, group: u32, caps: &Caps) -> Result<(), Refusal> {
    require(m <= MAX_ROWS, "more than 4 rows of activations")?;
    require(
        k.is_multiple_of(CHUNK) && group.is_multiple_of(CHUNK),
        "K and the group size are not multiples of 32",
    )?;
    let layout = Layout::of(k, 1, caps);
    require(layout.workgroup() <= caps.max_invocations, "K is too long for one workgroup")
}

/// How a workgroup is shared out.
struct Layout {
    /// Invocations that span a row of activations.
    team: u32,
    /// Teams of a workgroup.
    teams: u32,
    /// Output channels of a team.
    team_rows: u32,
    /// Threads whose activations are staged at once.
    owners: u32,
}

impl Layout {
    fn of(k: u32, n: u32, caps: &Caps) -> Self {
        // A team is made of whole subgroups, so that those can add up its products.
        let team = (k / CHUNK).next_power_of_two().max(caps.subgroups.map_or(32, |s| s.max.max(32)));
        let wg = WG.max(team);
        let teams = wg / team;
        let enough = |rows: &u32| n / (teams * rows) >= BUSY;
        let team_rows = [32, 16, 8].into_iter().find(enough).unwrap_or(4);
        Self { team, teams, team_rows, owners: team.min((wg / 8).max(64)) }
    }

    fn workgroup(&self) -> u32 {
        self.team * self.teams
    }

    /// Output channels of a workgroup.
    fn rows(&self) -> u32 {
        self.teams * self.team_rows
    }
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let Weights::Q4 { group, scales } = &problem.weights else {
        return Err(crate::unsupported!("weights are not 4-bit"));
    };
    let out = lower.cx.out(0)?;
    let segment = Segment {
        n: problem.n,
        group: *group,
        weight: problem.weight.clone(),
        scales: scales.clone(),
        bias: problem.bias.clone(),
    };
    Gemv {
        m: problem.m,
        k: problem.k,
        x: problem.x.clone(),
        norm: None,
        quantise: problem.dynamic.clone().map_or(Quantise::No, Quantise::Given),
        segments: vec![segment],
        epilogue: Epilogue::Store(vec![out]),
    }
    .record(lower, "linear_gemv")
}

/// Names that the shader gives to the operands of its segments.
const SEGMENT_NAMES: [[&str; 4]; 3] = [
    ["weight0", "scales0", "bias0", "out0"],
    ["weight1", "scales1", "bias1", "out1"],
    ["weight2", "scales2", "bias2", "out2"],
];

/// Constants and flags a segment.
const SEGMENT_FLAGS: [[&str; 4]; 3] =
    [["N0", "G0", "GROUP0", "BIAS0"], ["N1", "G1", "GROUP1", "BIAS1"], ["N2", "G2", "GROUP2", "BIAS2"]];

impl Gemv {
    /// Storage buffers that the launch binds.
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

    fn layout(&self, caps: &Caps) -> Layout {
        let n = match &self.epilogue {
            Epilogue::SwiGlu(_) => self.segments[0].n,
            _ => self.segments.iter().map(|s| s.n).sum(),
        };
        Layout::of(self.k, n, caps)
    }

    /// Workgroups, one after another over the segments; the two segments of a gate are walked together.
    fn blocks(&self, rows: u32) -> u32 {
        let walked = if matches!(self.epilogue, Epilogue::SwiGlu(_)) { 1 } else { self.segments.len() };
        self.segments[..walked].iter().map(|s| s.n.div_ceil(rows)).sum()
    }

    /// Records the launch.
    pub(crate) fn record(&self, lower: &mut Lower<'_>, label: &'static str) -> Result<(), OpError> {
        let layout = self.layout(lower.caps());
        let (wg, rows, rounds) = (layout.workgroup(), layout.rows(), layout.team / layout.owners);
        let parts = lower.caps().subgroups.map_or(layout.teams, |s| wg / s.min);
        let f16 = self.x.dtype == DType::F16;
        let uses_f16 = f16 || self.segments.iter().any(|s| s.scales.dtype == DType::F16);
        let template = Template::new(label, include_str!("gemv.wgsl"))
            .set("WG", wg)
            .set("K", self.k)
            .set("TEAM", layout.team)
            .set("TEAMS", layout.teams)
            .set("TEAM_ROWS", layout.team_rows)
            .set("ROWS", rows)
            .set("PARTS", parts)
            .set("LOADS", 8 / layout.teams)
            .set("OWNERS", layout.owners)
            .set("ROUNDS", rounds)
            .set("PER_ROUND", 8 / layout.teams / rounds)
            .flag("F16", f16)
            .flag("ANY_F16", uses_f16)
            .flag("SUBGROUPS", lower.caps().subgroups.is_some());
        let max_grid = lower.caps().max_grid;
        let mut builder = Builder::new(lower, template);
        builder.read("x", "array<elem4>", &self.x);
        self.bind_prologue(&mut builder);
        self.bind_segments(&mut builder);
        let positions = self.bind_epilogue(&mut builder);
        let Builder { lower, template, bindings } = builder;
        let eps = self.norm.as_ref().map_or(0.0, |n| n.eps);
        let params = vec![self.m as u32, positions[0], positions[1], eps.to_bits()];
        let blocks = self.blocks(rows);
        let columns = blocks.min(max_grid);
        let grid = [columns, self.m as u32, blocks.div_ceil(columns.max(1))];
        let ops = self.segments.iter().map(|s| 2 * self.m * u64::from(s.n) * u64::from(self.k)).sum();
        let live = match &self.epilogue {
            Epilogue::RopeCache(rope) => [(1, rope.symbolic_position), (2, rope.symbolic_start)],
            _ => [(1, None), (2, None)],
        };
        lower.launch_live(Launch { shader: template.shader(), bindings, params, grid, ops }, &live)
    }

    fn bind_prologue(&self, builder: &mut Builder<'_, '_>) {
        if let Some(norm) = &self.norm {
            builder.with(|t| t.flag("NORM", true));
            builder.read("norm_weight", "array<elem4>", &norm.weight);
        }
        match &self.quantise {
            Quantise::No => {}
            Quantise::Here => builder.with(|t| t.flag("DYNAMIC_Q8", true).flag("QUANTISE_HERE", true)),
            Quantise::Given(given) => {
                builder.with(|t| t.flag("DYNAMIC_Q8", true));
                builder.read("x_scale", scalars(given.scale.dtype), &given.scale);
                builder.read("x_zero", "array<u32>", &given.zero);
            }
        }
    }

    fn bind_segments(&self, builder: &mut Builder<'_, '_>) {
        for ((segment, names), flags) in self.segments.iter().zip(SEGMENT_NAMES).zip(SEGMENT_FLAGS) {
            let groups = segment.scales.dims[0];
            builder.with(|t| t.set(flags[0], segment.n).set(flags[1], groups).set(flags[2], segment.group));
            builder.read(names[0], "array<vec4<u32>>", &segment.weight);
            let layout = WeightLayout::Transposed { rows: groups, cols: segment.scales.dims[1] };
            let scales = builder.lower.weight(&segment.scales, layout);
            builder.bind(names[1], scalars(segment.scales.dtype), scales);
            if let Some(bias) = &segment.bias {
                builder.with(|t| t.flag(flags[3], true));
                builder.read(names[2], scalars(bias.dtype), bias);
            }
        }
        builder.with(|t| t.flag("TWO", self.segments.len() > 1).flag("THREE", self.segments.len() > 2));
    }

    /// Returns the first row of the caches and of the rotation tables.
    fn bind_epilogue(&self, builder: &mut Builder<'_, '_>) -> [u32; 2] {
        let elements = if self.x.dtype == DType::F16 { "array<f16>" } else { "array<f32>" };
        match &self.epilogue {
            Epilogue::Store(outs) => {
                for (out, names) in outs.iter().zip(SEGMENT_NAMES) {
                    builder.write(names[3], elements, out);
                }
            }
            Epilogue::Residual { residual, out } => {
                builder.with(|t| t.flag("RESIDUAL", true));
                builder.read("residual", elements, residual);
                builder.write("out0", elements, out);
            }
            Epilogue::SwiGlu(out) => {
                builder.with(|t| t.flag("SWIGLU", true));
                builder.write("out0", elements, out);
            }
            Epilogue::RopeCache(rope) => {
                builder.with(|t| t.flag("ROPE", true).flag("HALVES", rope.halves).set("D", rope.head_dim));
                builder.read("cos_table", scalars(rope.cos.dtype), &rope.cos);
                builder.read("sin_table", scalars(rope.sin.dtype), &rope.sin);
                builder.write("out0", elements, &rope.q_out);
                builder.with(|t| t.flag("CACHE_F16", rope.key_cache.dtype == DType::F16));
                builder.write("out1", scalars(rope.key_cache.dtype), &rope.key_cache);
                builder.write("out2", scalars(rope.value_cache.dtype), &rope.value_cache);
                return [rope.position, rope.table_start];
            }
        }
        [0, 0]
    }
}
