//! Inputs on their way to the device, and outputs on their way to the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use etwgpu_record::{Access, BufferDesc, BufferId, Recording};

use crate::commands::Copy;
use crate::device::Gpu;
use crate::error::EngineError;
use crate::memory::Buffer;

/// Requests to map buffers that the device has not answered yet.
pub(crate) type Pending = Arc<AtomicUsize>;

fn map(buffer: &wgpu::Buffer, mode: wgpu::MapMode, pending: &Pending) {
    pending.fetch_add(1, Ordering::AcqRel);
    let pending = pending.clone();
    // A refusal shows when the range is asked for.
    buffer.map_async(mode, .., move |_| {
        pending.fetch_sub(1, Ordering::AcqRel);
    });
}

/// A buffer that stays mapped between runs, and the copies from it that begin each run.
///
/// It takes the place of queued writes, each of which would allocate.
pub(crate) struct Upload {
    buffer: Option<wgpu::Buffer>,
    targets: Vec<Target>,
    size: u64,
}

struct Target {
    buffer: Buffer,
    offset: u64,
    size: u64,
}

impl Upload {
    pub(crate) fn new(targets: impl IntoIterator<Item = Buffer>) -> Self {
        let (mut size, mut laid_out) = (0, Vec::new());
        for buffer in targets {
            let target = Target { offset: size, size: buffer.size(), buffer };
            size += target.size.next_multiple_of(wgpu::MAP_ALIGNMENT);
            laid_out.push(target);
        }
        Self { buffer: None, targets: laid_out, size }
    }

    /// Makes the buffer, if there is none that the host may write. Returns whether it is a new one.
    pub(crate) fn prepare(&mut self, gpu: &Gpu) -> Result<bool, EngineError> {
        if self.size == 0 || self.buffer.is_some() {
            return Ok(false);
        }
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        self.buffer = Some(gpu.create_mapped("inputs", self.size, usage)?.raw);
        Ok(true)
    }

    /// Writes the bytes of target number `index`; what they do not fill is zero.
    pub(crate) fn write(&self, index: usize, bytes: &[u8]) -> Result<(), EngineError> {
        let (Some(buffer), Some(target)) = (&self.buffer, self.targets.get(index)) else { return Ok(()) };
        let range = target.offset..target.offset + target.size;
        let mut view =
            buffer.get_mapped_range_mut(range).map_err(|e| EngineError::Validation(e.to_string()))?;
        let count = bytes.len().min(view.len());
        view.slice(..count).copy_from_slice(&bytes[..count]);
        view.slice(count..).fill(0);
        Ok(())
    }

    /// Hands the buffer to the device.
    pub(crate) fn hand_over(&self) {
        if let Some(buffer) = &self.buffer {
            buffer.unmap();
        }
    }

    /// Asks for the buffer back as soon as the device has read it.
    pub(crate) fn ask_back(&self, pending: &Pending) {
        if let Some(buffer) = &self.buffer {
            map(buffer, wgpu::MapMode::Write, pending);
        }
    }

    /// Forgets the buffer, after a run that did not end well.
    pub(crate) fn forget(&mut self) {
        self.buffer = None;
    }

    /// What every run begins with; other copies once [`Upload::prepare`] made a new buffer.
    pub(crate) fn copies(&self) -> Vec<Copy> {
        let copy = |source: &wgpu::Buffer, target: &Target| Copy {
            source: source.clone(),
            source_offset: target.offset,
            target: target.buffer.raw.clone(),
            target_offset: target.buffer.offset,
            size: target.size,
        };
        self.buffer.iter().flat_map(|source| self.targets.iter().map(move |t| copy(source, t))).collect()
    }

    /// Bytes of the buffer.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// Where outputs become visible to the host.
pub(crate) struct Download {
    outputs: Vec<Output>,
    staging: Option<Buffer>,
}

struct Output {
    source: Buffer,
    size: u64,
    /// Where in the staging buffer it is copied to; none for a buffer that the host maps itself.
    staged_at: Option<u64>,
}

impl Download {
    pub(crate) fn new(
        gpu: &Gpu,
        recording: &Recording,
        buffers: &[Option<Buffer>],
    ) -> Result<Self, EngineError> {
        let mut at = 0;
        let mut outputs = Vec::with_capacity(recording.outputs.len());
        for copy in &recording.outputs {
            let source = buffers[copy.buffer.index()].clone().ok_or_else(|| missing(copy.buffer))?;
            let is_mapped = source.raw.usage().contains(wgpu::BufferUsages::MAP_READ);
            let staged_at = (!is_mapped).then_some(at);
            if !is_mapped {
                at += copy.size.next_multiple_of(16);
            }
            outputs.push(Output { source, size: copy.size, staged_at });
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = if at == 0 { None } else { Some(gpu.create_with_usage("outputs", at, usage)?) };
        Ok(Self { outputs, staging })
    }

    /// What every run ends with.
    pub(crate) fn copies(&self) -> Vec<Copy> {
        let copy = |output: &Output| {
            Some(Copy {
                source: output.source.raw.clone(),
                source_offset: output.source.offset,
                target: self.staging.as_ref()?.raw.clone(),
                target_offset: output.staged_at?,
                size: output.size.next_multiple_of(4),
            })
        };
        self.outputs.iter().filter(|o| o.size > 0).filter_map(copy).collect()
    }

    fn mapped(&self) -> impl Iterator<Item = &wgpu::Buffer> {
        let direct = self.outputs.iter().filter(|o| o.staged_at.is_none() && o.size > 0);
        direct.map(|o| &o.source.raw).chain(self.staging.as_ref().map(|s| &s.raw))
    }

    /// Asks for the outputs as soon as the device has written them.
    pub(crate) fn ask(&self, pending: &Pending) {
        self.mapped().for_each(|buffer| map(buffer, wgpu::MapMode::Read, pending));
    }

    /// Hands each output's bytes to `sink`, and the buffers back to the device.
    pub(crate) fn read(
        &self,
        mut sink: impl FnMut(usize, &[u8]) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut result = Ok(());
        for (position, output) in self.outputs.iter().enumerate() {
            let (buffer, from) = match (output.staged_at, &self.staging) {
                (Some(at), Some(staging)) => (&staging.raw, at),
                _ => (&output.source.raw, 0),
            };
            result = result.and_then(|()| match output.size {
                0 => sink(position, &[]),
                size => {
                    let range = from..from + size.next_multiple_of(4);
                    let view = buffer.get_mapped_range(range);
                    let view = view.map_err(|e| EngineError::Validation(e.to_string()))?;
                    sink(position, &view[..size as usize])
                }
            });
        }
        self.release();
        result
    }

    /// Hands the buffers back to the device.
    pub(crate) fn release(&self) {
        self.mapped().for_each(wgpu::Buffer::unmap);
    }

    /// Bytes of the staging buffer.
    pub(crate) fn size(&self) -> u64 {
        self.staging.as_ref().map_or(0, Buffer::size)
    }
}

/// Whether the host may map a buffer of the recording itself: an output that launches only write, in memory of its own.
pub(crate) fn is_mappable(gpu: &Gpu, recording: &Recording, buffer: BufferId) -> bool {
    let outputs = recording.outputs.iter().filter(|o| o.buffer == buffer).count();
    let is_temp = matches!(recording.buffers[buffer.index()], BufferDesc::Temp { .. });
    let mut bindings = recording.dispatches.iter().flat_map(|d| &d.bindings).filter(|b| b.buffer == buffer);
    let is_written_once =
        bindings.next().is_some_and(|b| b.access == Access::ReadWrite) && bindings.next().is_none();
    gpu.maps_storage() && outputs == 1 && is_temp && is_written_once
}

pub(crate) fn missing(id: BufferId) -> EngineError {
    EngineError::Validation(format!("buffer {} has no storage", id.0))
}
