//! Planning without a device: sizes, determinism, integers, grids.

use std::collections::BTreeSet;

use etwgpu_graph::DType::{F16, F32};
use etwgpu_graph::{DType, Dims, Value};
use etwgpu_kernels::cases::{self, Arg, Builder, Case};
use etwgpu_kernels::fuse::Groups;
use etwgpu_kernels::live::{Dirty, Flow, Journal, propagate};
use etwgpu_kernels::lower::{Planner, relower};
use etwgpu_kernels::ops::OPS;
use etwgpu_kernels::reference::{self, Array, count};
use etwgpu_kernels::storage::Storage;
use etwgpu_kernels::{Live, LowerOptions, Lowered, OpError};
use etwgpu_record::{Caps, Dispatch};
use etwgpu_testkit::{choices, lower, reached, reference as expected};

fn live_of(case: &Case) -> Live {
    case.live().unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

fn uses_half(case: &Case) -> bool {
    case.graph.values.iter().any(|v| matches!(v, Value::Tensor(t) if t.dtype == F16))
}

/// The case with every input at its bound and every integer zero.
fn at_bound(case: &Case) -> Case {
    let mut bound = case.clone();
    for (id, array) in &mut bound.inputs {
        let dims = &case.graph.tensor(*id).unwrap().dims;
        if array.dims != *dims {
            *array = Array::new(array.dtype, dims, vec![0.0; count(dims)]);
        }
    }
    bound.ints.values_mut().for_each(|value| *value = 0);
    bound
}

#[test]
fn every_operator_has_a_reference_and_a_case() {
    let cases = cases::all();
    let mut missing = Vec::new();
    for op in OPS {
        let without = op.names.iter().filter(|name| reference::find(name).is_none());
        missing.extend(without.map(|name| format!("{name} has no reference")));
        let is_used = |case: &Case| case.graph.nodes.iter().any(|n| op.names.contains(&n.op.as_str()));
        if !cases.iter().any(is_used) {
            missing.push(format!("{} has no case", op.names[0]));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_route_is_reached_on_some_device() {
    let reached: Vec<&str> = Caps::presets().iter().flat_map(reached).collect();
    for (family, names) in cases::routes() {
        let missing: Vec<_> = names.into_iter().filter(|name| !reached.contains(name)).collect();
        assert!(missing.is_empty(), "no case reaches {missing:?} of {family}");
    }
}

#[test]
fn cases_have_names_of_their_own() {
    let mut names: Vec<String> = cases::all().into_iter().map(|case| case.name).collect();
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn everything_lowers_on_the_smallest_device() {
    let floor = Caps::webgpu_floor();
    let mut lowered_ops = Vec::new();
    for case in cases::all() {
        let outcome = lower(&case, &live_of(&case), &floor, &LowerOptions::default());
        match outcome {
            Ok(_) if uses_half(&case) => {}
            Ok(_) => lowered_ops.extend(case.graph.nodes.iter().map(|n| n.op.clone())),
            // Halves need arithmetic that the smallest device lacks; nothing else may be refused.
            Err(error) => assert!(uses_half(&case), "{}: {error}", case.name),
        }
    }
    for op in OPS {
        let lowers = op.names.iter().any(|name| lowered_ops.iter().any(|l| l == name));
        assert!(lowers, "{} was never lowered on the smallest device", op.names[0]);
    }
}

#[test]
fn sizes_agree_with_the_reference() {
    for case in cases::all() {
        for case in [at_bound(&case), case] {
            let planned = live_of(&case);
            let (_, known) = expected(&case);
            for out in case.graph.nodes.iter().flat_map(|node| &node.outs) {
                let (got, want) = (&planned.dims[out.index()], &known.dims[out.index()]);
                assert_eq!(got, want, "{}: sizes of %{}", case.name, out.0);
                let (got, want) = (planned.ints[out.index()], known.ints[out.index()]);
                assert_eq!(got, want, "{}: integer %{}", case.name, out.0);
            }
        }
    }
}

#[test]
fn lowering_twice_gives_the_same_recording() {
    for case in cases::all() {
        let (live, caps) = (live_of(&case), Caps::h200());
        let once = || lower(&case, &live, &caps, &LowerOptions::default());
        assert_eq!(once(), once(), "{}", case.name);
    }
}

/// A plan for some integers, brought to others as a session does it: live words rewritten, the nodes that follow
/// integers lowered again. None when the work would be another.
fn patched(planner: &Planner<'_>, plan: &Lowered, live: &Live) -> Option<Vec<Dispatch>> {
    let mut dispatches = plan.recording.dispatches.clone();
    for dispatch in &mut dispatches {
        for param in &dispatch.live_params {
            dispatch.params[param.word as usize] = live.ints[param.value as usize] as u32;
        }
    }
    for (node, node_plan) in plan.plans.iter().enumerate().filter(|(_, p)| p.follows_integers) {
        let again = relower(planner, live, plan, node).unwrap();
        let slots = &mut dispatches[node_plan.dispatches.clone()];
        let sizes = |d: &Dispatch| d.bindings.iter().map(|b| (b.offset, b.size)).collect::<Vec<_>>();
        let same = |(a, b): (&Dispatch, &Dispatch)| a.shader == b.shader && sizes(a) == sizes(b);
        if again.len() != slots.len() || !again.iter().zip(&*slots).all(same) {
            return None;
        }
        for (slot, new) in slots.iter_mut().zip(again) {
            (slot.params, slot.grid) = (new.params, new.grid);
        }
    }
    Some(dispatches)
}

/// Name, parameters, grid and sizes of bindings.
type Launch<'a> = (&'a str, &'a [u32], [u32; 3], Vec<u64>);

fn launches(dispatches: &[Dispatch]) -> Vec<Launch<'_>> {
    let sizes = |d: &Dispatch| d.bindings.iter().map(|b| b.size).collect();
    dispatches.iter().map(|d| (d.shader.label, &d.params[..], d.grid, sizes(d))).collect()
}

#[test]
fn plans_follow_changing_integers() {
    let (caps, mut compared, mut replanned) = (Caps::h200(), 0, 0);
    for case in cases::all().into_iter().filter(|case| !case.ints.is_empty()) {
        let storage = Storage::of(&case.graph);
        let groups = Groups::of(&case.graph, &storage);
        let live = live_of(&case);
        for options in choices() {
            let planner = Planner {
                graph: &case.graph,
                storage: &storage,
                groups: &groups,
                caps: &caps,
                options: &options,
            };
            let plan = etwgpu_kernels::lower(&planner, &live).unwrap();
            for node in &plan.plans {
                let mut launches = plan.recording.dispatches[node.dispatches.clone()].iter();
                assert!(launches.all(|launch| launch.is_patched == node.follows_integers), "{}", case.name);
            }
            for change in [-33, -4, -1, 1, 4, 33] {
                let mut other = case.clone();
                other.ints.values_mut().for_each(|value| *value += change);
                let Ok(next) = other.live() else { continue };
                if next.dims != live.dims {
                    continue;
                }
                let fresh = etwgpu_kernels::lower(&planner, &next).unwrap();
                match patched(&planner, &plan, &next) {
                    Some(dispatches) => {
                        let want = launches(&fresh.recording.dispatches);
                        assert_eq!(launches(&dispatches), want, "{} moved by {change}", case.name);
                        compared += 1;
                    }
                    None => replanned += 1,
                }
            }
        }
    }
    println!("{compared} patched, {replanned} planned anew");
    assert!(compared > 200, "only {compared} plans were compared");
}

/// Most of a decode step's sizes and integers are those of the step before, and only what follows from the others is
/// found again.
#[test]
fn integers_that_change_alone_are_taken_or_refused_like_new_ones() {
    let (mut taken, mut refused) = (0, 0);
    for case in cases::all().into_iter().filter(|case| !case.ints.is_empty()) {
        let (flow, before) = (Flow::of(&case.graph), live_of(&case));
        for change in [-100_000, -33, -4, -1, 1, 4, 33, 100_000] {
            let mut other = case.clone();
            let (mut live, mut dirty, mut journal) = (before.clone(), Dirty::none(), Journal::default());
            for (&id, value) in &mut other.ints {
                *value += change;
                journal.set_int(&mut live, id, *value);
                dirty.mark(id);
            }
            let result = flow.propagate(&case.graph, &mut live, &dirty, &mut journal).map(|()| live.clone());
            assert_eq!(result, other.live(), "{} moved by {change}", case.name);
            *(if result.is_ok() { &mut taken } else { &mut refused }) += 1;
            journal.undo(&mut live);
            assert_eq!(live, before, "{} moved by {change} and back", case.name);
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

/// A case of tensors too large to have data, at their bound.
fn large(op: &str, tensors: &[&[u32]], rest: &[Arg], out: &[u32]) -> (Case, Live) {
    let mut b = Builder::new(format!("{op} of {tensors:?}"));
    let mut args: Vec<Arg> = Vec::new();
    for dims in tensors {
        let nothing: Dims = dims.iter().map(|_| 0).collect();
        args.push(b.input_below(dims, Array::new(F32, &nothing, vec![])).into());
    }
    args.extend(rest.iter().cloned());
    let result = b.result(F32, out);
    b.node(op, &args, &[result]);
    let case = b.finish(&[result]);
    let mut live = Live::at_bound(&case.graph);
    propagate(&case.graph, &mut live, &Dirty::all(&case.graph), &mut Journal::default()).unwrap();
    (case, live)
}

#[test]
fn grids_of_large_tensors_stay_within_limits() {
    let [tall, wide, heads]: [&[u32]; 3] = [&[400_000, 1024], &[3, 100_000_000], &[16, 5000, 64]];
    let works = [
        large("aten.add.Tensor", &[tall, tall], &[], tall),
        large("aten.mul.Tensor", &[wide, &[100_000_000]], &[], wide),
        large("aten.sigmoid.default", &[wide], &[], wide),
        large("et_vk.rms_norm.default", &[tall, &[1024]], &[], tall),
        large(
            "aten.slice_copy.Tensor",
            &[tall],
            &[Arg::Int(1), Arg::Int(3), Arg::Int(1000)],
            &[400_000, 997],
        ),
        large("aten.linear.default", &[tall, &[64, 1024]], &[], &[400_000, 64]),
        large("aten.linear.default", &[&[7, 33], &[900_000, 33]], &[], &[7, 900_000]),
        large("et_vk.sdpa.default", &[heads; 3], &[], heads),
    ];
    for (case, live) in works {
        let caps = Caps { max_grid: 65535, ..Caps::h200() };
        let lowered = lower(&case, &live, &caps, &LowerOptions::default());
        let lowered = lowered.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        for dispatch in &lowered.recording.dispatches {
            let groups: u64 = dispatch.grid.iter().map(|&g| u64::from(g)).product();
            assert!(dispatch.grid.iter().all(|&g| g <= 65535), "{}: {:?}", case.name, dispatch.grid);
            assert!(groups > 1000, "{}: {:?}", case.name, dispatch.grid);
        }
    }
}

/// A constant that the shader has.
fn constant(source: &str, name: &str) -> u32 {
    etwgpu_testkit::constant(source, name).unwrap_or_else(|| panic!("no {name}"))
}

/// What the cases' launches of one kernel look like on a device with cooperative matrices.
fn forms<T: Ord>(label: &str, form: impl Fn(&Dispatch) -> T) -> BTreeSet<T> {
    let mut forms = BTreeSet::new();
    let is_meant = |d: &&Dispatch| d.shader.label == label || (label.is_empty() && takes_matrices(d));
    for case in cases::all() {
        let live = live_of(&case);
        let plans = choices().into_iter().filter_map(|o| lower(&case, &live, &Caps::h200(), &o).ok());
        plans.for_each(|plan| forms.extend(plan.recording.dispatches.iter().filter(is_meant).map(&form)));
    }
    forms
}

/// Whether it multiplies activations with weights on matrices.
fn takes_matrices(dispatch: &Dispatch) -> bool {
    let source = &dispatch.shader.source;
    source.contains("coop_mat16x16") && source.contains("read> weight0")
}

/// Tiles are chosen by an account of time, so nothing else says whether the cases reach all that the kernel can do.
#[test]
fn cases_reach_every_form_of_products_on_matrices() {
    // Rows of a tile, scales of four groups a load, gate and up, parts of K, parts that begin among four groups.
    let reached = forms("", |dispatch| {
        let source = &*dispatch.shader.source;
        let in_fours = source.contains("fn component");
        let part = constant(source, "STEPS") * constant(source, "STEP");
        let groups = (0..3).filter(|i| source.contains(&format!("const GROUP{i} =")));
        let among =
            groups.filter(|i| !part.is_multiple_of(4 * constant(source, &format!("GROUP{i}")))).count() > 0;
        let in_parts = dispatch.grid[2] > 1;
        let gated = source.contains("var up00");
        (constant(source, "TILE_ROWS"), in_fours, gated, in_parts, in_parts && in_fours && among)
    });
    let wanted = [
        (128, false, false, false, false),
        (128, false, true, false, false),
        (128, false, true, true, false),
        (128, true, false, false, false),
        (128, true, false, true, true),
        (64, false, false, false, false),
        (64, false, false, true, false),
        (64, false, true, true, false),
        (64, true, false, false, false),
        (64, true, false, true, true),
        (64, true, true, false, false),
        (64, true, true, true, true),
    ];
    let missing: Vec<_> = wanted.into_iter().filter(|form| !reached.contains(form)).collect();
    assert!(missing.is_empty(), "no case reaches {missing:?}; they reach {reached:?}");
}

#[test]
fn cases_reach_every_form_of_rounded_rows() {
    // Halves, normalised, quantised with parameters that were given or that are chosen.
    let reached = forms("coop_rows", |dispatch| {
        let has = |text: &str| dispatch.shader.source.contains(text);
        (has("alias elem = f16"), has("read> norm_weight"), has("read> x_scale"), has("write> row_scale"))
    });
    let wanted = [
        (false, false, false, false),
        (false, true, false, false),
        (false, false, true, false),
        (false, false, false, true),
        (false, true, false, true),
        (true, true, false, false),
        (true, false, true, false),
    ];
    // Halves that need nothing are read as they are, and parameters for halves are chosen in a launch of their own.
    assert_eq!(reached, wanted.into_iter().collect());
}

/// A layer with 4-bit weights in groups of 32.
fn layer(m: u32, n: u32, k: u32) -> Case {
    let mut b = Builder::new(format!("{m} rows of {k} to {n}"));
    let x = b.noise(F32, &[m, k]);
    let weight = b.constant(DType::U8, &[n, k / 2], vec![0.0; (n * k / 2) as usize]);
    let scales = b.constant(F32, &[k / 32, n], vec![0.0; (n * k / 32) as usize]);
    let out = b.result(F32, &[m, n]);
    let args = [x.into(), weight.into(), scales.into(), Arg::Int(32), Arg::None];
    b.node("et_vk.linear_q4gsw.default", &args, &[out]);
    b.finish(&[out])
}

#[test]
fn what_matrices_do_not_take_goes_elsewhere() {
    let took = |m, n, k| {
        let case = layer(m, n, k);
        let lowered = lower(&case, &live_of(&case), &Caps::h200(), &LowerOptions::default()).unwrap();
        let mut considered = lowered.plans.into_iter().flat_map(|plan| plan.considered);
        considered.find(|c| c.route == "linear.coop").map(|c| c.refusal)
    };
    assert_eq!(took(9, 8, 32768), Some(None));
    for (m, n, k, why) in [
        (9, 10, 64, "N is not a multiple of 4"),
        (9, 8, 32800, "K is too long for one workgroup"),
        (9, 8, 65536, "K is too long for one workgroup"),
    ] {
        assert_eq!(took(m, n, k), Some(Some(why.into())), "{m} {n} {k}");
    }
    assert_eq!(took(8, 8, 64), None, "few rows have a route of their own");
}

#[test]
fn bindings_above_the_limit_are_refused() {
    let dims: &[u32] = &[40_000, 1024];
    let (case, live) = large("aten.sigmoid.default", &[dims], &[], dims);
    let at = |max_binding| {
        let caps = Caps { max_binding, ..Caps::webgpu_floor() };
        lower(&case, &live, &caps, &LowerOptions::default()).map(|_| ())
    };
    assert_eq!(at(40_000 * 1024 * 4), Ok(()));
    let error = at(40_000 * 1024 * 4 - 16).unwrap_err();
    assert!(matches!(&error.error, OpError::Unsupported(text) if text.contains("one binding")), "{error}");
}
