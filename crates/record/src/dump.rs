//! A stable, readable text form of a recording, for `etwgpu dump` and for snapshots.
//!
//! ```text
//! buffers
//! b0 input %0, 384 bytes, dispatches 0..=0
//! b1 weight constant 0 transposed 12x32, 1536 bytes, dispatches 0..=0
//! b2 temp, 144 bytes, dispatches 0..=0, output
//! dispatches
//! d0 #0 q4_gemv grid [3,1,1], 2064 bytes, 2304 ops
//!   read b0[0..384], read b1[0..1536], read_write b2[0..144]
//!   params rows=3(%5) eps=1e-5
//! outputs
//! o0 b2[0..144]
//! totals
//! 1 dispatches of 1 shaders, 0 barriers
//! bytes: 144 temp, 1536 weights, 0 state, 384 inputs, 144 outputs
//! work: 2064 bytes moved, 2304 ops
//! ```
//!
//! A parameter with a value behind it, such as `rows` above, follows that symbolic integer. Temporaries that share
//! memory appear as one buffer; those that moved into another one's memory are left out.

mod params;

use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};

use crate::recording::{Access, Binding, BufferDesc, BufferId, Dispatch, Recording, WeightLayout};

/// Sums over a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Launches.
    pub dispatches: usize,
    /// Different shader modules.
    pub shaders: usize,
    /// Launches that wait for an earlier one.
    pub barriers: usize,
    /// Bytes of temporaries.
    pub temp_bytes: u64,
    /// Bytes of resident constants.
    pub weight_bytes: u64,
    /// Bytes of state that outlives a run.
    pub state_bytes: u64,
    /// Bytes uploaded for inputs in each run.
    pub input_bytes: u64,
    /// Bytes read back in each run.
    pub output_bytes: u64,
    /// Bytes that the launches must move at least.
    pub moved_bytes: u64,
    /// Arithmetic operations of the launches.
    pub ops: u64,
}

impl Totals {
    /// Sums over `recording`.
    pub fn of(recording: &Recording) -> Self {
        let sum = |is: fn(&BufferDesc) -> bool| {
            recording.buffers.iter().filter(|b| is(b)).map(BufferDesc::size).sum::<u64>()
        };
        let shaders: HashSet<_> = recording.dispatches.iter().map(|d| &d.shader).collect();
        Self {
            dispatches: recording.dispatches.len(),
            shaders: shaders.len(),
            barriers: recording.barriers(),
            temp_bytes: recording.temp_bytes(),
            weight_bytes: sum(|b| matches!(b, BufferDesc::Weight { .. })),
            state_bytes: sum(|b| matches!(b, BufferDesc::State { .. })),
            input_bytes: sum(|b| matches!(b, BufferDesc::Input { .. })),
            output_bytes: recording.outputs.iter().map(|o| o.size).sum(),
            moved_bytes: recording.dispatches.iter().map(|d| d.bytes).sum(),
            ops: recording.dispatches.iter().map(|d| d.ops).sum(),
        }
    }
}

impl Display for Totals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { dispatches, shaders, barriers, .. } = self;
        writeln!(f, "{dispatches} dispatches of {shaders} shaders, {barriers} barriers")?;
        writeln!(
            f,
            "bytes: {} temp, {} weights, {} state, {} inputs, {} outputs",
            self.temp_bytes, self.weight_bytes, self.state_bytes, self.input_bytes, self.output_bytes
        )?;
        writeln!(f, "work: {} bytes moved, {} ops", self.moved_bytes, self.ops)
    }
}

/// The text form of `recording`.
pub fn dump(recording: &Recording) -> String {
    Text(recording).to_string()
}

struct Text<'a>(&'a Recording);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let recording = self.0;
        writeln!(f, "buffers")?;
        for (index, desc) in recording.buffers.iter().enumerate().filter(|(_, desc)| desc.size() > 0) {
            let users = users(recording, BufferId(index as u32));
            writeln!(f, "b{index} {}, {} bytes{users}", kind(desc), desc.size())?;
        }
        writeln!(f, "dispatches")?;
        for (index, dispatch) in recording.dispatches.iter().enumerate() {
            let Dispatch { shader, grid: [x, y, z], node, bytes, ops, .. } = dispatch;
            writeln!(f, "d{index} #{node} {} grid [{x},{y},{z}], {bytes} bytes, {ops} ops", shader.label)?;
            let bindings: Vec<String> = dispatch.bindings.iter().map(binding).collect();
            writeln!(f, "  {}", bindings.join(", "))?;
            if !dispatch.params.is_empty() {
                writeln!(f, "  params {}", params::text(dispatch))?;
            }
        }
        writeln!(f, "outputs")?;
        for output in &recording.outputs {
            writeln!(f, "o{} b{}[0..{}]", output.output, output.buffer.0, output.size)?;
        }
        write!(f, "totals\n{}", Totals::of(recording))
    }
}

fn kind(desc: &BufferDesc) -> String {
    match desc {
        BufferDesc::Weight { key, .. } => match key.layout {
            WeightLayout::Raw => format!("weight constant {}", key.constant),
            WeightLayout::Transposed { rows, cols } => {
                format!("weight constant {} transposed {rows}x{cols}", key.constant)
            }
        },
        BufferDesc::State { value, .. } => format!("state %{value}"),
        BufferDesc::Input { value, .. } => format!("input %{value}"),
        BufferDesc::Temp { .. } => "temp".to_owned(),
        BufferDesc::Counters { .. } => "counters".to_owned(),
    }
}

/// First and last launch that binds a buffer, and whether the host reads it.
fn users(recording: &Recording, id: BufferId) -> String {
    let binds = |d: &Dispatch| d.bindings.iter().any(|b| b.buffer == id);
    let first = recording.dispatches.iter().position(binds);
    let range = first.zip(recording.dispatches.iter().rposition(binds));
    let range = range.map_or(", no dispatch".to_owned(), |(a, b)| format!(", dispatches {a}..={b}"));
    let is_output = recording.outputs.iter().any(|output| output.buffer == id);
    if is_output { range + ", output" } else { range }
}

fn binding(binding: &Binding) -> String {
    let access = match binding.access {
        Access::Read => "read",
        Access::ReadWrite => "read_write",
    };
    let Binding { buffer, offset, size, .. } = binding;
    format!("{access} b{}[{offset}..{}]", buffer.0, offset.saturating_add(*size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LiveParam, OutputCopy, Shader, WeightKey};

    fn recording() -> Recording {
        let mut recording = Recording::default();
        let layout = WeightLayout::Transposed { rows: 12, cols: 32 };
        let key = WeightKey { constant: 0, layout };
        let bind = |buffer, size, access| Binding { buffer, offset: 0, size, touched: size, access };
        let bindings = vec![
            bind(recording.add_buffer(BufferDesc::Input { value: 0, size: 384 }), 384, Access::Read),
            bind(recording.add_buffer(BufferDesc::Weight { key, size: 1536 }), 1536, Access::Read),
            bind(recording.add_buffer(BufferDesc::Temp { size: 144 }), 144, Access::ReadWrite),
        ];
        recording.add_buffer(BufferDesc::Temp { size: 0 });
        recording.outputs.push(OutputCopy { output: 0, buffer: BufferId(2), size: 144 });
        let source = "struct Params { rows: u32, eps: f32, shift: vec2<i32> }".into();
        let shader = Shader { label: "q4_gemv", source };
        recording.dispatches.push(Dispatch {
            shader,
            bindings,
            params: vec![3, 1e-5f32.to_bits(), 1, u32::MAX],
            live_params: vec![LiveParam { word: 0, value: 5 }],
            is_patched: false,
            grid: [3, 1, 1],
            node: 7,
            sources: vec![],
            route: None,
            bytes: 2064,
            ops: 2304,
        });
        recording
    }

    #[test]
    fn recordings_read_well() {
        let expected = "\
buffers
b0 input %0, 384 bytes, dispatches 0..=0
b1 weight constant 0 transposed 12x32, 1536 bytes, dispatches 0..=0
b2 temp, 144 bytes, dispatches 0..=0, output
dispatches
d0 #7 q4_gemv grid [3,1,1], 2064 bytes, 2304 ops
  read b0[0..384], read b1[0..1536], read_write b2[0..144]
  params rows=3(%5) eps=1e-5 shift=[1,-1]
outputs
o0 b2[0..144]
totals
1 dispatches of 1 shaders, 0 barriers
bytes: 144 temp, 1536 weights, 0 state, 384 inputs, 144 outputs
work: 2064 bytes moved, 2304 ops
";
        assert_eq!(dump(&recording()), expected);
    }
}
