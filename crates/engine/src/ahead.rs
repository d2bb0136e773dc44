//! Commands of the next run, encoded on another thread while the caller waits for the device.
//!
//! A device has one [`Worker`], which lives as long as some prepared recording. A recording's [`Ahead`] hands it one
//! job at a time, and takes the result before its run returns: between runs the worker sleeps and holds nothing.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use crate::error::EngineError;

/// What can be encoded on any thread.
pub(crate) trait Encode: Send + Sync + 'static {
    type Output: Send;

    fn encode(&self) -> Self::Output;
}

/// A thread that encodes, joined when the last [`Ahead`] that uses it is gone.
pub(crate) struct Worker<C: Encode> {
    queue: Arc<Queue<C>>,
    thread: Option<JoinHandle<()>>,
    /// The process that has the thread: a fork of it has not.
    process: u32,
}

struct Queue<C: Encode> {
    waiting: Mutex<Waiting<C>>,
    changed: Condvar,
}

struct Waiting<C: Encode> {
    /// Each recording is in it once at most, so it stops growing.
    slots: VecDeque<Arc<Slot<C>>>,
    closed: bool,
}

/// Where a recording and the worker meet.
struct Slot<C: Encode> {
    state: Mutex<State<C>>,
    done: Condvar,
}

struct State<C: Encode> {
    job: Job<C>,
    /// Whether the queue names the slot. It may when the job was taken back.
    queued: bool,
}

enum Job<C: Encode> {
    None,
    Asked(Arc<C>),
    Running,
    Done(Result<C::Output, EngineError>),
}

impl<C: Encode> Worker<C> {
    /// The worker that `current` names, or a new one; none where a second thread would only take the caller's core, or
    /// cannot be had.
    pub(crate) fn of(current: &Mutex<Weak<Self>>) -> Option<Arc<Self>> {
        let mut current = lock(current);
        if let Some(worker) = current.upgrade() {
            return Some(worker);
        }
        if thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
            return None;
        }
        let worker = Arc::new(Self::spawn(thread::Builder::new().name("etwgpu-encode".into()))?);
        *current = Arc::downgrade(&worker);
        Some(worker)
    }

    fn spawn(builder: thread::Builder) -> Option<Self> {
        let waiting = Mutex::new(Waiting { slots: VecDeque::new(), closed: false });
        let queue = Arc::new(Queue { waiting, changed: Condvar::new() });
        let shared = queue.clone();
        match builder.spawn(move || shared.serve()) {
            Ok(thread) => Some(Self { queue, thread: Some(thread), process: process::id() }),
            Err(error) => {
                log::warn!("commands are encoded on the calling thread, as there is no other: {error}");
                None
            }
        }
    }
}

impl<C: Encode> Drop for Worker<C> {
    fn drop(&mut self) {
        lock(&self.queue.waiting).closed = true;
        self.queue.changed.notify_one();
        match self.thread.take() {
            // Its panics end in `Slot::encode`.
            Some(thread) if self.process == process::id() => drop(thread.join()),
            absent => std::mem::forget(absent),
        }
    }
}

impl<C: Encode> Queue<C> {
    fn push(&self, slot: Arc<Slot<C>>) {
        lock(&self.waiting).slots.push_back(slot);
        self.changed.notify_one();
    }

    fn serve(&self) {
        while let Some(slot) = self.next() {
            slot.encode();
        }
    }

    /// The next slot, once there is one; none when the worker is to end.
    fn next(&self) -> Option<Arc<Slot<C>>> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(slot) = waiting.slots.pop_front() {
                return Some(slot);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<C: Encode> Slot<C> {
    /// Does the job, if nobody took it back.
    fn encode(&self) {
        let mut state = lock(&self.state);
        state.queued = false;
        let commands = match std::mem::replace(&mut state.job, Job::None) {
            Job::Asked(commands) => commands,
            other => {
                state.job = other;
                return;
            }
        };
        state.job = Job::Running;
        drop(state);
        let result = catch_unwind(AssertUnwindSafe(|| commands.encode()))
            .map_err(|payload| EngineError::Panic(panic_text(&*payload).to_owned()));
        // Before the caller learns of the result: it may change commands that nobody else holds.
        drop(commands);
        lock(&self.state).job = Job::Done(result);
        self.done.notify_one();
    }

    /// The result, or the commands when the worker did not come to them.
    fn take(&self) -> Taken<C> {
        let mut state = lock(&self.state);
        loop {
            match std::mem::replace(&mut state.job, Job::None) {
                Job::None => return Taken::Nothing,
                Job::Asked(commands) => return Taken::Back(commands),
                Job::Done(result) => return Taken::Result(result),
                Job::Running => {
                    state.job = Job::Running;
                    state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

enum Taken<C: Encode> {
    Nothing,
    Back(Arc<C>),
    Result(Result<C::Output, EngineError>),
}

/// A recording's way to its device's worker.
pub(crate) struct Ahead<C: Encode> {
    worker: Option<Arc<Worker<C>>>,
    slot: Arc<Slot<C>>,
}

impl<C: Encode> Ahead<C> {
    /// Without a worker, the caller encodes.
    pub(crate) fn new(worker: Option<Arc<Worker<C>>>) -> Self {
        let state = Mutex::new(State { job: Job::None, queued: false });
        Self { worker, slot: Arc::new(Slot { state, done: Condvar::new() }) }
    }

    /// Begins to encode.
    pub(crate) fn begin(&self, commands: &Arc<C>) -> Encoding<'_, C> {
        let encoding = Encoding(&self.slot);
        match &self.worker {
            None => {
                let done = Job::Done(Ok(commands.encode()));
                lock(&self.slot.state).job = done;
            }
            Some(worker) => {
                let mut state = lock(&self.slot.state);
                state.job = Job::Asked(commands.clone());
                let queued = std::mem::replace(&mut state.queued, true);
                drop(state);
                if !queued {
                    worker.queue.push(self.slot.clone());
                }
            }
        }
        encoding
    }
}

/// A job under way. The worker is done with it when this is dropped.
#[must_use]
pub(crate) struct Encoding<'a, C: Encode>(&'a Slot<C>);

impl<C: Encode> Encoding<'_, C> {
    /// The encoded commands. What the worker did not begin, the caller does.
    pub(crate) fn finish(self) -> Result<C::Output, EngineError> {
        match self.0.take() {
            Taken::Result(result) => result,
            Taken::Back(commands) => Ok(commands.encode()),
            Taken::Nothing => Err(EngineError::Panic("no commands were asked for".into())),
        }
    }
}

impl<C: Encode> Drop for Encoding<'_, C> {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic without a message")
}

#[cfg(test)]
mod tests;
