//! Many rows of activations on cooperative matrices: operands are rounded to `f16` in workgroup memory, products
//! accumulate in `f32`.

use etwgpu_record::{Caps, Precision};

use super::{Problem, Weights};
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};

/// Channels of the operands that are in workgroup memory at once: more means fewer waits.
fn step(k: u32) -> u32 {
    if k.is_multiple_of(64) { 64 } else { 32 }
}

/// Fewest rows that are worth whole matrices.
const MIN_ROWS: u64 = 16;

/// Workgroups that keep a large GPU busy.
const BUSY: u64 = 132;

/// Output tile of a workgroup, and how its subgroups share it.
struct Tile {
    rows: u32,
    columns: u32,
    subgroup_rows: u32,
    subgroup_columns: u32,
}

/// Large tiles reuse operands best, small ones keep more workgroups busy.
const TILES: [Tile; 3] = [
    Tile { rows: 128, columns: 128, subgroup_rows: 2, subgroup_columns: 4 },
    Tile { rows: 64, columns: 128, subgroup_rows: 2, subgroup_columns: 2 },
    Tile { rows: 64, columns: 64, subgroup_rows: 2, subgroup_columns: 2 },
];

impl Tile {
    fn of(problem: &Problem) -> &'static Self {
        let busy =
            |t: &&Self| problem.m.div_ceil(t.rows.into()) * u64::from(problem.n.div_ceil(t.columns)) >= BUSY;
        TILES.iter().find(busy).unwrap_or(&TILES[2])
    }

    fn workgroup(&self) -> u32 {
        self.subgroup_rows * self.subgroup_columns * 32
    }
}

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    let Weights::Q4 { group, .. } = problem.weights else { return Err("weights are not 4-bit".into()) };
    require(caps.precision != Precision::Strict, "strict precision")?;
    require(caps.coop_matrix, "the adapter reports no 16x16x16 cooperative matrices")?;
    require(caps.f16, "the adapter has no f16")?;
    require(caps.subgroups.is_some_and(|s| s.min == 32 && s.max == 32), "subgroups are not 32 wide")?;
    require(problem.m >= MIN_ROWS, "fewer than 16 rows of activations")?;
    require(
        problem.k.is_multiple_of(32) && group.is_multiple_of(32),
        "K and the group size are not multiples of 32",
    )?;
    require(caps.max_workgroup_memory >= 48 << 10, "less than 48 KiB of workgroup memory")
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let tile = Tile::of(problem);
    let step = step(problem.k);
    let (template, bindings) = problem.operands(lower, "linear_coop", include_str!("coop.wgsl"))?;
    let shader = template
        .set("WG", tile.workgroup())
        .set("TILE_ROWS", tile.rows)
        .set("TILE_COLUMNS", tile.columns)
        .set("BLOCK_ROWS", tile.rows / tile.subgroup_rows / 16)
        .set("BLOCK_COLUMNS", tile.columns / tile.subgroup_columns / 16)
        .set("STEP", step)
        .set("X_LOADS", tile.rows * step / 4 / tile.workgroup())
        .set("W_LOADS", tile.columns * step / 16 / tile.workgroup())
        .set("SUBGROUP_COLUMNS", tile.subgroup_columns)
        .flag("SUBGROUPS", true)
        .shader();
    let grid = [problem.n.div_ceil(tile.columns), problem.m.div_ceil(tile.rows.into()) as u32, 1];
    lower.launch(Launch { shader, bindings, params: vec![problem.m as u32], grid, ops: problem.ops() })
}
