//! The device that tests run on, and what they run there.

#![allow(unreachable_pub, reason = "shared by test files")]
#![allow(dead_code, reason = "no test file uses all of it")]

use std::sync::Arc;

use etwgpu_engine::{AdapterChoice, Gpu};
use etwgpu_record::{Access, Binding, BufferDesc, Dispatch, LiveParam, OutputCopy, Recording, Shader};

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

/// Words of a chain's input.
pub const WORDS: u32 = 64;

/// A launch that adds an amount to the words that it has an invocation for, in a workgroup each.
#[derive(Clone)]
pub struct Add {
    pub amount: u32,
    /// Symbolic integer that the amount follows.
    pub live: Option<u32>,
    pub is_patched: bool,
}

/// Launches one after another; buffer 0 is the input, output 0 what the last one leaves.
pub fn chain(adds: &[Add]) -> Recording {
    let source = "
        struct Params { amount: u32 }
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read> x: array<u32>;
        @group(0) @binding(2) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(1) fn main(@builtin(workgroup_id) id: vec3<u32>) {
            y[id.x] = x[id.x] + params.amount;
        }";
    let size = u64::from(WORDS) * 4;
    let mut recording = Recording::default();
    let mut last = recording.add_buffer(BufferDesc::Input { value: 0, size });
    for (add, node) in adds.iter().zip(0..) {
        let next = recording.add_buffer(BufferDesc::Temp { size });
        let bind = |buffer, access| Binding { buffer, offset: 0, size, touched: size, access };
        recording.dispatches.push(Dispatch {
            shader: Shader { label: "add", source: source.into() },
            bindings: vec![bind(last, Access::Read), bind(next, Access::ReadWrite)],
            params: vec![add.amount],
            live_params: add.live.map(|value| LiveParam { word: 0, value }).into_iter().collect(),
            is_patched: add.is_patched,
            grid: [WORDS, 1, 1],
            node,
            bytes: 2 * size,
            ops: WORDS.into(),
            ..Dispatch::default()
        });
        last = next;
    }
    recording.outputs.push(OutputCopy { output: 0, buffer: last, size });
    recording
}
