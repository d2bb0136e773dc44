//! The `etwgpu` command's planner side: info, dump, explain, check, bench.

pub mod bench;
pub mod check;
pub mod host;
pub mod look;
pub mod npy;
pub mod pte;
