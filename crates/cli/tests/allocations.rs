//! What a decode step allocates on the calling thread.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::Demo;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator; the counter neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of a step at most. Nearly all are wgpu's, for a submission and two maps; encoding takes twice as many.
const MOST: usize = 60;

/// What wgpu allocates besides when it takes backtraces of its errors, which it does on the way to what is none.
const BACKTRACES: usize = 60;

#[test]
fn a_decode_step_allocates_little_on_the_calling_thread() {
    if !etwgpu_testkit::open().caps().is_cpu {
        return; // Waiting is polling there, as often as it takes.
    }
    let mut demo = Demo::load();
    let mut arguments = demo.arguments(5, 0);
    let mut step = |position: i64| {
        arguments.arrays[1].bytes.copy_from_slice(&position.to_le_bytes());
        let before = COUNT.get();
        demo.session.run(&mut arguments).unwrap();
        COUNT.get() - before
    };
    // The first runs prepare; and a worker that gets no core leaves its work to the caller, though not every time.
    let counts: Vec<usize> = (1..25).map(&mut step).collect();
    let least = counts[2..].iter().min().unwrap();
    let traced = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"].iter().any(|name| std::env::var_os(name).is_some());
    let most = if traced { MOST + BACKTRACES } else { MOST };
    assert!(*least <= most, "{least} allocations a step: {counts:?}");
}
