//! What can go wrong on a GPU.

use thiserror::Error;

/// Failure of the device, its driver or its memory.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum EngineError {
    /// No adapter matches what was asked for.
    #[error("no usable GPU adapter: {0}")]
    NoAdapter(String),
    /// The adapter refuses to open a device.
    #[error("cannot open device on {adapter}: {message}")]
    NoDevice {
        /// Adapter name.
        adapter: String,
        /// The driver's words.
        message: String,
    },
    /// The device is gone; a new one is opened by the next load.
    #[error("the GPU device was lost: {0}")]
    Lost(String),
    /// An allocation failed.
    #[error("out of GPU memory: {0}")]
    OutOfMemory(String),
    /// Something exceeds a limit of the device.
    #[error("{what} needs {need} bytes, the device allows {limit}")]
    Limit {
        /// What was to be created.
        what: String,
        /// Bytes needed.
        need: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The driver or wgpu refused a call: a defect of ours or theirs.
    #[error("GPU call refused: {0}")]
    Validation(String),
    /// Another thread failed to encode the commands of the next run.
    #[error("internal error while encoding commands: {0}; please report this")]
    Panic(String),
    /// Work did not finish in time.
    #[error("GPU work did not finish within {0} s")]
    Timeout(u64),
}

impl From<wgpu::Error> for EngineError {
    fn from(error: wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { source } => Self::OutOfMemory(source.to_string()),
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                Self::Validation(description)
            }
        }
    }
}
