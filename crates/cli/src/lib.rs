//! The `etwgpu` command's planner side: info, dump, explain, check, bench, profile, memory.

pub mod bench;
pub mod check;
pub mod host;
pub mod look;
pub mod memory;
pub mod npy;
pub mod profile;
pub mod pte;
