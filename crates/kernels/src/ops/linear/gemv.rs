//! Few rows of activations against 4-bit weights: the activations stay in registers, the weights stream past.
//!
//! An invocation owns 32 consecutive channels (one 16-byte load of nibbles), a workgroup spans all of K and walks
//! several output channels. Weight loads are contiguous across lanes, scales too. Because each workgroup sees the
//! whole row, what comes before the product (normalisation, quantisation) and after it (gate, residual, rotation,
//! cache write) is done on the way.

use etwgpu_graph::{DType, ValueId};
use etwgpu_record::{Access, Caps, Precision};

use super::joint::{Epilogue, Joint, Quantise};
use super::operands::{Builder, scalars};
use super::{Problem, Weights};
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};
use crate::template::Template;

/// Channels of one invocation and load.
const CHUNK: u32 = 32;

/// Largest M: beyond it the tiled routes read the weights less often.
pub(crate) const MAX_ROWS: u64 = 8;

/// Workgroups that keep a large GPU busy.
const BUSY: u32 = 512;

/// Invocations of a workgroup, unless a row needs more.
const WG: u32 = 256;

/// Invocations of a workgroup whose teams have few output channels each.
const WG_LARGE: u32 = 512;

/// Output channels that a team may have.
const TEAM_ROWS: [u32; 4] = [MOST_ROWS, 16, 8, 4];

/// Most output channels of a team.
const MOST_ROWS: u32 = 32;

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    let Weights::Q4 { group, .. } = problem.weights else { return Err("weights are not 4-bit".into()) };
    require(problem.residual.is_none(), "the sum is fused elsewhere")?;
    fits_shape(problem.m, problem.k, group)?;
    Layout::of(problem.k, problem.n, 1, caps).fits(caps)
}

fn fits_shape(m: u64, k: u32, group: u32) -> Result<(), Refusal> {
    if m > MAX_ROWS {
        return Err(format!("more than {MAX_ROWS} rows of activations").into());
    }
    require(
        k.is_multiple_of(CHUNK) && group.is_multiple_of(CHUNK),
        "K and the group size are not multiples of 32",
    )
}

/// Whether the products fit one launch.
pub(crate) fn fits_joint(joint: &Joint, caps: &Caps) -> Result<(), Refusal> {
    for segment in &joint.segments {
        fits_shape(joint.m, joint.k, segment.group)?;
    }
    Layout::of_joint(joint, caps).fits(caps)?;
    let rounds = matches!(joint.quantise, Quantise::Here) && joint.x.dtype != DType::F32;
    require(!rounds, "quantisation parameters are rounded to f16")?;
    require(joint.buffers() <= caps.max_storage_buffers, "too many buffers for one launch")
}

/// How a workgroup is shared out.
struct Layout {
    /// Invocations that span a row of activations.
    team: u32,
    /// Teams of a workgroup.
    teams: u32,
    /// Output channels of a team.
    team_rows: u32,
    /// Sums of an output channel: two where it is a gate.
    sums: u32,
    /// Threads whose activations are staged at once.
    owners: u32,
}

impl Layout {
    fn of_joint(joint: &Joint, caps: &Caps) -> Self {
        let sums = if matches!(joint.epilogue, Epilogue::SwiGlu(_)) { 2 } else { 1 };
        Self::of(joint.k, joint.columns(), sums, caps)
    }

    fn of(k: u32, n: u32, sums: u32, caps: &Caps) -> Self {
        // A team is made of whole subgroups, so that those can add up its products.
        let team = (k / CHUNK).next_power_of_two().max(caps.subgroups.map_or(32, |s| s.max.max(32)));
        let enough = |teams: u32| move |rows: &u32| n / (teams * rows) >= BUSY;
        let small = WG.max(team);
        let walks_far = enough(small / team)(&MOST_ROWS);
        // Preparing the activations is shared by a workgroup: the fewer channels there are for each team, the more
        // teams should share it.
        let large = WG_LARGE.max(4 * team);
        let can_be_large = is_packed(caps) && !caps.is_cpu && large <= caps.max_invocations;
        let wg = if can_be_large && !walks_far { large } else { small };
        let teams = wg / team;
        let most_rows = TEAM_ROWS.into_iter().find(enough(teams)).unwrap_or(4);
        // Activations are staged at once where there is room, as each part of them costs two barriers; the fewer rows
        // there are, the less room sums take.
        let in_parts = team.min((wg / 8).max(64));
        let with = |team_rows, owners| Self { team, teams, team_rows, sums, owners };
        let rows = TEAM_ROWS.into_iter().filter(|&rows| rows <= most_rows);
        let mut layouts = [(most_rows, team)].into_iter().chain(rows.map(|rows| (rows, in_parts)));
        let fitting = layouts.find(|&(rows, owners)| with(rows, owners).has_room(caps));
        let (rows, owners) = fitting.unwrap_or((4, in_parts));
        with(rows, owners)
    }

    fn fits(&self, caps: &Caps) -> Result<(), Refusal> {
        require(self.workgroup() <= caps.max_invocations, "K is too long for one workgroup")?;
        require(self.has_room(caps), "activations and sums exceed workgroup memory")
    }

    fn has_room(&self, caps: &Caps) -> bool {
        self.memory(caps) <= caps.max_workgroup_memory
    }

    /// Bytes of workgroup memory: activations on their way, what is found in them, and sums.
    fn memory(&self, caps: &Caps) -> u32 {
        let (wg, parts) = (self.workgroup(), self.parts(caps));
        let prepared = if is_packed(caps) { 4 * self.owners + 16 * parts } else { 4 * wg };
        let tree = if caps.subgroups.is_some() { 0 } else { 16 * wg };
        9 * 16 * self.owners + prepared + tree + 4 * parts * self.sums * self.team_rows
    }

    /// Parts of a workgroup that add up products by themselves.
    fn parts(&self, caps: &Caps) -> u32 {
        caps.subgroups.map_or(self.teams, |s| self.workgroup() / s.min)
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
    let out = problem.output(lower)?;
    record_joint(lower, &Joint::single(problem, out)?, "linear_gemv")
}

/// Whether activations become integers: where dot products of bytes are instructions, and neighbours can exchange.
fn is_packed(caps: &Caps) -> bool {
    caps.packed_dot && caps.subgroups.is_some_and(|s| s.min >= 8)
}

/// Records one launch for all of it.
pub(crate) fn record_joint(lower: &mut Lower<'_>, joint: &Joint, label: &'static str) -> Result<(), OpError> {
    let layout = Layout::of_joint(joint, lower.caps());
    let (wg, rows, rounds) = (layout.workgroup(), layout.rows(), layout.team / layout.owners);
    let template = Template::new(label, include_str!("gemv.wgsl"))
        .set("WG", wg)
        .set("K", joint.k)
        .set("TEAM", layout.team)
        .set("TEAMS", layout.teams)
        .set("TEAM_ROWS", layout.team_rows)
        .set("ROWS", rows)
        .set("PARTS", layout.parts(lower.caps()))
        .set("SUMS", layout.sums)
        .set("LOADS", (8 / layout.teams).max(1))
        .set("OWNERS", layout.owners)
        .set("ROUNDS", rounds)
        .set("PER_ROUND", (8 / layout.teams).max(1) / rounds)
        .flag("F16", joint.x.dtype == DType::F16)
        .flag("ANY_F16", joint.uses_f16())
        .flag("SWIGLU", matches!(joint.epilogue, Epilogue::SwiGlu(_)))
        .flag("SUBGROUPS", lower.caps().subgroups.is_some())
        .flag("PACKED", is_packed(lower.caps()))
        .flag("MANY_ROUNDS", rounds > 1)
        .flag("WHOLE_BLOCKS", joint.segments.iter().all(|s| s.n.is_multiple_of(rows)));
    let template = flag_integers(joint, lower.caps(), template);
    // Subgroups of one known width, of four lanes at least, share out sums without asking how wide they are.
    let width = lower.caps().subgroups.filter(|s| s.min == s.max && s.min >= 4).map(|s| s.min);
    let template = match width {
        Some(width) => template.flag("LANE_STEPS", true).set("LANE_STEPS", (width / 4).ilog2()),
        None => template,
    };
    let max_grid = lower.caps().max_grid;
    let mut builder = Builder::new(lower, template);
    builder.read("x", "array<elem4>", &joint.x);
    bind_prologue(joint, &mut builder);
    joint.describe_segments(&mut builder);
    bind_weights(joint, &mut builder);
    joint.bind_biases(&mut builder, scalars);
    joint.bind_outputs(&mut builder, scalars);
    let (positions, live) = bind_rotation(joint, &mut builder);
    let Builder { lower, template, bindings } = builder;
    let eps = joint.norm.as_ref().map_or(0.0, |n| n.eps);
    let params = vec![joint.m as u32, positions[0], positions[1], eps.to_bits()];
    let blocks = joint.blocks(rows);
    let columns = blocks.min(max_grid);
    let grid = [columns, joint.m as u32, blocks.div_ceil(columns.max(1))];
    let launch = Launch { shader: template.shader(), bindings, params, grid, ops: joint.ops() };
    lower.launch_live(launch, &[(1, live[0]), (2, live[1])])
}

/// How activations become integers, and when the first weights of up are fetched: before the activations are prepared,
/// as those of gate are, but where that would take the registers of a core's second workgroup, after.
fn flag_integers(joint: &Joint, caps: &Caps, template: Template) -> Template {
    let is_gated = matches!(joint.epilogue, Epilogue::SwiGlu(_));
    let is_quantised = !matches!(joint.quantise, Quantise::No);
    template
        .flag("THREE_BYTES", !is_quantised && caps.precision != Precision::Fast)
        .flag("ONE_BYTE", is_quantised && is_gated)
        .flag("UP_EARLY", is_gated && !is_quantised)
        .flag("UP_LATER", is_gated && is_quantised)
}

/// Binds weights and scales: as structures of four channels each, where those lie next to each other.
fn bind_weights(joint: &Joint, builder: &mut Builder<'_, '_>) {
    const FOUR_SCALES: [&str; 3] = ["array<FourScales0>", "array<FourScales1>", "array<FourScales2>"];
    let segments = &joint.segments;
    let pairs_lie_apart = matches!(&joint.epilogue, Epilogue::RopeCache(rope) if rope.halves);
    let dtype = segments[0].scales.dtype;
    let is_alike = segments.iter().all(|s| s.n.is_multiple_of(4) && s.scales.dtype == dtype);
    builder.with(|t| t.set("MATRICES", segments.len() as u32));
    if is_alike && !pairs_lie_apart {
        builder.with(|t| t.flag("FOURS", true).flag("SCALES_F16", dtype == DType::F16));
        joint.bind_weights(builder, "array<FourRows>", |position, _| FOUR_SCALES[position]);
    } else {
        joint.bind_weights(builder, "array<vec4<u32>>", |_, dtype| scalars(dtype));
    }
}

fn bind_prologue(joint: &Joint, builder: &mut Builder<'_, '_>) {
    joint.bind_norm(builder);
    match &joint.quantise {
        Quantise::No => {}
        Quantise::Here => builder.with(|t| t.flag("DYNAMIC_Q8", true).flag("QUANTISE_HERE", true)),
        Quantise::Given(_) => builder.with(|t| t.flag("DYNAMIC_Q8", true).flag("GIVEN_Q8", true)),
    }
    joint.bind_quantised(builder);
}

/// Binds tables and caches. Returns the first row of the caches and of the tables, and the symbolic integers they are.
fn bind_rotation(joint: &Joint, builder: &mut Builder<'_, '_>) -> ([u32; 2], [Option<ValueId>; 2]) {
    let Epilogue::RopeCache(rope) = &joint.epilogue else { return ([0; 2], [None; 2]) };
    builder.with(|t| t.flag("ROPE", true).flag("HALVES", rope.halves).set("D", rope.head_dim));
    builder.rows("cos_table", scalars(rope.cos.dtype), &rope.cos, Access::Read, joint.m);
    builder.rows("sin_table", scalars(rope.sin.dtype), &rope.sin, Access::Read, joint.m);
    let rows = joint.m * u64::from(rope.key_cache.dims[2]);
    builder.write("out0", scalars(joint.x.dtype), &rope.q_out);
    builder.with(|t| t.flag("CACHE_F16", rope.key_cache.dtype == DType::F16));
    builder.rows("out1", scalars(rope.key_cache.dtype), &rope.key_cache, Access::ReadWrite, rows);
    builder.rows("out2", scalars(rope.value_cache.dtype), &rope.value_cache, Access::ReadWrite, rows);
    ([rope.position, rope.table_start], [rope.symbolic_position, rope.symbolic_start])
}
