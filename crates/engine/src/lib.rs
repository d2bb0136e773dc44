//! Runs recordings on a GPU; the only crate that names wgpu.
//!
//! [`Gpu`] is a device with its pipelines, [`Prepared`] a recording whose buffers, bind groups and pipelines exist.

mod ahead;
mod commands;
mod cpu_time;
mod device;
mod disk_cache;
mod error;
mod execute;
mod mapped;
mod memory;
mod pipelines;
mod prepare;
mod profile;
mod trace;
mod transfer;
mod upload;
mod wait;

pub use cpu_time::thread_cpu_time;
pub use device::{AdapterChoice, AdapterInfo, Gpu, adapters};
pub use error::EngineError;
pub use execute::{Patch, PlanMemory, Prepared, RunStats, Sink};
pub use memory::Buffer;
pub use trace::{Phase, PhaseSpan, Span, Timing, Trace};
pub use upload::Uploads;
