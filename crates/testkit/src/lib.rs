//! Runs operator cases on a GPU and on the reference, and compares; for tests only.

mod gpu;
mod tolerance;

use std::collections::{BTreeSet, HashMap};

use etwgpu_graph::ValueId;
use etwgpu_kernels::cases::Case;
use etwgpu_kernels::fuse::Groups;
use etwgpu_kernels::reference::{Array, evaluate};
use etwgpu_kernels::storage::Storage;
use etwgpu_kernels::{Live, LowerError, LowerOptions, Lowered, lower::Planner};
use etwgpu_record::Caps;

pub use gpu::{POISON, open, run, run_buffers};
pub use tolerance::{Tolerance, compare, compare_rounded, compare_whole, compare_within};

/// Plans a case at its live sizes.
pub fn lower(case: &Case, live: &Live, caps: &Caps, options: &LowerOptions) -> Result<Lowered, LowerError> {
    let storage = Storage::of(&case.graph);
    let groups = Groups::of(&case.graph, &storage);
    etwgpu_kernels::lower(
        &Planner { graph: &case.graph, storage: &storage, groups: &groups, caps, options },
        live,
    )
}

/// Every choice that a caller can force: nothing, or a route wherever it fits; each with and without fusions.
pub fn choices() -> Vec<LowerOptions> {
    let routes = etwgpu_kernels::cases::routes();
    let names = |family: &str, is_it: bool| -> Vec<String> {
        let of_family = routes.iter().filter(|(name, _)| (*name == family) == is_it);
        of_family.flat_map(|(_, names)| names).map(|&name| name.to_owned()).collect()
    };
    let (fusions, others) = (names("fuse", true), names("fuse", false));
    let mut choices = Vec::new();
    for avoid in [Vec::new(), fusions] {
        choices.push(LowerOptions { prefer: Vec::new(), avoid: avoid.clone(), ..LowerOptions::default() });
        choices.extend(others.iter().map(|route| LowerOptions {
            prefer: vec![route.clone()],
            avoid: avoid.clone(),
            ..LowerOptions::default()
        }));
    }
    choices
}

/// Routes and fusions that a plan took.
pub fn taken(lowered: &Lowered) -> Vec<&'static str> {
    let considered = lowered.plans.iter().flat_map(|plan| &plan.considered);
    considered.filter(|c| c.refusal.is_none()).map(|c| c.route).collect()
}

/// A constant that planning put into a shader's text.
pub fn constant(source: &str, name: &str) -> Option<u32> {
    let start = format!("const {name} = ");
    let value = source.lines().find_map(|line| line.strip_prefix(&start))?;
    value.trim_end_matches("u;").parse().ok()
}

/// Routes and fusions that some case takes on a device under some choice.
pub fn reached(caps: &Caps) -> BTreeSet<&'static str> {
    let mut routes = BTreeSet::new();
    for case in etwgpu_kernels::cases::all() {
        let Ok(live) = case.live() else { continue };
        let plans = choices().into_iter().filter_map(|options| lower(&case, &live, caps, &options).ok());
        plans.for_each(|lowered| routes.extend(taken(&lowered)));
    }
    routes
}

/// What the host would receive from the reference, in the order of the graph's outputs, and the sizes of everything.
pub fn reference(case: &Case) -> (Vec<Array>, Live) {
    let mut live = case.given();
    let mut arrays: HashMap<ValueId, Array> = case.arrays();
    if let Err(error) = evaluate(&case.graph, &mut live, &mut arrays) {
        panic!("{}: the reference refuses: {error}", case.name);
    }
    (case.graph.outputs.iter().map(|id| arrays[id].clone()).collect(), live)
}
