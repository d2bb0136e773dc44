//! Every error, and the ExecuTorch `Error` that the host sees for it.

use etwgpu_engine::EngineError;
use etwgpu_graph::{BlobError, ConstantError, DecodeError};
use etwgpu_kernels::live::LiveError;
use etwgpu_kernels::{LowerError, OpError};
use thiserror::Error;

/// ExecuTorch's error codes, as far as delegates return them.
pub mod code {
    /// Something broke on our side.
    pub const INTERNAL: u32 = 0x01;
    /// Called in a state that does not allow it.
    pub const INVALID_STATE: u32 = 0x02;
    /// Well-formed, but not supported.
    pub const NOT_SUPPORTED: u32 = 0x10;
    /// An argument is wrong.
    pub const INVALID_ARGUMENT: u32 = 0x12;
    /// An argument has the wrong type.
    pub const INVALID_TYPE: u32 = 0x13;
    /// Something named does not exist.
    pub const NOT_FOUND: u32 = 0x20;
    /// Memory is exhausted.
    pub const MEMORY_ALLOCATION_FAILED: u32 = 0x21;
    /// External data is missing or damaged.
    pub const INVALID_EXTERNAL_DATA: u32 = 0x24;
    /// The delegate's program does not fit this backend.
    pub const DELEGATE_INVALID_COMPATIBILITY: u32 = 0x30;
}

/// Why a delegate cannot be loaded or run.
#[derive(Debug, Error)]
pub enum Error {
    /// The header is damaged or foreign.
    #[error("delegate header: {0}")]
    Blob(#[from] BlobError),
    /// The graph is damaged.
    #[error("delegate graph: {0}")]
    Decode(#[from] DecodeError),
    /// A tensor has more elements than 32-bit indices can name.
    #[error("value {value}: a tensor of sizes {dims:?} has 2^31 elements or more")]
    TooLarge {
        /// Position in the value table.
        value: usize,
        /// Its sizes.
        dims: Vec<u32>,
    },
    /// A constant is missing or short.
    #[error("{0}")]
    Constant(#[from] ConstantError),
    /// An operator does not accept its declared arguments.
    #[error("at load: {0}")]
    Declared(LiveError),
    /// An operator does not accept the live sizes or values.
    #[error("{0}")]
    Live(LiveError),
    /// An operator cannot be lowered at its declared sizes.
    #[error("at load: {0}")]
    Lower(LowerError),
    /// An operator cannot be lowered at the live sizes or values.
    #[error("{0}")]
    LowerLive(LowerError),
    /// The GPU failed.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The host passed something wrong.
    #[error("{0}")]
    Argument(String),
    /// The host passed or expects an element type that cannot be converted.
    #[error("{0}")]
    Type(String),
    /// A setting has no such name or value.
    #[error("{0}")]
    Setting(String),
    /// A rule of ours is broken.
    #[error("internal: {0}")]
    Internal(String),
}

impl Error {
    /// The ExecuTorch error code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Blob(BlobError::Magic { .. }) => code::NOT_FOUND,
            Self::Blob(_) => code::INVALID_ARGUMENT,
            Self::Decode(_) | Self::Declared(_) | Self::TooLarge { .. } => {
                code::DELEGATE_INVALID_COMPATIBILITY
            }
            Self::Constant(_) => code::INVALID_EXTERNAL_DATA,
            Self::Live(LiveError { error, .. }) | Self::LowerLive(LowerError { error, .. }) => match error {
                OpError::Unsupported(_) => code::NOT_SUPPORTED,
                OpError::Invalid(_) | OpError::Argument { .. } => code::INVALID_ARGUMENT,
            },
            Self::Argument(_) | Self::Setting(_) => code::INVALID_ARGUMENT,
            Self::Lower(_) => code::DELEGATE_INVALID_COMPATIBILITY,
            Self::Type(_) => code::INVALID_TYPE,
            Self::Engine(EngineError::NoAdapter(_) | EngineError::NoDevice { .. }) => code::NOT_FOUND,
            Self::Engine(EngineError::OutOfMemory(_) | EngineError::Limit { .. }) => {
                code::MEMORY_ALLOCATION_FAILED
            }
            Self::Engine(_) | Self::Internal(_) => code::INTERNAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_refuses_depends_on_when() {
        let refusal = |error| LowerError { node: 3, op: "aten.mm.default".into(), error };
        let (invalid, unsupported) = (
            || refusal(OpError::Invalid("sizes".into())),
            || refusal(OpError::Unsupported("no route".into())),
        );
        assert_eq!(Error::Lower(invalid()).code(), 0x30);
        assert_eq!(Error::Lower(unsupported()).code(), 0x30);
        assert_eq!(Error::LowerLive(invalid()).code(), 0x12);
        assert_eq!(Error::LowerLive(unsupported()).code(), 0x10);
        let live = |error| Error::Live(LiveError { node: 3, op: "aten.mm.default".into(), error }).code();
        assert_eq!(live(OpError::Invalid("sizes".into())), 0x12);
        assert_eq!(live(OpError::Unsupported("no route".into())), 0x10);
    }
}
