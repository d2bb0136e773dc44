//! Many queries anywhere: tiles of keys stream past a tile of queries in `f32`, with an online softmax and no score
//! matrix.

use etwgpu_record::Caps;

use super::Problem;
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};

/// Queries of a workgroup.
const ROWS: u32 = 16;

/// Keys of a tile.
const KEYS: u32 = 16;

/// Invocations that share a query.
const SHARE: u32 = 4;

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    require(problem.seq > 1, "a single query")?;
    let memory = (ROWS + KEYS) * (problem.head_dim + 4) * 4 + ROWS * KEYS * 4;
    require(memory <= caps.max_workgroup_memory, "the tiles exceed workgroup memory")
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let out = problem.out(lower)?;
    let quads = problem.head_dim / 4;
    let shader = problem
        .template("sdpa_flash", include_str!("flash.wgsl"))
        .set("WG", ROWS * SHARE)
        .set("ROWS", ROWS)
        .set("KEYS", KEYS)
        .set("SHARE", SHARE)
        .set("SUMS", quads.div_ceil(SHARE))
        .shader();
    let mut bindings =
        vec![lower.read(&problem.q), problem.keys(lower), problem.values(lower), lower.write(&out)];
    if let Some(mask) = &problem.mask {
        bindings.push(lower.read(mask));
    }
    let grid = [problem.seq.div_ceil(ROWS), problem.heads, problem.batch];
    problem.launch(lower, Launch { shader, bindings, params: problem.params()?, grid, ops: problem.ops() })
}
