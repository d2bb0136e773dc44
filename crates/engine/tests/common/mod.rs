//! The device that tests run on.

#![allow(unreachable_pub, reason = "shared by test files")]

use std::sync::Arc;

use etwgpu_engine::{AdapterChoice, Gpu};

/// The adapter that the environment names, else a GPU, else lavapipe.
pub fn open() -> Arc<Gpu> {
    let named = std::env::var("ETWGPU_ADAPTER").ok().filter(|name| !name.is_empty());
    let choice = |name| AdapterChoice { name, ..AdapterChoice::default() };
    let gpu = match named {
        Some(name) => Gpu::open(&choice(Some(name))),
        None => Gpu::open(&choice(None)).or_else(|_| Gpu::open(&choice(Some("llvmpipe".into())))),
    };
    gpu.unwrap()
}
