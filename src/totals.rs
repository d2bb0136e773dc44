//! What all runs of the process have done so far.

use std::sync::atomic::{AtomicU64, Ordering};

use etwgpu_runtime::RunStats;

use crate::ffi;

static RUNS: AtomicU64 = AtomicU64::new(0);
static DISPATCHES: AtomicU64 = AtomicU64::new(0);
static SUBMITS: AtomicU64 = AtomicU64::new(0);
static UPLOADS: AtomicU64 = AtomicU64::new(0);
static IDLE_NS: AtomicU64 = AtomicU64::new(0);
static SPUN_NS: AtomicU64 = AtomicU64::new(0);

/// Adds a run.
pub(crate) fn add(stats: &RunStats) {
    let counts = [
        (&RUNS, 1),
        (&DISPATCHES, stats.dispatches as u64),
        (&SUBMITS, stats.submits as u64),
        (&UPLOADS, stats.uploads as u64),
        (&IDLE_NS, stats.idle.as_nanos() as u64),
        (&SPUN_NS, stats.spun.as_nanos() as u64),
    ];
    for (total, count) in counts {
        total.fetch_add(count, Ordering::Relaxed);
    }
}

/// The sums.
pub(crate) fn get() -> ffi::Totals {
    let of = |total: &AtomicU64| total.load(Ordering::Relaxed);
    ffi::Totals {
        runs: of(&RUNS),
        dispatches: of(&DISPATCHES),
        submits: of(&SUBMITS),
        uploads: of(&UPLOADS),
        idle_ns: of(&IDLE_NS),
        spun_ns: of(&SPUN_NS),
    }
}
