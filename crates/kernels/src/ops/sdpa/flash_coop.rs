//! Many queries on cooperative matrices: tiles of keys stream past a tile of queries, with an online softmax and no
//! score matrix.
//!
//! Results are as good as in `f32`: queries, keys, probabilities and values are split into two `f16` parts each, and
//! three products of the parts are added; sums accumulate in `f32`. `fast` precision rounds probabilities and values to
//! `f16` instead.

use etwgpu_graph::DType;
use etwgpu_record::{Caps, Precision};

use super::Problem;
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};

/// Queries of a subgroup: a row of 16x16 matrices.
const SUBGROUP_ROWS: u32 = 16;

/// Queries of a workgroup.
const ROWS: u32 = 4 * SUBGROUP_ROWS;

/// Keys of a tile: as many as fit in workgroup memory.
fn keys(head_dim: u32) -> u32 {
    if head_dim <= 64 { 64 } else { 32 }
}

/// The largest head dimension: its rows must fit in workgroup memory and registers.
const MAX_HEAD_DIM: u32 = 128;

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    require(caps.precision != Precision::Strict, "strict precision")?;
    require(caps.coop_matrix, "the adapter reports no 16x16x16 cooperative matrices")?;
    require(caps.f16, "the adapter has no f16")?;
    require(caps.subgroups.is_some_and(|s| s.min == 32 && s.max == 32), "subgroups are not 32 wide")?;
    require(problem.mask.is_none(), "attention mask")?;
    require(problem.seq >= SUBGROUP_ROWS, "fewer than 16 queries")?;
    require(problem.head_dim.is_multiple_of(16), "the head dimension is not a multiple of 16")?;
    if problem.head_dim > MAX_HEAD_DIM {
        return Err(format!("head dimension {} above {MAX_HEAD_DIM}", problem.head_dim).into());
    }
    require(caps.max_workgroup_memory >= memory(problem.head_dim), "too little workgroup memory")
}

/// Bytes of a row of halves, and of the probabilities of a tile.
fn pitches(head_dim: u32) -> [u32; 2] {
    [(head_dim + 8) * 2, ROWS * (keys(head_dim) + 8) * 2]
}

/// Bytes of workgroup memory: queries or keys, or probabilities in their place; what is left of keys; values; scores.
fn memory(head_dim: u32) -> u32 {
    let keys = keys(head_dim);
    let [row, weights] = pitches(head_dim);
    let (rows, rests) = ((keys.max(ROWS) * row).max(weights), (keys * row).max(weights));
    rows + rests + keys * row + ROWS * (keys + 8) * 4 + 16
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let out = problem.out(lower)?;
    let keys = keys(problem.head_dim);
    let wg = ROWS / SUBGROUP_ROWS * 32;
    let [row, weights] = pitches(problem.head_dim);
    // Halves need no second part.
    let exact = problem.q.dtype == DType::F16 && problem.keys.dtype == DType::F16;
    // Values of a half-precision cache have no rest, and results from them are judged by its precision.
    let split_sums = problem.keys.dtype == DType::F32 && lower.caps().precision != Precision::Fast;
    let shader = problem
        .template("sdpa_flash_coop", include_str!("flash_coop.wgsl"))
        .set("WG", wg)
        .set("KEYS", keys)
        .set("ROWS", ROWS)
        .set("Q_LOADS", ROWS * problem.head_dim / 4 / wg)
        .set("LOADS", keys * problem.head_dim / 4 / wg)
        .set("DEPTH", problem.head_dim / 16)
        .set("KEY_BLOCKS", keys / 16)
        .set("LANE_QUADS", keys / 8)
        .flag("SPLIT", !exact)
        .flag("SPLIT_SUMS", split_sums)
        .flag("RESTS_BEHIND", split_sums && keys * row + weights <= keys.max(ROWS) * row)
        .flag("SUBGROUPS", true)
        .shader();
    let bindings =
        vec![lower.read(&problem.q), problem.keys(lower), problem.values(lower), lower.write(&out)];
    let grid = [problem.heads, problem.seq.div_ceil(ROWS), problem.batch];
    problem.launch(lower, Launch { shader, bindings, params: problem.params()?, grid, ops: problem.ops() })
}
