//! Waiting for a run, first awake, then asleep.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cpu_time::thread_cpu_time;
use crate::device::Gpu;
use crate::error::EngineError;
use crate::transfer::Pending;

/// How long to poll before blocking: a decode step is over sooner, and a sleeping thread wakes late.
const SPIN: Duration = Duration::from_millis(2);

/// Largest time a single run may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(600);

/// How a wait went.
#[derive(Default)]
pub(crate) struct Waited {
    /// Time from begin to end.
    pub(crate) idle: Duration,
    /// CPU time of this thread that it took to be awake meanwhile.
    pub(crate) spun: Duration,
}

/// Waits until nothing is pending.
pub(crate) fn wait_finished(
    gpu: &Gpu,
    pending: &Pending,
    index: wgpu::SubmissionIndex,
) -> Result<Waited, EngineError> {
    let is_pending = || pending.load(Ordering::Acquire) > 0;
    let started = Instant::now();
    let mut waited = Waited::default();
    // A device that is this CPU needs the core that spinning would take.
    if !gpu.caps().is_cpu {
        waited.spun = spin(is_pending, || drop(gpu.device.poll(wgpu::PollType::Poll)));
    }
    if is_pending() {
        gpu.wait(index, TIMEOUT)?;
    }
    waited.idle = started.elapsed();
    gpu.check().map(|()| waited)
}

/// Polls until nothing is pending or it took too long. Returns the CPU time of this thread that waiting took: all of it
/// but that of the last poll, which does the work that follows a submission.
fn spin(is_pending: impl Fn() -> bool, mut poll: impl FnMut()) -> Duration {
    let (started, cpu) = (Instant::now(), thread_cpu_time());
    let (mut last, mut now) = (started, started);
    while is_pending() && now - started < SPIN {
        poll();
        std::hint::spin_loop();
        (last, now) = (now, Instant::now());
    }
    thread_cpu_time().saturating_sub(cpu).saturating_sub(now - last)
}

#[cfg(all(test, unix))]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn burn(milliseconds: u64) {
        let end = thread_cpu_time() + Duration::from_millis(milliseconds);
        while thread_cpu_time() < end {}
    }

    /// CPU time told for polls of which each takes so many milliseconds of it; the last one ends the wait. An attempt that
    /// was interrupted for so long that the wait would sleep does not count.
    fn told(polls: &[u64]) -> Duration {
        loop {
            let done = Cell::new(0);
            let poll = || {
                burn(polls[done.get()]);
                done.set(done.get() + 1);
            };
            let spun = spin(|| done.get() < polls.len(), poll);
            if done.get() == polls.len() {
                return spun;
            }
        }
    }

    #[test]
    fn polls_in_vain_are_waiting_and_the_one_that_ends_it_is_work() {
        assert!(told(&[0, 40]) < Duration::from_millis(10));
        // Less is told where the last poll was interrupted.
        let most = (0..20).map(|_| told(&[1, 0])).max().unwrap();
        assert!(most >= Duration::from_micros(900) && most < Duration::from_millis(5), "{most:?}");
    }

    #[test]
    fn a_long_wait_goes_to_sleep() {
        let polls = Cell::new(0);
        spin(|| true, || polls.set(polls.get() + 1));
        assert!(polls.get() > 0, "and this ends");
    }
}
