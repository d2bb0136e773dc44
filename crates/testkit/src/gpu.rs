//! Recordings of cases on a real device, with every byte that nothing wrote made visible.

use std::sync::Arc;

use etwgpu_engine::{AdapterChoice, Buffer, EngineError, Gpu, Prepared, Trace};
use etwgpu_graph::ValueId;
use etwgpu_kernels::cases::Case;
use etwgpu_kernels::reference::Array;
use etwgpu_kernels::{Live, Lowered};
use etwgpu_record::{BufferDesc, BufferId, OutputCopy, Recording, WeightLayout};

/// Byte that fills whatever no one wrote: NaN in every float type, -1 in integers.
pub const POISON: u8 = 0xff;

/// Poisoned bytes behind each buffer, which no kernel may touch.
const GUARD: u64 = 256;

/// Opens the device that tests run on: the adapter that `ETWGPU_ADAPTER` names, else a GPU, else lavapipe.
pub fn open() -> Arc<Gpu> {
    let named = std::env::var("ETWGPU_ADAPTER").ok().filter(|name| !name.is_empty());
    let checked_shaders = std::env::var("ETWGPU_CHECKED_SHADERS").is_ok_and(|v| v == "1");
    let open = |name| Gpu::open(&AdapterChoice { name, checked_shaders, ..AdapterChoice::default() });
    let gpu = match named {
        Some(name) => open(Some(name)),
        None => open(None).or_else(|_| open(Some("llvmpipe".into()))),
    };
    gpu.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a plan of a case and reads the graph's outputs.
///
/// Buffers hold NaNs wherever neither the host nor a kernel wrote, and no kernel may write behind a buffer's end.
pub fn run(gpu: &Gpu, case: &Case, live: &Live, lowered: &Lowered) -> Result<Vec<Array>, String> {
    let read = run_and_read(gpu, case, &lowered.recording)?;
    let outputs = lowered.recording.outputs.iter().zip(&read);
    Ok(outputs.map(|(copy, bytes)| output(case, live, copy, bytes)).collect())
}

/// Runs a recording of a case and reads every buffer of it; what nothing wrote is [`POISON`].
pub fn run_buffers(gpu: &Gpu, case: &Case, recording: &Recording) -> Result<Vec<Vec<u8>>, String> {
    let mut read = run_and_read(gpu, case, recording)?.split_off(recording.outputs.len());
    for (bytes, desc) in read.iter_mut().zip(&recording.buffers) {
        bytes.truncate(desc.size() as usize);
    }
    Ok(read)
}

/// The outputs of a recording, then all of its buffers with their guards.
fn run_and_read(gpu: &Gpu, case: &Case, original: &Recording) -> Result<Vec<Vec<u8>>, String> {
    let fail = |error: EngineError| format!("engine: {error}");
    let recording = guarded(original);
    let bytes = original.buffers.iter().map(|desc| desc.size() + GUARD).sum();
    let (mut buffers, mut uploads) = (Vec::new(), gpu.uploads(bytes));
    for desc in &original.buffers {
        let buffer = gpu.create_buffer("test", desc.size() + GUARD).map_err(fail)?;
        uploads.write(&buffer, &contents(case, desc)).map_err(fail)?;
        buffers.push(buffer);
    }
    uploads.finish().map_err(fail)?;
    let resident = |desc: &BufferDesc| -> Option<Buffer> {
        let BufferDesc::State { value, .. } = desc else { return None };
        buffers.get(*value as usize).cloned()
    };
    let mut prepared = Prepared::new(gpu, &recording, &resident).map_err(fail)?;
    let mut read: Vec<Vec<u8>> = Vec::new();
    let mut sink = |_: usize, bytes: &[u8]| {
        read.push(bytes.to_vec());
        Ok(())
    };
    prepared.run(gpu, &[], &mut sink, &mut Trace::off()).map_err(fail)?;
    check_guards(original, &read[original.outputs.len()..])?;
    Ok(read)
}

/// The recording with every buffer supplied by the test, bound and read back with its guard.
///
/// Devices drop what leaves a binding; with the guard bound, writes behind a buffer's end reach it and are seen.
fn guarded(recording: &Recording) -> Recording {
    let mut guarded = recording.clone();
    for binding in guarded.dispatches.iter_mut().flat_map(|d| &mut d.bindings) {
        if binding.offset + binding.size == recording.buffers[binding.buffer.index()].size() {
            binding.size += GUARD;
        }
    }
    for (number, desc) in (0..).zip(&mut guarded.buffers) {
        let size = desc.size() + GUARD;
        *desc = BufferDesc::State { value: number, size };
        guarded.outputs.push(OutputCopy { output: number, buffer: BufferId(number), size });
    }
    guarded
}

fn check_guards(recording: &Recording, read: &[Vec<u8>]) -> Result<(), String> {
    for (number, (desc, bytes)) in recording.buffers.iter().zip(read).enumerate() {
        if bytes[desc.size() as usize..].iter().any(|&b| b != POISON) {
            return Err(format!("something was written behind buffer {number}, {desc:?}"));
        }
        if matches!(desc, BufferDesc::Counters { .. })
            && bytes[..desc.size() as usize].iter().any(|&b| b != 0)
        {
            return Err(format!("counters in buffer {number} are not zero again"));
        }
    }
    Ok(())
}

/// What a buffer holds before the run; the rest is poison.
fn contents(case: &Case, desc: &BufferDesc) -> Vec<u8> {
    let mut bytes = match *desc {
        BufferDesc::Temp { .. } => Vec::new(),
        BufferDesc::Counters { size } => vec![0; size as usize],
        BufferDesc::Input { value, .. } => case.inputs[&ValueId(value)].bytes(),
        BufferDesc::State { value, .. } => {
            let constant = case.graph.tensor(ValueId(value)).and_then(|t| t.constant);
            constant.map_or_else(Vec::new, |id| case.constants[id.index()].bytes())
        }
        BufferDesc::Weight { key, .. } => arranged(&case.constants[key.constant as usize], key.layout),
    };
    bytes.resize((desc.size() + GUARD) as usize, POISON);
    bytes
}

fn arranged(array: &Array, layout: WeightLayout) -> Vec<u8> {
    match layout {
        WeightLayout::Raw => array.bytes(),
        WeightLayout::Transposed { rows, cols } => {
            let at = |i: u32| array.values[(i % rows * cols + i / rows) as usize];
            Array::new(array.dtype, &[cols, rows], (0..rows * cols).map(at).collect()).bytes()
        }
    }
}

fn output(case: &Case, live: &Live, copy: &OutputCopy, bytes: &[u8]) -> Array {
    let id = case.graph.outputs[copy.output as usize];
    let dtype = case.graph.tensor(id).map(|t| t.dtype).unwrap_or_else(|| panic!("%{} is no tensor", id.0));
    Array::from_bytes(dtype, &live.dims[id.index()], bytes)
}
