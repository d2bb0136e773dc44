//! Many rows of activations on cooperative matrices: operands are rounded to `f16`, activations in a launch before,
//! weights on the way; products accumulate in `f32`. Few tiles share out K as well, and a further launch adds up their
//! parts.

use etwgpu_graph::DType;
use etwgpu_record::{Access, Binding, Caps, Precision};

use super::coop_rows::{self, Rows};
use super::joint::{Epilogue, Joint};
use super::operands::{Builder, quads, scalars};
use super::{Problem, Weights};
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};
use crate::template::Template;

/// The route's name.
pub(crate) const NAME: &str = "linear.coop";

/// Fewest rows that are worth whole matrices.
const MIN_ROWS: u64 = 9;

/// Invocations of the launch that adds up parts.
const SUM_WG: u32 = 256;

/// Output tile of a workgroup, and how its subgroups share it.
#[derive(Debug, PartialEq)]
struct Tile {
    rows: u32,
    columns: u32,
    /// Channels of the operands that are in workgroup memory at once: more means fewer waits.
    step: u32,
    subgroup_rows: u32,
    subgroup_columns: u32,
    /// Time of one step of a workgroup that has a core to itself, and of each one where several share a core; in
    /// microseconds on a large GPU, only their ratios matter.
    alone: f64,
    shared: f64,
}

/// Large tiles reuse operands best, small ones keep more cores busy.
const TILES: [Tile; 2] = [
    Tile {
        rows: 128,
        columns: 128,
        step: 32,
        subgroup_rows: 2,
        subgroup_columns: 2,
        alone: 0.83,
        shared: 0.61,
    },
    Tile {
        rows: 64,
        columns: 64,
        step: 64,
        subgroup_rows: 2,
        subgroup_columns: 2,
        alone: 0.93,
        shared: 0.57,
    },
];

/// Cores of a large GPU; a smaller one is busy with any choice.
const CORES: f64 = 132.0;

/// Ways to share out K.
const SPLITS: [u32; 4] = [1, 2, 4, 8];

/// Fewest steps of a workgroup that shares K.
const MIN_STEPS: u32 = 4;

/// How the work of a launch is shared out.
#[derive(Debug, PartialEq)]
struct Layout {
    tile: &'static Tile,
    /// Channels of a step.
    step: u32,
    /// Parts of K.
    splits: u32,
}

impl Tile {
    fn workgroup(&self) -> u32 {
        self.subgroup_rows * self.subgroup_columns * 32
    }

    /// Channels of each segment that a tile covers.
    fn width(&self, joint: &Joint) -> u32 {
        if matches!(joint.epilogue, Epilogue::SwiGlu(_)) { self.columns / 2 } else { self.columns }
    }
}

impl Layout {
    /// The fastest by a rough account of time.
    fn of(joint: &Joint) -> Self {
        let all = TILES.iter().flat_map(|tile| SPLITS.map(|splits| Self::with(joint, tile, splits)));
        let whole = |l: &Self| {
            l.splits == 1 || ((joint.k / l.step).is_multiple_of(l.splits) && l.steps(joint) >= MIN_STEPS)
        };
        let timed = all.filter(whole).map(|layout| (layout.time(joint), layout));
        let best = timed.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, layout)| layout);
        best.unwrap_or(Self::with(joint, &TILES[1], 1))
    }

    fn with(joint: &Joint, tile: &'static Tile, splits: u32) -> Self {
        Self { tile, step: if joint.k.is_multiple_of(tile.step) { tile.step } else { 32 }, splits }
    }

    fn steps(&self, joint: &Joint) -> u32 {
        joint.k / self.step / self.splits
    }

    fn time(&self, joint: &Joint) -> f64 {
        // Steps' worth of time before the first and after the last one.
        const ENDS: f64 = 3.0;
        let [x, y, z] = self.grid(joint).map(f64::from);
        let a_core = (x * y * z / CORES).ceil();
        let step = (self.tile.shared * a_core).max(self.tile.alone);
        let parts = joint.m as f64 * f64::from(part_columns(joint)) * f64::from(self.splits);
        let sum = if self.splits > 1 { 5.0 + parts * 8.0 / 3e6 } else { 0.0 };
        (f64::from(self.steps(joint)) + ENDS) * step + sum
    }

    fn grid(&self, joint: &Joint) -> [u32; 3] {
        let rows = joint.m.div_ceil(self.tile.rows.into()) as u32;
        [joint.blocks(self.tile.width(joint)), rows, self.splits]
    }
}

/// Columns of the parts: those of all segments side by side.
fn part_columns(joint: &Joint) -> u32 {
    joint.segments.iter().map(|s| s.n).sum()
}

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    let Weights::Q4 { group, .. } = problem.weights else { return Err("weights are not 4-bit".into()) };
    fits_shape(problem.m, problem.n, problem.k, group, caps)?;
    coop_rows::fits_channels(problem.k, caps)
}

fn fits_shape(m: u64, n: u32, k: u32, group: u32, caps: &Caps) -> Result<(), Refusal> {
    require(caps.precision != Precision::Strict, "strict precision")?;
    require(caps.coop_matrix, "the adapter reports no 16x16x16 cooperative matrices")?;
    require(caps.f16, "the adapter has no f16")?;
    require(caps.subgroups.is_some_and(|s| s.min == 32 && s.max == 32), "subgroups are not 32 wide")?;
    if m < MIN_ROWS {
        return Err(format!("fewer than {MIN_ROWS} rows of activations").into());
    }
    require(
        k.is_multiple_of(32) && group.is_multiple_of(32),
        "K and the group size are not multiples of 32",
    )?;
    require(n.is_multiple_of(4), "N is not a multiple of 4")?;
    require(caps.max_workgroup_memory >= 32 << 10, "less than 32 KiB of workgroup memory")
}

/// Whether the products fit one launch, behind one that prepares the activations.
pub(crate) fn fits_joint(joint: &Joint, caps: &Caps) -> Result<(), Refusal> {
    for segment in &joint.segments {
        fits_shape(joint.m, segment.n, joint.k, segment.group, caps)?;
    }
    coop_rows::fits(joint, caps)?;
    require(!matches!(joint.epilogue, Epilogue::RopeCache(_)), "rotation comes behind the products")?;
    require(joint.buffers() <= caps.max_storage_buffers, "too many buffers for one launch")
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let out = problem.output(lower)?;
    record_joint(lower, &Joint::single(problem, out)?, "linear_coop")
}

/// Records the activations' preparation, then the products, in one launch or in two.
pub(crate) fn record_joint(lower: &mut Lower<'_>, joint: &Joint, label: &'static str) -> Result<(), OpError> {
    let layout = Layout::of(joint);
    let rows = coop_rows::record(lower, joint)?;
    if layout.splits == 1 {
        return record_products(lower, joint, &layout, &rows, None, label);
    }
    let elements = u64::from(layout.splits) * joint.m * u64::from(part_columns(joint));
    let parts = lower.scratch(elements * 4);
    record_products(lower, joint, &layout, &rows, Some(parts), label)?;
    record_sum(lower, joint, &layout, &rows, parts)
}

fn template(joint: &Joint, label: &'static str, text: &'static str) -> Template {
    Template::new(label, text)
        .set("COLUMNS", part_columns(joint))
        .flag("F16", joint.x.dtype == DType::F16)
        .flag("ANY_F16", joint.uses_f16())
        .flag("SWIGLU", matches!(joint.epilogue, Epilogue::SwiGlu(_)))
        .flag("VECTOR", true)
        .flag("SUBGROUPS", true)
}

/// Records the products; whole ones are finished there, parts are left in `parts`.
fn record_products(
    lower: &mut Lower<'_>,
    joint: &Joint,
    layout: &Layout,
    rows: &Rows,
    parts: Option<Binding>,
    label: &'static str,
) -> Result<(), OpError> {
    let (tile, step) = (layout.tile, layout.step);
    let wg = tile.workgroup();
    // Four groups' scales of a channel lie on a boundary of four.
    let quad_scales = joint.segments.iter().all(|s| s.scales.dims[0].is_multiple_of(4));
    let is_gate = matches!(joint.epilogue, Epilogue::SwiGlu(_));
    // Of the gate and of up each subgroup has half as many blocks.
    let block_columns = tile.width(joint) / tile.subgroup_columns / 16;
    let template = template(joint, label, include_str!("coop.wgsl"))
        .set("WG", wg)
        .set("K", joint.k)
        .set("TILE_ROWS", tile.rows)
        .set("TILE_COLUMNS", tile.columns)
        .set("BLOCK_ROWS", tile.rows / tile.subgroup_rows / 16)
        .set("BLOCK_COLUMNS", block_columns)
        .set("LOOPS", if is_gate { 1 } else { joint.segments.len() as u32 })
        .set("STEP", step)
        .set("STEPS", layout.steps(joint))
        .set("X_LOADS", tile.rows * step / 8 / wg)
        .set("W_LOADS", tile.columns * step / 16 / wg)
        .set("SUBGROUP_COLUMNS", tile.subgroup_columns)
        .flag("QUAD_SCALES", quad_scales)
        .flag("CHOOSES", !is_gate && joint.segments.len() > 1)
        .flag("WHOLE", parts.is_none());
    let mut builder = Builder::new(lower, template);
    builder.bind("x", "array<vec4<u32>>", rows.rows);
    joint.describe_segments(&mut builder);
    let scales_of = if quad_scales { quads } else { scalars };
    joint.bind_weights(&mut builder, "array<vec2<u32>>", |_, dtype| scales_of(dtype));
    match parts {
        Some(parts) => builder.bind("parts", "array<vec4<f32>>", parts),
        None => {
            rows.bind_scale(&mut builder);
            joint.bind_biases(&mut builder, quads);
            joint.bind_outputs(&mut builder, quads);
        }
    }
    let Builder { lower, template, bindings } = builder;
    let (shader, params, grid) = (template.shader(), vec![joint.m as u32], layout.grid(joint));
    lower.launch(Launch { shader, bindings, params, grid, ops: joint.ops() })
}

fn record_sum(
    lower: &mut Lower<'_>,
    joint: &Joint,
    layout: &Layout,
    rows: &Rows,
    parts: Binding,
) -> Result<(), OpError> {
    let template = template(joint, "linear_coop_sum", include_str!("coop_sum.wgsl"))
        .set("WG", SUM_WG)
        .set("SPLITS", layout.splits)
        .set("WALKED", joint.columns());
    let mut builder = Builder::new(lower, template);
    builder.bind("parts", "array<vec4<f32>>", Binding { access: Access::Read, ..parts });
    rows.bind_scale(&mut builder);
    joint.describe_segments(&mut builder);
    joint.bind_biases(&mut builder, quads);
    joint.bind_outputs(&mut builder, quads);
    let Builder { lower, template, bindings } = builder;
    let shader = template.shader();
    let groups = (joint.m * u64::from(joint.columns() / 4)).div_ceil(SUM_WG.into());
    let (params, grid) = (vec![joint.m as u32], lower.grid(groups));
    lower.launch(Launch { shader, bindings, params, grid, ops: 0 })
}
