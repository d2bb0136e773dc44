//! Forwards the `log` crate's records to ExecuTorch's logger.

use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::ffi;

/// What is logged unless `ETWGPU_LOG` says otherwise: our own news, others' errors.
const OWN: LevelFilter = LevelFilter::Info;
const OTHERS: LevelFilter = LevelFilter::Error;

struct Logger {
    own: LevelFilter,
    others: LevelFilter,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= if is_own(metadata.target()) { self.own } else { self.others }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            ffi::write_log(record.level() as u8, record.target(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Whether a record comes from this project's crates, not from wgpu or a driver layer.
fn is_own(target: &str) -> bool {
    target.starts_with("etwgpu") || target.starts_with("executorch_wgpu")
}

/// Installs the logger once. A host that already set a logger of its own keeps it.
pub(crate) fn install() {
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    let logger = LOGGER.get_or_init(|| {
        let asked = std::env::var("ETWGPU_LOG").ok().and_then(|text| text.parse::<LevelFilter>().ok());
        Logger { own: asked.unwrap_or(OWN), others: asked.unwrap_or(OTHERS) }
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.own.max(logger.others));
    }
}

/// Reports a failure that has no status to travel in.
pub(crate) fn error(message: &str) {
    ffi::write_log(Level::Error as u8, "executorch_wgpu", message);
}
