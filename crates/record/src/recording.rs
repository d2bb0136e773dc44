//! Recordings: buffers, dispatches and readbacks as plain data.

use std::sync::Arc;

/// Names a buffer of a [`Recording`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

impl BufferId {
    /// Position in [`Recording::buffers`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a constant's bytes are arranged on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightLayout {
    /// As serialized.
    Raw,
    /// A row-major matrix, stored column by column.
    Transposed {
        /// Rows as serialized.
        rows: u32,
        /// Columns as serialized.
        cols: u32,
    },
}

/// Identity of a resident weight: same key, same bytes, one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightKey {
    /// The graph's constant, by number; equal sources share a number.
    pub constant: u32,
    /// Arrangement on the GPU.
    pub layout: WeightLayout,
}

/// What a buffer is for, and with that how long it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BufferDesc {
    /// Read-only weight, resident as long as the delegate.
    Weight {
        /// Which one.
        key: WeightKey,
        /// Bytes.
        size: u64,
    },
    /// State that the program mutates (a KV cache), as long-lived as the delegate; named by graph value.
    State {
        /// Graph value number.
        value: u32,
        /// Bytes.
        size: u64,
    },
    /// A host input, uploaded before every run; named by graph value.
    Input {
        /// Graph value number.
        value: u32,
        /// Bytes at the live size.
        size: u64,
    },
    /// Contents live within one run.
    Temp {
        /// Bytes.
        size: u64,
    },
    /// Counters, zero whenever no launch that uses them is under way.
    Counters {
        /// Bytes.
        size: u64,
    },
}

impl BufferDesc {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Weight { size, .. }
            | Self::State { size, .. }
            | Self::Input { size, .. }
            | Self::Temp { size }
            | Self::Counters { size } => *size,
        }
    }
}

/// How a shader uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// A range of a buffer bound to a shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Buffer.
    pub buffer: BufferId,
    /// First byte; a multiple of the device's storage alignment.
    pub offset: u64,
    /// Bytes; a multiple of four.
    pub size: u64,
    /// Bytes of them that the launch reads or writes; fewer than `size` where it picks rows or a cache is part full.
    pub touched: u64,
    /// Use.
    pub access: Access,
}

impl Binding {
    /// The same binding, of which the launch touches at most so many bytes.
    pub fn touching(self, bytes: u64) -> Self {
        Self { touched: bytes.min(self.touched), ..self }
    }
}

/// A complete WGSL module. Equal modules with equal bindings share a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shader {
    /// Name shown in profiles, GPU captures and messages.
    pub label: &'static str,
    /// WGSL text with entry point `main`; binding 0 is the uniform `Params`, storage bindings follow from 1.
    pub source: Arc<str>,
}

/// A parameter word that is a symbolic integer of the graph: rewritten when the integer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LiveParam {
    /// Position in [`Dispatch::params`].
    pub word: u32,
    /// Graph value number of the integer.
    pub value: u32,
}

impl Shader {
    /// Whether the module asks for an extension; such lines come first.
    pub fn enables(&self, extension: &str) -> bool {
        let mut enabled =
            self.source.lines().map_while(|line| line.strip_prefix("enable ")?.strip_suffix(';'));
        enabled.any(|name| name == extension)
    }
}

/// One kernel launch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dispatch {
    /// What runs.
    pub shader: Shader,
    /// Storage bindings 1, 2, ….
    pub bindings: Vec<Binding>,
    /// The uniform `Params`, word by word.
    pub params: Vec<u32>,
    /// Words of `params` that follow symbolic integers.
    pub live_params: Vec<LiveParam>,
    /// Whether `params` and `grid` may be replaced between runs, beyond live parameters.
    pub is_patched: bool,
    /// Workgroups; a zero skips the launch.
    pub grid: [u32; 3],
    /// Index of the graph node that asked for it; of a group, the last.
    pub node: u32,
    /// Ids of the program's operators that it stands for: those of every node of its group.
    pub sources: Vec<u32>,
    /// Route that was taken, where there was a choice.
    pub route: Option<&'static str>,
    /// Bytes that must be read and written at least.
    pub bytes: u64,
    /// Arithmetic operations.
    pub ops: u64,
}

/// An output's path back to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputCopy {
    /// Position in the delegate's outputs.
    pub output: u32,
    /// Where the elements are.
    pub buffer: BufferId,
    /// Live bytes.
    pub size: u64,
}

/// Everything one run does, for one set of live sizes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// Buffers by id.
    pub buffers: Vec<BufferDesc>,
    /// Launches in order.
    pub dispatches: Vec<Dispatch>,
    /// Tensors to read back.
    pub outputs: Vec<OutputCopy>,
}

impl Recording {
    /// Adds a buffer.
    pub fn add_buffer(&mut self, desc: BufferDesc) -> BufferId {
        self.buffers.push(desc);
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// Bytes of all temporary buffers.
    pub fn temp_bytes(&self) -> u64 {
        self.buffers.iter().filter(|b| matches!(b, BufferDesc::Temp { .. })).map(BufferDesc::size).sum()
    }

    /// Launches before which a device must wait for an earlier launch of the same recording.
    pub fn barriers(&self) -> usize {
        self.waits().into_iter().filter(|&waits| waits).count()
    }

    /// Whether a device must wait before each launch: if it reads what was written, or writes what was read or written.
    pub(crate) fn waits(&self) -> Vec<bool> {
        use std::collections::HashMap;
        let mut last: HashMap<BufferId, Access> = HashMap::new();
        let launch = |dispatch: &Dispatch| {
            if dispatch.grid.contains(&0) {
                return false;
            }
            let waits = dispatch.bindings.iter().any(|b| {
                last.get(&b.buffer).is_some_and(|&a| a == Access::ReadWrite || b.access == Access::ReadWrite)
            });
            last.extend(dispatch.bindings.iter().map(|b| (b.buffer, b.access)));
            waits
        };
        self.dispatches.iter().map(launch).collect()
    }
}
