//! Memory of temporaries and counters: slots that they share, wherever that costs nothing or memory is worth more than
//! time.

use crate::{BufferDesc, BufferId, Recording};

/// Lets temporaries whose lifetimes do not meet share a buffer, and counters likewise.
///
/// A device waits before it reuses a buffer. Up to `keep_apart` bytes together, temporaries only share where the launch
/// that reuses the buffer waits anyway, and outputs have buffers of their own; beyond, memory is worth the waits. Each
/// slot is a whole buffer as large as its largest tenant.
pub fn assign_slots(recording: &mut Recording, keep_apart: u64) {
    let waits = recording.waits();
    let apart = recording.temp_bytes() <= keep_apart;
    let lifetimes = lifetimes(recording);
    let mut slots: Vec<Slot> = Vec::new();
    let mut target: Vec<BufferId> = (0..recording.buffers.len() as u32).map(BufferId).collect();
    let mut order: Vec<usize> = (0..lifetimes.len()).filter(|&i| lifetimes[i].is_some()).collect();
    order.sort_by_key(|&i| lifetimes[i]);
    for index in order {
        let Some((first, last)) = lifetimes[index] else { continue };
        let desc = &recording.buffers[index];
        let (size, counts) = (desc.size(), matches!(desc, BufferDesc::Counters { .. }));
        let may_share = !apart || (waits[first] && last != usize::MAX);
        match best_slot(&slots, size, counts, first).filter(|_| may_share) {
            Some(slot) => {
                let slot = &mut slots[slot];
                slot.free_after = last;
                slot.size = slot.size.max(size);
                target[index] = slot.buffer;
            }
            None => slots.push(Slot { buffer: BufferId(index as u32), size, counts, free_after: last }),
        }
    }
    for &Slot { buffer, size, counts, .. } in &slots {
        recording.buffers[buffer.index()] =
            if counts { BufferDesc::Counters { size } } else { BufferDesc::Temp { size } };
    }
    for (index, &to) in target.iter().enumerate() {
        if to.index() != index {
            recording.buffers[index] = BufferDesc::Temp { size: 0 };
        }
    }
    for binding in recording.dispatches.iter_mut().flat_map(|d| &mut d.bindings) {
        binding.buffer = target[binding.buffer.index()];
    }
    for output in &mut recording.outputs {
        output.buffer = target[output.buffer.index()];
    }
}

struct Slot {
    buffer: BufferId,
    size: u64,
    /// Whether it holds counters, which nothing else may write.
    counts: bool,
    free_after: usize,
}

/// The free slot of the kind that wastes or grows least.
fn best_slot(slots: &[Slot], size: u64, counts: bool, first: usize) -> Option<usize> {
    let is_free = |&i: &usize| slots[i].free_after < first && slots[i].counts == counts;
    (0..slots.len()).filter(is_free).min_by_key(|&i| slots[i].size.abs_diff(size))
}

/// First and last dispatch that uses each temporary and all counters; outputs live to the end.
fn lifetimes(recording: &Recording) -> Vec<Option<(usize, usize)>> {
    let mut lifetimes: Vec<Option<(usize, usize)>> = vec![None; recording.buffers.len()];
    for (step, dispatch) in recording.dispatches.iter().enumerate() {
        for binding in &dispatch.bindings {
            let index = binding.buffer.index();
            if matches!(recording.buffers[index], BufferDesc::Temp { .. } | BufferDesc::Counters { .. }) {
                let entry = lifetimes[index].get_or_insert((step, step));
                entry.1 = step;
            }
        }
    }
    for output in &recording.outputs {
        if let Some(entry) = &mut lifetimes[output.buffer.index()] {
            entry.1 = usize::MAX;
        }
    }
    lifetimes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Access, Binding, Dispatch, OutputCopy, Shader};

    fn chain(sizes: &[u64]) -> Recording {
        let mut recording = Recording::default();
        let ids: Vec<_> = sizes.iter().map(|&size| recording.add_buffer(BufferDesc::Temp { size })).collect();
        for pair in ids.windows(2) {
            let bind = |buffer, access| Binding { buffer, offset: 0, size: 4, touched: 4, access };
            recording.dispatches.push(Dispatch {
                shader: Shader { label: "copy", source: "".into() },
                bindings: vec![bind(pair[0], Access::Read), bind(pair[1], Access::ReadWrite)],
                grid: [1, 1, 1],
                ..Dispatch::default()
            });
        }
        recording.outputs.push(OutputCopy { output: 0, buffer: *ids.last().unwrap(), size: 4 });
        recording
    }

    /// Distinct buffers that launches use.
    fn used(recording: &Recording) -> BTreeSet<BufferId> {
        recording.dispatches.iter().flat_map(|d| &d.bindings).map(|b| b.buffer).collect()
    }

    #[test]
    fn small_temporaries_share_where_the_device_waits_anyway() {
        let mut recording = chain(&[64; 6]);
        let barriers = recording.barriers();
        assign_slots(&mut recording, 6 * 64);
        // The first launch waits for nothing, so its two buffers are apart; the output has its own.
        assert_eq!(used(&recording).len(), 3);
        assert_eq!(recording.barriers(), barriers);
    }

    #[test]
    fn small_temporaries_of_independent_launches_stay_apart() {
        let mut recording = chain(&[64; 6]);
        for (step, dispatch) in recording.dispatches.iter_mut().enumerate() {
            dispatch.bindings.remove(0);
            dispatch.node = step as u32;
        }
        let before = recording.clone();
        assign_slots(&mut recording, 6 * 64);
        assert_eq!(recording, before);
        assign_slots(&mut recording, 0);
        assert!(recording.barriers() > before.barriers(), "where memory counts, they share");
    }

    #[test]
    fn counters_of_a_chain_share_with_each_other_alone() {
        let mut recording = chain(&[64; 6]);
        let counters: Vec<_> =
            (1..6).map(|i| recording.add_buffer(BufferDesc::Counters { size: 16 * i })).collect();
        for (dispatch, &buffer) in recording.dispatches.iter_mut().zip(&counters) {
            dispatch.bindings.push(Binding { buffer, ..dispatch.bindings[1] });
        }
        assign_slots(&mut recording, 6 * 64);
        let slots: BTreeSet<_> = recording.dispatches.iter().map(|d| d.bindings[2].buffer).collect();
        assert_eq!(slots, BTreeSet::from([counters[0]]));
        assert_eq!(recording.buffers[counters[0].index()], BufferDesc::Counters { size: 80 });
        assert_eq!(recording.buffers[counters[1].index()].size(), 0);
    }

    #[test]
    fn a_long_chain_needs_two_slots() {
        let mut recording = chain(&[100, 300, 200, 400, 100, 50]);
        assign_slots(&mut recording, 0);
        let live: Vec<u64> = recording.buffers.iter().map(BufferDesc::size).filter(|&s| s > 0).collect();
        assert_eq!(live.len(), 2, "{live:?}");
        for dispatch in &recording.dispatches {
            assert_ne!(dispatch.bindings[0].buffer, dispatch.bindings[1].buffer);
        }
    }

    #[test]
    fn outputs_are_never_overwritten() {
        let mut recording = chain(&[8, 8, 8]);
        let first = recording.dispatches[0].bindings[1].buffer;
        recording.outputs.push(OutputCopy { output: 1, buffer: first, size: 4 });
        assign_slots(&mut recording, 0);
        let kept = recording.outputs[1].buffer;
        let writers = recording.dispatches.iter().filter(|d| d.bindings[1].buffer == kept).count();
        assert_eq!(writers, 1);
    }
}
