//! Caches stored as `f16` although the program declares `f32`: on every route, in fusions, and where it is refused.

use etwgpu_graph::DType::{F16, F32};
use etwgpu_graph::{Value, ValueId};
use etwgpu_kernels::cases::{Arg, Builder, Case};
use etwgpu_kernels::ops::sdpa;
use etwgpu_kernels::passes::{self, PassOptions};
use etwgpu_kernels::reference::Array;
use etwgpu_kernels::{LowerOptions, fuse};
use etwgpu_record::{Caps, Totals};
use etwgpu_testkit::{Tolerance, choices, compare_within, lower, open, reference, run, taken};

const WANTED: PassOptions = PassOptions { f16_kv_cache: true };

/// Runs the passes on a case as a load would, and converts the initial bytes of what they changed. Returns their notes.
fn halve(case: &mut Case) -> Vec<String> {
    let notes = passes::run(&mut case.graph, &WANTED);
    for (at, constant) in case.graph.constants.iter().enumerate().skip(case.constants.len()) {
        assert_eq!(constant.stored, Some(F32));
        let original = case.graph.constants.iter().position(|c| c.source == constant.source).unwrap();
        let Array { dims, values, .. } = case.constants[original].clone();
        assert_eq!(at, case.constants.len());
        case.constants.push(Array::new(F16, &dims, values));
    }
    notes
}

/// Cases whose caches live in the delegate once the host no longer receives them, and their `f32` twins.
fn cases() -> Vec<(Case, Case)> {
    let all = sdpa::cases::all().into_iter().chain(fuse::cases::all());
    let halved = all.filter_map(|mut full| {
        let constant = |id: &ValueId| full.graph.tensor(*id).is_some_and(|t| t.constant.is_some());
        full.graph.outputs = full.graph.outputs.iter().copied().filter(|id| !constant(id)).collect();
        let mut case = full.clone();
        halve(&mut case);
        (case.graph != full.graph && !case.graph.outputs.is_empty()).then_some((full, case))
    });
    halved.collect()
}

#[test]
fn every_route_and_fusion_runs_on_half_caches() {
    let gpu = open();
    let (mut ran, mut fused, mut failures) = (0, 0, Vec::new());
    for (full, case) in cases() {
        let live = case.live().unwrap();
        let (want, _) = reference(&case);
        let mut done = Vec::new();
        for options in choices() {
            let lowered = lower(&case, &live, gpu.caps(), &options).unwrap();
            if done.contains(&lowered.recording) {
                continue;
            }
            let bytes = |lowered| Totals::of(lowered).state_bytes;
            let singles = lower(&full, &live, gpu.caps(), &options).unwrap();
            assert_eq!(2 * bytes(&lowered.recording), bytes(&singles.recording), "{}", case.name);
            let took = taken(&lowered);
            let got = run(&gpu, &case, &live, &lowered);
            let close = |(g, w): (&Array, &Array)| compare_within(Tolerance { abs: 2e-3, rel: 1e-2 }, g, w);
            let right = got.and_then(|got| got.iter().zip(&want).try_for_each(close));
            failures.extend(right.err().map(|error| format!("{} {took:?}: {error}", case.name)));
            fused += usize::from(took.contains(&"fuse.attention_front"));
            ran += 1;
            done.push(lowered.recording);
        }
    }
    assert!(failures.is_empty(), "{} failures: {:#?}", failures.len(), &failures[..failures.len().min(9)]);
    assert!(ran > 100 && fused > 10, "{ran} runs, {fused} fused");
}

/// One step over two caches; `out` is what the host receives besides its result.
fn step(out: &[usize], extra: impl FnOnce(&mut Builder, [ValueId; 2])) -> Case {
    let mut b = Builder::new("step");
    let [q, k, v] = [(); 3].map(|()| b.noise(F32, &[1, 1, 2, 8]));
    let caches = [(); 2].map(|()| b.constant(F32, &[1, 6, 2, 8], vec![0.0; 96]));
    let result = b.result(F32, &[1, 1, 2, 8]);
    let args = [q, k, v, caches[0], caches[1]].map(Arg::Id).into_iter();
    let rest = [Arg::Int(0), Arg::Int(1), Arg::None, Arg::Float(0.0), Arg::Bool(true), Arg::None];
    b.node("sdpa_with_kv_cache.default", &args.chain(rest).collect::<Vec<_>>(), &[result]);
    extra(&mut b, caches);
    let outs: Vec<ValueId> = std::iter::once(result).chain(out.iter().map(|&i| caches[i])).collect();
    b.finish(&outs)
}

fn dtypes(case: &Case) -> Vec<etwgpu_graph::DType> {
    let values = case.graph.values.iter();
    values.filter_map(|v| if let Value::Tensor(t) = v { t.constant.map(|_| t.dtype) } else { None }).collect()
}

#[test]
fn caches_that_others_use_stay_as_they_are_and_it_is_said_why() {
    let mut plain = step(&[], |_, _| ());
    assert_eq!(halve(&mut plain), ["2 of 2 caches are stored as f16"]);
    assert_eq!(dtypes(&plain), [F16, F16]);

    let mut received = step(&[1], |_, _| ());
    let notes = halve(&mut received);
    assert_eq!(dtypes(&received), [F32, F32]);
    assert_eq!(
        notes,
        [
            "0 of 2 caches are stored as f16",
            "%3 not: %4 beside it is not",
            "%4 not: the host passes or receives it",
        ]
    );

    let mut read = step(&[], |b, caches| {
        let out = b.result(F32, &[1, 6, 2, 8]);
        b.node("aten.neg.default", &[caches[0].into()], &[out]);
    });
    let notes = halve(&mut read);
    assert_eq!(dtypes(&read), [F32, F32]);
    assert!(notes.contains(&"%3 not: aten.neg.default uses it, too".to_owned()), "{notes:?}");

    let mut listed = step(&[], |b, caches| {
        let out = b.result(F32, &[1, 12, 2, 8]);
        b.node("aten.cat.default", &[Arg::List(caches.map(Arg::Id).into()), Arg::Int(1)], &[out]);
    });
    halve(&mut listed);
    assert_eq!(dtypes(&listed), [F32, F32]);
}

#[test]
fn nothing_changes_unless_asked() {
    let mut case = step(&[], |_, _| ());
    let before = case.graph.clone();
    assert!(passes::run(&mut case.graph, &PassOptions::default()).is_empty());
    assert_eq!(case.graph, before);
}

#[test]
fn planning_refuses_a_device_without_halves() {
    let mut case = step(&[], |_, _| ());
    halve(&mut case);
    let refused = lower(&case, &case.live().unwrap(), &Caps::webgpu_floor(), &LowerOptions::default());
    assert!(refused.unwrap_err().to_string().contains("f16"));
}
