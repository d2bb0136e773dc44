//! Decode steps keep no memory: what this process has allocated in Rust, wgpu included, is the same after thousands.

#![allow(unsafe_code, reason = "an allocator that counts has to be one")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

use common::Demo;

/// The system's allocator, which counts the bytes and blocks that are in use.
struct Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);
static BLOCKS: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Bytes and blocks in use.
type Use = (i64, i64);

/// What is in use between runs: the least over some of them, since other threads may hold more for a moment.
fn least_use(runs: usize, mut run: impl FnMut()) -> Use {
    let after_run = |_| {
        run();
        (BYTES.load(Ordering::Relaxed), BLOCKS.load(Ordering::Relaxed))
    };
    (0..runs).map(after_run).fold((i64::MAX, i64::MAX), |least, now| (least.0.min(now.0), least.1.min(now.1)))
}

/// What `runs` more runs keep, once everything is warm.
fn kept(runs: usize, mut run: impl FnMut()) -> Use {
    const SOME: usize = 50;
    (0..SOME).for_each(|_| run());
    let before = least_use(SOME, &mut run);
    (0..runs - SOME).for_each(|_| run());
    let after = least_use(SOME, &mut run);
    (after.0 - before.0, after.1 - before.1)
}

/// Decoding of the demo model with tokens and positions that change.
fn decoder() -> impl FnMut() {
    let mut demo = Demo::load();
    let mut step = 0i64;
    move || {
        let mut arguments = demo.arguments(step * 7 % 10, step % 16);
        demo.session.run(&mut arguments).unwrap();
        step += 1;
    }
}

#[test]
fn decode_steps_keep_no_memory() {
    const STEPS: usize = 1500;
    let mut step = decoder();
    let (bytes, blocks) = kept(STEPS, &mut step);
    // Less than a byte a step, and than a block in a hundred of them.
    let limit = (STEPS as i64, STEPS as i64 / 100);
    assert!(bytes < limit.0 && blocks < limit.1, "{STEPS} steps keep {bytes} bytes in {blocks} blocks");
    println!("{STEPS} steps keep {bytes} bytes in {blocks} blocks");

    // A step that keeps a little is found.
    let mut kept_by_steps = Vec::with_capacity(1000);
    let (bytes, blocks) = kept(200, || {
        kept_by_steps.push(Box::new(0u32));
        step();
    });
    assert!(
        (800..=1000).contains(&bytes) && (200..=250).contains(&blocks),
        "{bytes} bytes in {blocks} blocks"
    );
}
