//! One query against a long context: the context is split over workgroups, each keeping an online softmax. The last
//! workgroup of a head to finish merges the parts, or a second launch where workgroups cannot see each other's writes.
//! A short context is not worth parts: a workgroup for each query head walks it alone.
//!
//! A workgroup serves one key-value head, all query heads that share it, and one split: keys and values are read
//! once. `D / 4` neighbouring lanes hold a key; several keys are in flight per workgroup.

use etwgpu_graph::DType;
use etwgpu_record::{Access, Binding, Caps};

use super::Problem;
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::route::{Refusal, require};
use crate::template::Template;

/// How much of a context a workgroup takes on.
struct Share {
    /// Invocations of a workgroup.
    wg: u32,
    /// Keys whose loads an invocation has under way at once, at most.
    ahead: u32,
    /// Workgroups that keep the device busy with a long context.
    busy: u32,
    /// Turns of keys that are worth a workgroup: in smaller parts, joining them costs more than is won.
    least_turns: u32,
}

/// For a GPU with room for it.
const LARGE: Share = Share { wg: 256, ahead: 8, busy: 256, least_turns: 8 };

/// For little workgroup memory, and for a CPU, which runs the invocations of a workgroup one after another.
const SMALL: Share = Share { wg: 128, ahead: 2, busy: 512, least_turns: 2 };

/// Scores of so many keys and heads are under way at once, unless there are more heads: each takes a register.
const MOST_SCORES: u32 = 32;

/// Turns of keys that are under way at once where a workgroup has one query head.
const AT_HAND: u32 = 8;

/// Turns of so many keys take one workgroup a query head less time than several take that must be joined.
const ALONE_TURNS: u32 = 2;

/// Most parts that a thread has under way when it joins them: a sum each, in four registers, and a state in two.
const MOST_PARTS: u32 = 16;

/// The largest head dimension; a key's channels must fit in the workgroup's lanes.
pub(super) const MAX_HEAD_DIM: u32 = 256;

/// Most query heads that share a key head; each costs registers.
const MAX_GROUP: u32 = 16;

pub(super) fn fits(problem: &Problem, caps: &Caps) -> Result<(), Refusal> {
    require(problem.seq == 1, "more than one query")?;
    require(problem.mask.is_none(), "attention mask")?;
    if problem.head_dim > MAX_HEAD_DIM {
        return Err(format!("head dimension {} above {MAX_HEAD_DIM}", problem.head_dim).into());
    }
    if problem.group() > MAX_GROUP {
        return Err(format!("{} query heads a key head, above {MAX_GROUP}", problem.group()).into());
    }
    if caps.max_invocations < SMALL.wg {
        return Err(format!("{} invocations, below {}", caps.max_invocations, SMALL.wg).into());
    }
    require(
        Layout::sized(problem, caps, &SMALL).memory <= caps.max_workgroup_memory,
        "partial sums exceed workgroup memory",
    )
}

/// How a workgroup is shared out.
struct Layout {
    share: &'static Share,
    /// Lanes that share a key: its `vec4`s, rounded up to a power of two, and as many as there are heads to share out.
    lanes: u32,
    /// Whether those lanes exchange by shuffles.
    shuffles: bool,
    /// Sets of keys that shuffles join.
    joined: u32,
    /// Bytes in which lanes exchange what they have no shuffles for, and a workgroup joins its own keys.
    memory: u32,
}

impl Layout {
    fn of(problem: &Problem, caps: &Caps) -> Self {
        let large = Self::sized(problem, caps, &LARGE);
        let has_room = 2 * large.memory <= caps.max_workgroup_memory && LARGE.wg <= caps.max_invocations;
        if has_room && !caps.is_cpu { large } else { Self::sized(problem, caps, &SMALL) }
    }

    fn sized(problem: &Problem, caps: &Caps, share: &'static Share) -> Self {
        let lanes = (problem.head_dim / 4).max(problem.group()).next_power_of_two();
        let keys = share.wg / lanes;
        // A shuffle stays within a subgroup, so the lanes of a key must too.
        let subgroup = caps.subgroups.map_or(0, |s| s.min);
        let shuffles = subgroup >= lanes;
        let joined = if shuffles { (subgroup / lanes).min(keys) } else { 1 };
        let exchanged = if shuffles { 0 } else { share.wg };
        let memory = (exchanged + keys / joined * problem.group() * (problem.head_dim + 2)) * 4;
        Self { share, lanes, shuffles, joined, memory }
    }

    fn keys(&self) -> u32 {
        self.share.wg / self.lanes
    }

    /// Turns of keys under way at once, for so many heads.
    fn turns(&self, heads: u32) -> u32 {
        (MOST_SCORES / heads.next_power_of_two()).clamp(2, self.share.ahead)
    }

    /// Keys of a split at least.
    fn least_split(&self) -> u32 {
        self.share.least_turns * self.keys()
    }

    /// Most splits that are ever used: depends on heads and cache alone, so that scratch, bindings and grids never
    /// change. Each is a workgroup of every launch, at work or not, so there are no more than a full cache fills.
    fn max_splits(&self, problem: &Problem) -> u32 {
        let heads = problem.batch * problem.kv_heads;
        let filled = capacity(problem).div_ceil(self.least_split().into()).clamp(1, 128) as u32;
        (self.share.busy / heads.max(1)).clamp(1, filled)
    }

    /// Splits of the live context, as `splits.wgsl` has it.
    fn live_splits(&self, problem: &Problem) -> u32 {
        problem.context.div_ceil(self.least_split()).clamp(1, self.max_splits(problem))
    }

    /// Whether the last workgroup of each head can join the parts: it saves a launch and a wait.
    fn merges(&self, caps: &Caps) -> bool {
        // What each invocation found: a sum and its state.
        let joining = (16 + 8) * self.share.wg;
        caps.coherent && caps.max_storage_buffers >= 7 && self.memory + joining <= caps.max_workgroup_memory
    }

    /// Threads of the last workgroup that share the parts of a head's `vec4`, and parts that each has under way at once.
    fn joiners(&self, problem: &Problem) -> (u32, u32) {
        let splits = self.max_splits(problem);
        let items = problem.group() * problem.head_dim / 4;
        let share = (self.share.wg / items).clamp(1, splits);
        (share, splits.div_ceil(share).min(MOST_PARTS))
    }

    /// Longest context that a workgroup for each query head walks alone; none where workgroups are too few.
    fn alone(&self, problem: &Problem) -> Option<u32> {
        (self.max_splits(problem) >= problem.group()).then(|| ALONE_TURNS * AT_HAND * self.keys())
    }
}

/// What a workgroup works on at once. Both are powers of two where scores are shared out, once heads are rounded up.
struct Way {
    /// Query heads.
    heads: u32,
    /// Turns of keys.
    turns: u32,
}

impl Way {
    /// Sets the constants of this way, which `split.wgsl` knows by its number.
    fn describe(&self, template: Template, layout: &Layout, number: usize) -> Template {
        let (heads, turns, lanes) = (self.heads, self.turns, layout.lanes);
        let scores = heads.next_power_of_two() * turns;
        // Scores that a lane adds up, and lanes that add up the same one.
        let mine = (scores / lanes).max(1);
        let repeated = (lanes / scores).max(1);
        // How often teams of lanes halve the heads that they add up.
        let halvings = heads.trailing_zeros().min(layout.joined.ilog2());
        let constants = [
            (["HEADS0", "HEADS1"], heads),
            (["HALF0", "HALF1"], heads / 2),
            (["TURNS0", "TURNS1"], turns),
            (["SCORES0", "SCORES1"], scores),
            (["KEPT0", "KEPT1"], scores / 2),
            (["MINE0", "MINE1"], mine),
            (["REPEATED0", "REPEATED1"], repeated),
            (["TURN_STEPS0", "TURN_STEPS1"], (turns / mine).ilog2()),
            // Lanes count heads from their own where these are a power of two.
            (["HEAD_STEPS0", "HEAD_STEPS1"], if heads.is_power_of_two() { heads.ilog2() } else { 0 }),
            (["HALVINGS0", "HALVINGS1"], halvings),
            (["HELD0", "HELD1"], heads >> halvings),
        ];
        constants.into_iter().fold(template, |template, (names, value)| template.set(names[number], value))
    }
}

/// Keys that a cache holds.
fn capacity(problem: &Problem) -> u64 {
    problem.keys.numel() / u64::from((problem.batch * problem.kv_heads * problem.head_dim).max(1))
}

pub(super) fn record(lower: &mut Lower<'_>, problem: &Problem) -> Result<(), OpError> {
    let heads = u64::from(problem.batch) * u64::from(problem.heads);
    let layout = Layout::of(problem, lower.caps());
    let parts = heads * u64::from(layout.max_splits(problem));
    let used = heads * u64::from(layout.live_splits(problem));
    let sums = lower.scratch(parts * u64::from(problem.head_dim) * 4);
    let sums = sums.touching(used * u64::from(problem.head_dim) * 4);
    let states = lower.scratch(parts * 8).touching(used * 8);
    let merges = layout.merges(lower.caps());
    record_splits(lower, problem, &layout, vec![sums, states], merges)?;
    if merges { Ok(()) } else { record_merge(lower, problem, &layout, sums, states) }
}

fn record_splits(
    lower: &mut Lower<'_>,
    problem: &Problem,
    layout: &Layout,
    parts: Vec<Binding>,
    merges: bool,
) -> Result<(), OpError> {
    let alone = layout.alone(problem).filter(|_| merges);
    let template = split_template(problem, layout, layout.share.wg, "sdpa_split", include_str!("split.wgsl"))
        .set("LANES", layout.lanes)
        .set("KEYS", layout.keys())
        .set("JOINED", layout.joined)
        .set("SLOTS", layout.keys() / layout.joined)
        .set("LANE_STEPS", layout.lanes.ilog2())
        .set("JOIN_STEPS", layout.joined.ilog2())
        .set("KV_HEADS", problem.kv_heads)
        .set("WAYS", 1 + u32::from(alone.is_some()))
        .flag("SPARE_LANES", layout.lanes > problem.head_dim / 4)
        .flag("SUBGROUPS", layout.shuffles)
        // Halves take half of the registers, and between the products of several heads their loads are early enough.
        .flag("PINNED_LOADS", layout.shuffles && (problem.keys.dtype == DType::F32 || problem.group() == 1))
        .flag("MERGES", merges);
    let together = Way { heads: problem.group(), turns: layout.turns(problem.group()) };
    let (share, parts_at_once) = layout.joiners(problem);
    let template = template.set("SHARE", share).set("AT_ONCE", parts_at_once);
    let template = together.describe(template, layout, 0);
    let template = match alone {
        Some(keys) => {
            let way = Way { heads: 1, turns: AT_HAND };
            way.describe(template.flag("ALONE", true).set("ALONE", keys), layout, 1)
        }
        None => template,
    };
    let shader = template.shader();
    let mut bindings = vec![lower.read(&problem.q), problem.keys(lower), problem.values(lower)];
    bindings.extend(parts);
    if merges {
        let out = problem.out(lower)?;
        bindings.push(lower.counters(u64::from(problem.batch) * u64::from(problem.kv_heads)));
        bindings.push(lower.write(&out));
    }
    let grid = [problem.kv_heads * layout.max_splits(problem), problem.batch, 1];
    problem.launch(lower, Launch { shader, bindings, params: problem.params()?, grid, ops: problem.ops() })
}

fn record_merge(
    lower: &mut Lower<'_>,
    problem: &Problem,
    layout: &Layout,
    sums: Binding,
    states: Binding,
) -> Result<(), OpError> {
    let out = problem.out(lower)?;
    let shader = split_template(problem, layout, SMALL.wg, "sdpa_merge", include_str!("merge.wgsl"))
        .set("LANES", layout.lanes)
        .set("SLOTS", SMALL.wg / layout.lanes)
        .shader();
    let read = |b: Binding| Binding { access: Access::Read, ..b };
    let bindings = vec![read(sums), read(states), lower.write(&out)];
    let grid = [problem.heads, problem.batch, 1];
    problem.launch(lower, Launch { shader, bindings, params: problem.params()?, grid, ops: 0 })
}

/// Both kernels derive the number of splits from the live context.
fn split_template(
    problem: &Problem,
    layout: &Layout,
    wg: u32,
    label: &'static str,
    text: &'static str,
) -> Template {
    let template = problem.template(label, text).set("WG", wg);
    template.set("MIN_SPLIT", layout.least_split()).set("MAX_SPLITS", layout.max_splits(problem))
}
