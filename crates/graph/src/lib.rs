//! Device-free model of a delegate: parse, decode, passes, live shapes.

pub mod blob;
pub mod decode;
pub mod dump;
pub mod ir;
pub mod weights;

pub use blob::{Blob, BlobError, parse};
pub use decode::{DecodeError, decode};
pub use dump::dump;
pub use ir::{Constant, ConstantId, ConstantSource, DType, Dims, Graph, Node, Tensor, Value, ValueId};
pub use weights::{ConstantError, WeightSource, with_constant};
