//! Properties of sizes, grids and memory over random arguments.

use etwgpu_graph::DType::F32;
use etwgpu_kernels::cases::{Arg, Builder};
use etwgpu_kernels::lower::fold_grid;
use etwgpu_kernels::reference::count;
use etwgpu_kernels::{LowerOptions, OpError};
use etwgpu_record::{
    Access, Binding, BufferDesc, BufferId, Caps, Dispatch, OutputCopy, Recording, Shader, assign_slots,
};
use etwgpu_testkit::{lower, reference};
use proptest::prelude::*;

/// Two tensors' sizes that broadcast to a third's.
fn broadcasting() -> impl Strategy<Value = (Vec<u32>, Vec<u32>)> {
    let full = prop::collection::vec(1u32..4, 1..6);
    full.prop_flat_map(|full| {
        let thinned = |full: Vec<u32>| {
            let ones = prop::collection::vec(any::<bool>(), full.len());
            (ones, 0..=full.len()).prop_map(move |(ones, cut)| {
                let dims = full.iter().zip(ones).map(|(&d, one)| if one { 1 } else { d });
                dims.skip(cut).collect::<Vec<u32>>()
            })
        };
        (thinned(full.clone()), thinned(full))
    })
}

/// A recording of launches that read and write temporaries and counters by number, and the temporaries it hands out.
fn recording() -> impl Strategy<Value = Recording> {
    let sizes = prop::collection::vec((1u64..20, prop::bool::weighted(0.3)), 2..12);
    sizes.prop_flat_map(|sizes| {
        let n = sizes.len() as u32;
        let launches = prop::collection::vec((0..n, 0..n, prop::bool::weighted(0.9)), 1..20);
        (Just(sizes), launches, prop::collection::vec(0..n, 0..3)).prop_map(|(sizes, launches, outputs)| {
            let mut recording = Recording::default();
            for (size, counts) in sizes {
                let size = size * 16;
                let desc = if counts { BufferDesc::Counters { size } } else { BufferDesc::Temp { size } };
                recording.add_buffer(desc);
            }
            let bind = |buffer, access| Binding {
                buffer: BufferId(buffer),
                offset: 0,
                size: 16,
                touched: 16,
                access,
            };
            for (from, to, runs) in launches {
                recording.dispatches.push(Dispatch {
                    shader: Shader { label: "copy", source: "".into() },
                    bindings: vec![bind(from, Access::Read), bind(to, Access::ReadWrite)],
                    grid: [u32::from(runs), 1, 1],
                    ..Dispatch::default()
                });
            }
            for (output, buffer) in (0..).zip(outputs) {
                if !counts(&recording, buffer) {
                    recording.outputs.push(OutputCopy { output, buffer: BufferId(buffer), size: 16 });
                }
            }
            recording
        })
    })
}

/// Whether a buffer holds counters.
fn counts(recording: &Recording, buffer: u32) -> bool {
    matches!(recording.buffers[buffer as usize], BufferDesc::Counters { .. })
}

/// Launches from the first to the last that uses a buffer; to the very end when it is handed out.
fn lifetime(recording: &Recording, buffer: u32) -> Option<(usize, usize)> {
    let uses = |d: &Dispatch| d.bindings.iter().any(|b| b.buffer.0 == buffer);
    let first = recording.dispatches.iter().position(uses)?;
    let last = recording.dispatches.iter().rposition(uses)?;
    let is_output = recording.outputs.iter().any(|o| o.buffer.0 == buffer);
    Some((first, if is_output { usize::MAX } else { last }))
}

proptest! {
    #[test]
    fn sizes_broadcast_as_the_reference_says((a, b) in broadcasting()) {
        let mut builder = Builder::new(format!("{a:?} {b:?}"));
        let (x, y) = (builder.noise(F32, &a), builder.noise(F32, &b));
        let out = builder.result(F32, &[9; 8][..a.len().max(b.len())]);
        builder.node("aten.add.Tensor", &[x.into(), y.into()], &[out]);
        let case = builder.finish(&[out]);
        let live = case.live().unwrap();
        let (want, _) = reference(&case);
        prop_assert_eq!(&live.dims[out.index()], &want[0].dims);
        let lowered = lower(&case, &live, &Caps::webgpu_floor(), &LowerOptions::default()).unwrap();
        let same = a == b;
        // Broadcasts carry strides for eight dimensions, equal sizes need none.
        prop_assert_eq!(lowered.recording.dispatches[0].params.len() > 4, !same);
    }

    #[test]
    fn sizes_that_differ_do_not_broadcast(d in 2u32..9, e in 2u32..9) {
        prop_assume!(d != e);
        let mut b = Builder::new("mismatch");
        let (x, y, out) = (b.noise(F32, &[d]), b.noise(F32, &[e]), b.result(F32, &[9]));
        b.node("aten.mul.Tensor", &[x.into(), y.into()], &[out]);
        let error = b.finish(&[out]).live().unwrap_err().error;
        prop_assert!(matches!(error, OpError::Invalid(_)));
    }

    #[test]
    fn slices_clamp_as_python_does(
        size in 0u32..9,
        start in prop::option::of(-12i64..12),
        end in prop::option::of(prop_oneof![-12i64..12, Just(i64::MAX), Just(i64::MIN + 1)]),
        step in 1i64..5,
    ) {
        let mut b = Builder::new("slice");
        let values = b.random.signed(count(&[size]), 1.0);
        let (x, out) = (b.input(F32, &[size], values), b.result(F32, &[9]));
        b.node("aten.slice_copy.Tensor", &[x.into(), Arg::Int(0), start.into(), end.into(), step.into()], &[out]);
        let case = b.finish(&[out]);
        let (want, _) = reference(&case);
        prop_assert_eq!(&case.live().unwrap().dims[out.index()], &want[0].dims);
    }

    #[test]
    fn folded_grids_cover_their_work(groups in 0u64..5_000_000_000, max in prop_oneof![Just(65535u32), Just(1 << 20)]) {
        prop_assume!(groups <= u64::from(max) * u64::from(max));
        let [x, y, z] = fold_grid(groups, max);
        let covered = u64::from(x) * u64::from(y) * u64::from(z);
        prop_assert!(x <= max && y <= max && covered >= groups);
        // No more than one row of workgroups is idle.
        prop_assert!(covered - groups < u64::from(y).max(1));
    }

    #[test]
    fn shared_memory_never_holds_two_live_buffers(before in recording(), is_scarce in any::<bool>()) {
        let mut after = before.clone();
        assign_slots(&mut after, if is_scarce { 0 } else { u64::MAX });
        let buffers = before.buffers.len() as u32;
        // Where each buffer of the original went, seen through the launches and outputs that use it.
        let mut slot = vec![None; buffers as usize];
        let bindings = |r: &Recording| -> Vec<u32> {
            let of_launches = r.dispatches.iter().flat_map(|d| &d.bindings).map(|b| b.buffer.0);
            of_launches.chain(r.outputs.iter().map(|o| o.buffer.0)).collect()
        };
        for (old, new) in bindings(&before).into_iter().zip(bindings(&after)) {
            prop_assert_eq!(*slot[old as usize].get_or_insert(new), new, "a buffer went to two places");
        }
        for a in 0..buffers {
            let Some((slot_a, life_a)) = slot[a as usize].zip(lifetime(&before, a)) else { continue };
            let size = |r: &Recording, b: u32| r.buffers[b as usize].size();
            prop_assert!(size(&after, slot_a) >= size(&before, a), "a slot is too small");
            prop_assert_eq!(counts(&after, slot_a), counts(&before, a), "counters lie among temporaries");
            for b in a + 1..buffers {
                let Some((slot_b, life_b)) = slot[b as usize].zip(lifetime(&before, b)) else { continue };
                let meet = life_a.0 <= life_b.1 && life_b.0 <= life_a.1;
                prop_assert!(slot_a != slot_b || !meet, "buffers {} and {} share slot {}", a, b, slot_a);
            }
        }
        prop_assert!(after.temp_bytes() <= before.temp_bytes());
        if !is_scarce {
            prop_assert_eq!(after.barriers(), before.barriers(), "a launch waits for memory alone");
            for output in &before.outputs {
                let tenants = slot.iter().filter(|&&to| to == slot[output.buffer.index()]).count();
                prop_assert_eq!(tenants, 1, "an output shares");
            }
        }
    }
}
