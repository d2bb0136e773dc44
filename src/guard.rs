//! The one place where panics end: whatever happens inside, the caller gets a status.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::ffi::Status;
use crate::log::Stay;

/// ExecuTorch's `Error::Internal`.
const INTERNAL: u32 = 0x01;

/// Why a call failed: an ExecuTorch error code and what a person should know about it.
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u32, message: impl Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, message: failure.message }
    }
}

/// Status of a call that went well.
pub(crate) fn ok() -> Status {
    Status { code: 0, message: String::new() }
}

/// Runs `body`, turning a panic into a failure with code `Internal`.
///
/// State that `body` changed half-way is the caller's to discard; see `Delegate`.
pub(crate) fn guard<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let _stay = Stay::begin();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) => Err(Failure::new(
            INTERNAL,
            format!("internal error: {}; please report this", panic_text(&*payload)),
        )),
    }
}

/// Text of a panic's payload.
fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}
