//! Forwards the `log` crate's records to ExecuTorch's logger.
//!
//! In Python a line needs the interpreter, which the thread that called us holds until it returns. Only that thread
//! writes therefore: what others say waits in a queue until it says something itself or leaves. Otherwise a thread
//! that compiles shaders would wait for the interpreter, and its caller for the shaders.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::ffi;

/// What is logged unless the setting `log` says otherwise: our own news, others' errors.
const OWN: LevelFilter = LevelFilter::Info;
const OTHERS: LevelFilter = LevelFilter::Error;

/// Lines of other threads that wait at most, ours and those of other crates each; later ones are counted and dropped. At
/// `debug` the compiler of shaders alone says thousands before a first one is done.
const WAITING: usize = 4096;

static LOGGER: Logger = Logger {
    own: AtomicUsize::new(OWN as usize),
    others: AtomicUsize::new(OTHERS as usize),
    queue: Mutex::new(Queue::new()),
};

thread_local! {
    /// Bridge calls that this thread is in, one within the other.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

struct Line {
    level: Level,
    target: String,
    text: String,
}

/// Lines of threads that are in no bridge call, in order.
struct Queue {
    lines: VecDeque<Line>,
    /// How many of them are others', and ours.
    counts: [usize; 2],
    dropped: usize,
}

impl Queue {
    const fn new() -> Self {
        Self { lines: VecDeque::new(), counts: [0; 2], dropped: 0 }
    }

    fn push(&mut self, line: Line) {
        let count = &mut self.counts[usize::from(is_own(&line.target))];
        if *count < WAITING {
            *count += 1;
            self.lines.push_back(line);
        } else {
            self.dropped += 1;
        }
    }
}

struct Logger {
    /// `LevelFilter`s as numbers.
    own: AtomicUsize,
    others: AtomicUsize,
    queue: Mutex<Queue>,
}

impl Logger {
    fn set(&self, own: LevelFilter, others: LevelFilter) {
        self.own.store(own as usize, Ordering::Relaxed);
        self.others.store(others as usize, Ordering::Relaxed);
        log::set_max_level(own.max(others));
    }

    /// Writes what waits. Without the lock while it writes: a thread that queues a line must never wait for Python.
    fn write_waiting(&self) {
        let waiting = std::mem::replace(&mut *self.lock(), Queue::new());
        for line in &waiting.lines {
            ffi::write_log(line.level as u8, &line.target, &line.text);
        }
        if waiting.dropped > 0 {
            let text = format!("{} more lines of other threads were dropped", waiting.dropped);
            ffi::write_log(Level::Warn as u8, "executorch_wgpu", &text);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let limit = if is_own(metadata.target()) { &self.own } else { &self.others };
        metadata.level() as usize <= limit.load(Ordering::Relaxed)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (level, target, text) = (record.level(), record.target(), record.args().to_string());
        if DEPTH.get() > 0 {
            self.write_waiting();
            ffi::write_log(level as u8, target, &text);
        } else {
            self.lock().push(Line { level, target: target.to_owned(), text });
        }
    }

    fn flush(&self) {
        if DEPTH.get() > 0 {
            self.write_waiting();
        }
    }
}

/// Whether a record comes from this project's crates, not from wgpu or a driver layer.
fn is_own(target: &str) -> bool {
    target.starts_with("etwgpu") || target.starts_with("executorch_wgpu")
}

/// A stay of this thread in a bridge call; at the end of the outermost one, what other threads said is written.
pub(crate) struct Stay(());

impl Stay {
    pub(crate) fn begin() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if DEPTH.get() == 1 {
            LOGGER.write_waiting();
        }
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Installs the logger once. A host that already set a logger of its own keeps it.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if log::set_logger(&LOGGER).is_ok() {
            configure();
        }
    });
}

/// Follows the setting `log`.
pub(crate) fn configure() {
    let text = etwgpu_runtime::get_option("log").unwrap_or_default();
    match text.parse::<LevelFilter>() {
        Ok(level) => LOGGER.set(level, level),
        Err(_) => LOGGER.set(OWN, OTHERS),
    }
}

/// Reports a failure that has no status to travel in.
pub(crate) fn error(message: &str) {
    ffi::write_log(Level::Error as u8, "executorch_wgpu", message);
}
