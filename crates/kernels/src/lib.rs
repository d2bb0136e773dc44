//! Every operator: arguments, shape function, routes, shaders, reference.
//!
//! [`live::propagate`] computes live sizes and symbolic integers, [`lower::lower`] turns a graph at those sizes into
//! a recording. Both are pure functions of their arguments.

pub mod args;
mod buffers;
#[cfg(feature = "reference")]
pub mod cases;
pub mod fuse;
pub mod live;
pub mod lower;
pub mod op;
pub mod ops;
pub mod passes;
#[cfg(feature = "reference")]
pub mod reference;
pub mod route;
pub mod storage;
mod template;

pub use args::{NodeCx, OpError, TensorArg};
pub use live::Live;
pub use lower::{Lower, LowerError, LowerOptions, Lowered, lower};
pub use op::{Body, OpDef};
pub use route::{Refusal, Route};
pub use template::Template;
