//! The vocabulary between planning and execution.
//!
//! A [`Recording`] is plain data: planning produces it without a GPU, tests print and compare it, and the engine
//! is the only one that turns it into GPU work. [`Caps`] is what planning may know of a GPU.

mod caps;
mod dump;
mod recording;
mod slots;

pub use caps::{Caps, Precision, Subgroups};
pub use dump::{Totals, dump};
pub use recording::{
    Access, Binding, BufferDesc, BufferId, Dispatch, LiveParam, OutputCopy, Recording, Shader, WeightKey,
    WeightLayout,
};
pub use slots::assign_slots;
