//! One workgroup an output element: for any size, group and type.

use super::Problem;
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::unsupported;

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let elements = problem.m * u64::from(problem.n);
    if u32::try_from(elements).is_err() {
        return Err(unsupported!("{elements} output elements"));
    }
    let (template, bindings) = problem.operands(lower, "linear_rows", include_str!("rows.wgsl"))?;
    let shader = template.set("WG", 64).flag("SUBGROUPS", lower.caps().subgroups.is_some()).shader();
    let grid = lower.grid(elements);
    lower.launch(Launch { shader, bindings, params: vec![problem.m as u32], grid, ops: problem.ops() })
}
