//! Storage that values share, and rewrites of whole graphs.

use etwgpu_graph::DType::F32;
use etwgpu_graph::ValueId;
use etwgpu_kernels::LowerOptions;
use etwgpu_kernels::cases::{self, Arg, Builder, Case};
use etwgpu_kernels::ops::sdpa::caches_by_kind;
use etwgpu_kernels::passes::{self, PassOptions};
use etwgpu_kernels::storage::{Kind, Storage};
use etwgpu_record::{BufferDesc, Caps};
use etwgpu_testkit::{compare, lower, reference as expected};

/// A cache cloned before and after a write; the nodes are clone, write, clone.
fn cloned_cache(writes: bool) -> Case {
    let mut b = Builder::new("cloned cache");
    let cache = b.constant(F32, &[1, 2, 1, 4], vec![1.0; 8]);
    let row = b.noise(F32, &[1, 1, 1, 4]);
    let [before, after] = [(); 2].map(|()| b.result(F32, &[1, 2, 1, 4]));
    b.node("aten.clone.default", &[cache.into()], &[before]);
    if writes {
        b.node("update_cache.default", &[row.into(), cache.into(), Arg::Int(1)], &[cache]);
    } else {
        let sum = b.result(F32, &[1, 2, 1, 4]);
        b.node("aten.add.Tensor", &[cache.into(), row.into()], &[sum]);
    }
    b.node("aten.clone.default", &[cache.into()], &[after]);
    b.finish(&[before, after])
}

#[test]
fn copies_share_storage_only_while_nothing_writes_it() {
    let aliased = |case: &Case| {
        let storage = Storage::of(&case.graph);
        (storage.is_aliased(0), storage.is_aliased(2), storage.kind(ValueId(0)))
    };
    assert_eq!(aliased(&cloned_cache(false)), (true, true, Kind::Weight));
    assert_eq!(aliased(&cloned_cache(true)), (false, true, Kind::State));
}

#[test]
fn a_written_copy_is_not_its_source() {
    let mut b = Builder::new("written copy");
    let (source, row) = (b.noise(F32, &[1, 2, 1, 4]), b.noise(F32, &[1, 1, 1, 4]));
    let [copy, view] = [b.result(F32, &[1, 2, 1, 4]), b.result(F32, &[8])];
    b.node("aten.clone.default", &[source.into()], &[copy]);
    b.node("update_cache.default", &[row.into(), copy.into(), Arg::Int(1)], &[copy]);
    b.node("aten.view_copy.default", &[copy.into(), Arg::Ints(vec![8])], &[view]);
    let case = b.finish(&[source, view]);
    let storage = Storage::of(&case.graph);
    assert_ne!(storage.root(copy), storage.root(source));
    assert_eq!((storage.root(view), storage.kind(view)), (copy, Kind::Temp));
    assert_eq!(storage.kind(source), Kind::Input);
}

/// Two caches and a weight made by prepacking, one of the caches written.
fn prepacked() -> Case {
    let mut b = Builder::new("prepacked");
    let start = b.random.signed(8, 1.0);
    let (constant, scale) = (b.constant(F32, &[1, 2, 1, 4], start), b.constant(F32, &[4], vec![2.0; 4]));
    let row = b.noise(F32, &[1, 1, 1, 4]);
    let caches = [(); 2].map(|()| b.result(F32, &[1, 2, 1, 4]));
    let (weight, product) = (b.result(F32, &[4]), b.result(F32, &[1, 2, 1, 4]));
    for cache in caches {
        b.node("et_vk.prepack.default", &[constant.into()], &[cache]);
    }
    b.node("et_vk.prepack.default", &[scale.into()], &[weight]);
    b.node("update_cache.default", &[row.into(), caches[0].into(), Arg::Int(0)], &[caches[0]]);
    b.node("aten.mul.Tensor", &[caches[1].into(), weight.into()], &[product]);
    b.finish(&[caches[0], caches[1], product])
}

#[test]
fn passes_keep_results() {
    let mut all = cases::all();
    all.push(prepacked());
    for case in all {
        let mut after = case.clone();
        passes::run(&mut after.graph, &PassOptions::default());
        let (want, got) = (expected(&case).0, expected(&after).0);
        for (g, w) in got.iter().zip(&want) {
            compare(g, w).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        }
        assert_eq!(got.len(), want.len());
    }
}

#[test]
fn prepacking_leaves_states_apart_and_no_work() {
    let mut case = prepacked();
    passes::run(&mut case.graph, &PassOptions::default());
    let lowered =
        lower(&case, &case.live().unwrap(), &Caps::webgpu_floor(), &LowerOptions::default()).unwrap();
    assert_eq!(case.graph.nodes.len(), 2);
    assert_eq!(lowered.recording.dispatches.len(), 2);
    let storage = Storage::of(&case.graph);
    let kinds: Vec<Kind> = case.graph.outputs.iter().map(|&id| storage.kind(id)).collect();
    assert_eq!(kinds, [Kind::State, Kind::Weight, Kind::Temp]);
}

/// Two layers of attention with four caches. The first may take another one's cache for its values, and something beside
/// attention may use the last.
fn two_layers(values_of_first: Option<usize>, is_read_beside: bool) -> (Case, [ValueId; 4]) {
    let mut b = Builder::new("two layers");
    let caches = [(); 4].map(|()| b.constant(F32, &[1, 4, 1, 4], vec![0.0; 16]));
    let mut outs = Vec::new();
    for (keys, values) in [(caches[0], caches[values_of_first.unwrap_or(1)]), (caches[2], caches[3])] {
        let rows = [(); 3].map(|()| b.noise(F32, &[1, 1, 1, 4]));
        outs.push(b.result(F32, &[1, 1, 1, 4]));
        let args = [rows[0], rows[1], rows[2], keys, values].map(Arg::Id).into_iter().chain([Arg::Int(1)]);
        b.node("sdpa_with_kv_cache.default", &args.collect::<Vec<_>>(), &outs[outs.len() - 1..]);
    }
    if is_read_beside {
        outs.push(b.result(F32, &[1, 4, 1, 4]));
        b.node("aten.clone.default", &[caches[3].into()], &outs[outs.len() - 1..]);
    }
    (b.finish(&outs), caches)
}

#[test]
fn caches_of_a_kind_are_those_that_nothing_else_uses() {
    let kinds = |values_of_first, is_read_beside| {
        let (case, caches) = two_layers(values_of_first, is_read_beside);
        let number = |id: ValueId| caches.iter().position(|&cache| cache == id).unwrap();
        caches_by_kind(&case.graph).map(|kind| kind.into_iter().map(number).collect::<Vec<_>>())
    };
    assert_eq!(kinds(None, false), [vec![0, 2], vec![1, 3]]);
    assert_eq!(kinds(None, true), [vec![0, 2], vec![1]]);
    assert_eq!(kinds(Some(2), false), [vec![0], vec![3]], "the second is both");
}

#[test]
fn a_constant_that_a_node_writes_is_a_state() {
    let mut b = Builder::new("written");
    let (x, written) = (b.noise(F32, &[8]), b.constant(F32, &[8], vec![1.0; 8]));
    let read = b.constant(F32, &[8], vec![2.0; 8]);
    b.node("aten.mul.Tensor", &[x.into(), read.into()], &[written]);
    let case = b.finish(&[written]);
    let storage = Storage::of(&case.graph);
    assert_eq!([written, read].map(|id| storage.kind(id)), [Kind::State, Kind::Weight]);
}

/// A smaller tensor may be the beginning of a constant, in whichever order they are read.
#[test]
fn a_weight_is_as_large_as_the_largest_tensor_of_its_constant() {
    for order in [[0, 1], [1, 0]] {
        let mut b = Builder::new("beginnings");
        let tensors = [8, 64].map(|size| b.constant(F32, &[size], vec![1.0; size as usize]));
        let outs = order.map(|at| {
            let dims = [[8], [64]][at];
            let (x, out) = (b.noise(F32, &dims), b.result(F32, &dims));
            b.node("aten.mul.Tensor", &[x.into(), tensors[at].into()], &[out]);
            out
        });
        let mut case = b.finish(&outs);
        case.graph.constants[1] = case.graph.constants[0].clone();
        let live = case.live().unwrap();
        let lowered = lower(&case, &live, &Caps::webgpu_floor(), &LowerOptions::default()).unwrap();
        let is_weight = |desc: &&BufferDesc| matches!(desc, BufferDesc::Weight { .. });
        let weights = lowered.recording.buffers.iter().filter(is_weight);
        assert_eq!(weights.map(BufferDesc::size).collect::<Vec<_>>(), [256]);
    }
}
