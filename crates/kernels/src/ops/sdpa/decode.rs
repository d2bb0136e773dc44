//! One query against a long context: the context is split over workgroups, each keeping an online softmax. The last
//! workgroup of a head to finish merges the parts, or a second launch where workgroups cannot see each other's writes.
//!
//! A workgroup serves one key-value head, all query heads that share it, and one split: keys and values are read
//! once. `D / 4` neighbouring lanes hold a key; several keys are in flight per workgroup.

use etwgpu_record::{Access, Binding, Caps};

use super::Problem;
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};
use crate::template::Template;

/// Invocations of a workgroup.
const WG: u32 = 128;

/// The largest head dimension; a key's channels must fit in the workgroup's lanes.
pub(super) const MAX_HEAD_DIM: u32 = 256;

/// Most query heads that share a key head; each costs registers.
const MAX_GROUP: u32 = 16;

/// Keys of a split at least: shorter ones cost more to merge than they save.
const MIN_SPLIT: u32 = 32;

/// Keys whose loads an invocation has under way at once.
const AHEAD: u32 = 4;

/// Workgroups that keep a large GPU busy.
const BUSY: u32 = 512;

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    require(problem.seq == 1, "more than one query")?;
    require(problem.mask.is_none(), "attention mask")?;
    if problem.head_dim > MAX_HEAD_DIM {
        return Err(format!("head dimension {} above {MAX_HEAD_DIM}", problem.head_dim).into());
    }
    if problem.group() > MAX_GROUP {
        return Err(format!("{} query heads a key head, above {MAX_GROUP}", problem.group()).into());
    }
    if caps.max_invocations < WG {
        return Err(format!("{} invocations, below {WG}", caps.max_invocations).into());
    }
    require(merge_memory(problem) <= caps.max_workgroup_memory, "partial sums exceed workgroup memory")
}

/// Lanes that share a key: its `vec4`s, rounded up to a power of two.
fn lanes(problem: &Problem) -> u32 {
    (problem.head_dim / 4).next_power_of_two()
}

fn keys_at_once(problem: &Problem) -> u32 {
    WG / lanes(problem)
}

/// Most splits that are ever used: depends on heads and cache alone, so that scratch, bindings and grids never change.
/// Each is a workgroup of every launch, at work or not, so there are no more than a full cache fills.
fn max_splits(problem: &Problem) -> u32 {
    let heads = problem.batch * problem.kv_heads;
    let capacity = problem.keys.numel() / u64::from((heads * problem.head_dim).max(1));
    let filled = capacity.div_ceil(MIN_SPLIT.into()).clamp(1, 128) as u32;
    (BUSY / heads.max(1)).clamp(1, filled)
}

/// Splits of the live context, as `splits.wgsl` has it.
fn live_splits(problem: &Problem) -> u32 {
    problem.context.div_ceil(MIN_SPLIT).clamp(1, max_splits(problem))
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let heads = u64::from(problem.batch) * u64::from(problem.heads);
    let parts = heads * u64::from(max_splits(problem));
    let used = heads * u64::from(live_splits(problem));
    let sums = lower.scratch(parts * u64::from(problem.head_dim) * 4);
    let sums = sums.touching(used * u64::from(problem.head_dim) * 4);
    let states = lower.scratch(parts * 8).touching(used * 8);
    if merges(problem, lower.caps()) {
        return record_splits(lower, problem, vec![sums, states], true);
    }
    record_splits(lower, problem, vec![sums, states], false)?;
    record_merge(lower, problem, sums, states)
}

/// Whether the last workgroup of each head can join the parts: it saves a launch and a wait.
fn merges(problem: &Problem, caps: &Caps) -> bool {
    let parts = problem.group() * max_splits(problem) * 8;
    caps.coherent
        && caps.max_storage_buffers >= 7
        && merge_memory(problem) + parts + WG * 8 <= caps.max_workgroup_memory
        && keys_at_once(problem) * problem.group() * problem.head_dim / 4 >= WG
}

/// Bytes in which a workgroup joins its own keys.
fn merge_memory(problem: &Problem) -> u32 {
    keys_at_once(problem) * problem.group() * (problem.head_dim + 2) * 4
}

fn record_splits(
    lower: &mut Lower<'_>,
    problem: &Problem,
    parts: Vec<Binding>,
    merges: bool,
) -> Result<(), OpError> {
    let lanes = lanes(problem);
    // A shuffle stays within a subgroup, so the lanes of a key must too.
    let shuffles = lower.caps().subgroups.is_some_and(|s| s.min >= lanes);
    let shader = split_template(problem, "sdpa_split", include_str!("split.wgsl"))
        .set("LANES", lanes)
        .set("KEYS", WG / lanes)
        .set("AHEAD", AHEAD)
        .set("KV_HEADS", problem.kv_heads)
        .flag("SUBGROUPS", shuffles)
        .flag("MERGES", merges)
        .shader();
    let mut bindings = vec![lower.read(&problem.q), problem.keys(lower), problem.values(lower)];
    bindings.extend(parts);
    if merges {
        let out = problem.out(lower)?;
        bindings.push(lower.counters(u64::from(problem.batch) * u64::from(problem.kv_heads)));
        bindings.push(lower.write(&out));
    }
    let grid = [max_splits(problem), problem.kv_heads, problem.batch];
    problem.launch(lower, Launch { shader, bindings, params: problem.params()?, grid, ops: problem.ops() })
}

fn record_merge(
    lower: &mut Lower<'_>,
    problem: &Problem,
    sums: Binding,
    states: Binding,
) -> Result<(), OpError> {
    let out = problem.out(lower)?;
    let shader = split_template(problem, "sdpa_merge", include_str!("merge.wgsl"))
        .set("LANES", lanes(problem))
        .set("SLOTS", WG / lanes(problem))
        .shader();
    let read = |b: Binding| Binding { access: Access::Read, ..b };
    let bindings = vec![read(sums), read(states), lower.write(&out)];
    let grid = [problem.heads, problem.batch, 1];
    problem.launch(lower, Launch { shader, bindings, params: problem.params()?, grid, ops: 0 })
}

/// Both kernels derive the number of splits from the live context.
fn split_template(problem: &Problem, label: &'static str, text: &'static str) -> Template {
    let template = problem.template(label, text).set("WG", WG);
    template.set("MIN_SPLIT", MIN_SPLIT).set("MAX_SPLITS", max_splits(problem))
}
