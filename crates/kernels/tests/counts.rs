//! What launches say of themselves: the operators that they stand for, and the bytes that they must move.

use std::collections::HashMap;

use etwgpu_graph::{Value, ValueId};
use etwgpu_kernels::cases::{self, Case};
use etwgpu_kernels::{LowerOptions, Lowered};
use etwgpu_record::{Access, Caps, Dispatch};
use etwgpu_testkit::lower;

fn case_lowered(case: &Case) -> Lowered {
    let live = case.live().unwrap_or_else(|error| panic!("{}: {error}", case.name));
    lower(case, &live, &Caps::h200(), &LowerOptions::default())
        .unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

#[test]
fn every_launch_names_its_operators_and_no_node_with_launches_is_left_out() {
    for case in cases::all() {
        let lowered = case_lowered(&case);
        let fused = lowered.fused.iter().filter(|&&fused| fused).count();
        let mut named = Vec::new();
        for dispatch in &lowered.recording.dispatches {
            let Dispatch { sources, node, shader, .. } = dispatch;
            assert!(
                sources.contains(node),
                "{}: {} of node {node} names {sources:?}",
                case.name,
                shader.label
            );
            named.extend(sources);
        }
        // The nodes of a case are numbered as operators of a program are.
        if fused > 0 {
            let groups = lowered.recording.dispatches.iter().filter(|d| d.sources.len() > 1).count();
            assert!(groups >= fused, "{}: {fused} groups run fused", case.name);
        }
        for (node, plan) in lowered.plans.iter().enumerate() {
            let works = !plan.dispatches.is_empty();
            assert!(!works || named.contains(&(node as u32)), "{}: nothing names node {node}", case.name);
        }
    }
}

#[test]
fn no_launch_counts_more_than_it_binds_nor_less_than_it_writes() {
    for case in cases::all() {
        for dispatch in &case_lowered(&case).recording.dispatches {
            let bound: u64 = dispatch.bindings.iter().map(|b| b.size).sum();
            let label = dispatch.shader.label;
            assert!(dispatch.bytes <= bound, "{}: {label} counts {} of {bound}", case.name, dispatch.bytes);
            let touched: u64 = dispatch.bindings.iter().map(|b| b.touched).sum();
            assert_eq!(dispatch.bytes, touched, "{}: {label}", case.name);
        }
    }
}

#[test]
fn embeddings_count_the_rows_that_are_picked() {
    let picks = |case: &Case| case.graph.nodes.len() == 1 && case.graph.nodes[0].op.contains("embedding");
    let mut seen = 0;
    for case in cases::all().into_iter().filter(picks) {
        let lowered = case_lowered(&case);
        let [dispatch] = &lowered.recording.dispatches[..] else { continue };
        let live = case.live().unwrap();
        let bytes = |id: ValueId| -> u64 {
            let Value::Tensor(tensor) = case.graph.value(id) else { return 0 };
            live.dims[id.index()].iter().map(|&d| u64::from(d)).product::<u64>() * tensor.dtype.size()
        };
        let node = &case.graph.nodes[0];
        let (table, out) = (bytes(node.args[0]), bytes(node.outs[0]));
        let read = dispatch.bindings.iter().find(|b| b.access == Access::Read).unwrap().touched;
        assert!(read <= table && read <= out, "{}: {read} of a table of {table}, out {out}", case.name);
        seen += 1;
    }
    assert!(seen > 3, "{seen} cases");
}

#[test]
fn attention_counts_its_caches_up_to_the_position() {
    let mut seen = HashMap::new();
    for case in cases::all() {
        let attends = case.graph.nodes.iter().any(|n| n.op == "sdpa_with_kv_cache.default");
        let Some((&position, _)) = case.ints.iter().next().filter(|_| attends && case.ints.len() == 1) else {
            continue;
        };
        let counted = |value: i64| {
            let mut case = case.clone();
            case.ints.insert(position, value);
            case.live().ok()?;
            let lowered = case_lowered(&case);
            let attention = |d: &&Dispatch| d.shader.label.starts_with("sdpa_");
            Some(lowered.recording.dispatches.iter().filter(attention).map(|d| d.bytes).sum::<u64>())
        };
        if let (Some(near), Some(far)) = (counted(0), counted(case.ints[&position])) {
            seen.insert(case.name.clone(), (case.ints[&position], near, far));
        }
    }
    assert!(seen.values().any(|(position, ..)| *position > 8), "{seen:?}");
    for (name, (position, near, far)) in seen {
        assert!(position == 0 || near < far, "{name}: {near} bytes at 0, {far} at {position}");
    }
}
