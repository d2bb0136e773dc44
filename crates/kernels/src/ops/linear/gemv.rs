//! Few rows of activations against 4-bit weights: the activations stay in registers, the weights stream past.
//!
//! An invocation owns 32 consecutive channels (one 16-byte load of nibbles), a workgroup spans all of K and walks
//! several output channels. Weight loads are contiguous across lanes, scales too.

use etwgpu_record::Caps;

use super::{Problem, Weights};
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};

/// Channels of one invocation and load.
const CHUNK: u32 = 32;

/// Most chunks that an invocation keeps in registers.
const MAX_CHUNKS: u32 = 4;

/// Largest M: beyond it the tiled route reads the weights less often.
const MAX_ROWS: u64 = 4;

/// Workgroups that keep a large GPU busy.
const BUSY: u32 = 1024;

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    let Weights::Q4 { group, .. } = problem.weights else { return Err("weights are not 4-bit".into()) };
    require(problem.m <= MAX_ROWS, "more than 4 rows of activations")?;
    require(problem.k % CHUNK == 0 && group % CHUNK == 0, "K and the group size are not multiples of 32")?;
    require(problem.k / CHUNK <= MAX_CHUNKS * workgroup(problem.k, caps), "K is too long for registers")
}

fn workgroup(k: u32, caps: &Caps) -> u32 {
    (k / CHUNK).next_power_of_two().clamp(32, 256.min(caps.max_invocations))
}

/// Output channels a workgroup walks: more reuse of the activations, as long as enough workgroups remain.
fn channels(n: u32) -> u32 {
    [16, 8, 4].into_iter().find(|c| n / c >= BUSY).unwrap_or(2)
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let wg = workgroup(problem.k, lower.caps());
    let rows = channels(problem.n);
    let shader = problem
        .template("linear_gemv_q4", include_str!("gemv.wgsl"))?
        .set("WG", wg)
        .set("ROWS", rows)
        .set("CHUNKS", (problem.k / CHUNK).div_ceil(wg))
        .flag("SUBGROUPS", lower.caps().subgroups.is_some())
        .shader();
    let bindings = problem.bindings(lower)?;
    let grid = [problem.n.div_ceil(rows), problem.m as u32, 1];
    let grid = if grid[0] > lower.caps().max_grid { [lower.caps().max_grid, grid[1], grid[0].div_ceil(lower.caps().max_grid)] } else { grid };
    lower.launch(Launch { shader, bindings, params: vec![problem.m as u32], grid, ops: problem.ops() })
}
