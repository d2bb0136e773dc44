//! Many rows of activations: 64×64 output tiles, register-tiled, operands staged in workgroup memory.

use etwgpu_record::Caps;

use super::{Problem, Weights};
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};

/// Rows and channels of a tile.
const TILE: u32 = 64;

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    require(caps.max_invocations >= 256, "fewer than 256 invocations")?;
    require(problem.k.is_multiple_of(4), "K is not a multiple of 4")?;
    if let Weights::Q4 { group, .. } = problem.weights {
        require(group % 8 == 0, "the group size is not a multiple of 8")?;
    }
    require(problem.m.div_ceil(TILE.into()) <= caps.max_grid.into(), "too many rows for the grid")
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let (template, bindings) = problem.operands(lower, "linear_gemm", include_str!("gemm.wgsl"))?;
    let shader = template.set("WG", 256).shader();
    let grid = [problem.n.div_ceil(TILE), problem.m.div_ceil(TILE.into()) as u32, 1];
    lower.launch(Launch { shader, bindings, params: vec![problem.m as u32], grid, ops: problem.ops() })
}
