//! Scores, softmax and weighted sum as three launches over a score matrix: for any shape, mask and type.

use etwgpu_record::{Binding, Caps};

use super::Problem;
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};
use crate::template::Template;

const WG: u32 = 64;

/// Queries and keys of one score tile.
pub(super) const TILE: u32 = 4;

/// Score rows are padded so that each starts on a `vec4`.
fn pitch(problem: &Problem) -> u64 {
    u64::from(problem.context.next_multiple_of(TILE))
}

/// Bytes of the score matrix; rows are padded to whole tiles.
fn score_bytes(problem: &Problem) -> u64 {
    let rows =
        u64::from(problem.batch) * u64::from(problem.heads) * u64::from(problem.seq.next_multiple_of(TILE));
    rows * pitch(problem) * 4
}

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    let bytes = score_bytes(problem);
    require(bytes <= caps.max_binding, "the score matrix exceeds the largest binding")?;
    require(bytes / 4 <= u64::from(u32::MAX), "the score matrix exceeds 2^32 elements")
}

/// What is left out of the three kernels, for comparison only.
#[derive(Clone, Copy)]
struct Without {
    /// Neighbouring invocations read neighbouring channels of the values.
    coalescing: bool,
    /// Tiles that the causal mask hides are not computed.
    skipping: bool,
}

impl Without {
    fn template(self, problem: &Problem, label: &'static str, text: &'static str) -> Template {
        let template = problem.template(label, text).set("WG", WG);
        template.flag("STRIDED", self.coalescing).flag("ALL_TILES", self.skipping)
    }
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    record_without(lower, problem, Without { coalescing: false, skipping: false })
}

pub(super) fn record_naive(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    record_without(lower, problem, Without { coalescing: true, skipping: true })
}

pub(super) fn record_coalesced(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    record_without(lower, problem, Without { coalescing: false, skipping: true })
}

pub(super) fn record_skipping(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    record_without(lower, problem, Without { coalescing: true, skipping: false })
}

fn record_without(lower: &mut Lower<'_>, problem: &Problem, without: Without) -> Result<(), OpError> {
    // Grids and the score matrix follow the context.
    lower.follow_integers();
    let scores = lower.scratch(score_bytes(problem));
    record_scores(lower, problem, without, scores)?;
    record_softmax(lower, problem, without, scores)?;
    record_sum(lower, problem, without, scores)
}

fn tiles(problem: &Problem) -> u64 {
    u64::from(problem.batch * problem.heads) * u64::from(problem.seq.div_ceil(TILE))
}

fn record_scores(
    lower: &mut Lower<'_>,
    problem: &Problem,
    without: Without,
    scores: Binding,
) -> Result<(), OpError> {
    let mut bindings = vec![lower.read(&problem.q), problem.keys(lower), scores];
    if let Some(mask) = &problem.mask {
        bindings.push(lower.read(mask));
    }
    let threads = tiles(problem) * u64::from(problem.context.div_ceil(TILE));
    let shader = without.template(problem, "sdpa_scores", include_str!("scores.wgsl")).shader();
    let grid = lower.grid(threads.div_ceil(WG.into()));
    problem
        .launch(lower, Launch { shader, bindings, params: problem.params()?, grid, ops: problem.ops() / 2 })
}

fn record_softmax(
    lower: &mut Lower<'_>,
    problem: &Problem,
    without: Without,
    scores: Binding,
) -> Result<(), OpError> {
    let shader = without
        .template(problem, "sdpa_softmax", include_str!("softmax.wgsl"))
        .flag("SUBGROUPS", lower.caps().subgroups.is_some())
        .shader();
    let grid = lower.grid(u64::from(problem.batch * problem.heads) * u64::from(problem.seq));
    problem.launch(lower, Launch { shader, bindings: vec![scores], params: problem.params()?, grid, ops: 0 })
}

fn record_sum(
    lower: &mut Lower<'_>,
    problem: &Problem,
    without: Without,
    scores: Binding,
) -> Result<(), OpError> {
    let out = problem.out(lower)?;
    let scores = Binding { access: etwgpu_record::Access::Read, ..scores };
    let bindings = vec![scores, problem.values(lower), lower.write(&out)];
    let threads = tiles(problem) * u64::from(problem.head_dim / 4);
    let shader = without.template(problem, "sdpa_sum", include_str!("sum.wgsl")).shader();
    let grid = lower.grid(threads.div_ceil(WG.into()));
    problem
        .launch(lower, Launch { shader, bindings, params: problem.params()?, grid, ops: problem.ops() / 2 })
}
