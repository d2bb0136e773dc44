//! Load, resize and run a delegate: the story from blob to outputs.

mod convert;
mod device;
mod host;
mod knobs;
mod load;
mod observe;
mod order;
mod session;
mod status;
mod weights;

pub use convert::scalar_type;
pub use device::{adapter_info_json, gpu, is_available};
pub use etwgpu_engine::RunStats;
pub use etwgpu_graph::WeightSource;
pub use host::{HostArg, HostCall};
pub use knobs::{KNOBS, Knob, Knobs, get_option, set_option};
pub use load::{Model, analyse};
pub use observe::{NamedSpan, NodeValue, Watch};
pub use session::{Memory, Profile, Session};
pub use status::{Error, code};
