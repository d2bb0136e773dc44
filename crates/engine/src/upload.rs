//! Bytes on their way to the device, through a few buffers that are used again and again.

use std::collections::VecDeque;

use crate::device::Gpu;
use crate::error::EngineError;
use crate::mapped::MappedFile;
use crate::memory::Buffer;
use crate::wait::TIMEOUT;

/// Bytes of a buffer that uploads go through.
const CHUNK: u64 = 8 << 20;

/// How many of these there are at most: the host fills one while the device reads others.
const CHUNKS: usize = 3;

/// Of uploads of more bytes than this the pages are let go of, where they are a mapped file's.
const RELEASED: usize = 64 << 20;

/// Uploads under way. The bytes are taken at once; they have arrived after [`Uploads::finish`].
pub struct Uploads<'a> {
    gpu: &'a Gpu,
    chunk: u64,
    filling: Option<Filling>,
    /// What the device may still read, the oldest first.
    handed_over: VecDeque<HandedOver>,
}

/// A mapped buffer, and the copies from what it holds already.
struct Filling {
    buffer: wgpu::Buffer,
    used: u64,
    encoder: wgpu::CommandEncoder,
}

struct HandedOver {
    buffer: wgpu::Buffer,
    index: wgpu::SubmissionIndex,
}

impl Gpu {
    /// Begins uploads of about so many bytes in all, which decides how much memory of the host they go through.
    pub fn uploads(&self, bytes: u64) -> Uploads<'_> {
        let chunk = bytes.clamp(1, CHUNK).next_multiple_of(wgpu::MAP_ALIGNMENT);
        Uploads { gpu: self, chunk, filling: None, handed_over: VecDeque::new() }
    }

    /// Writes bytes to the start of a buffer and waits until they are there. A tail that is no multiple of four is padded
    /// with zeros.
    pub fn upload(&self, buffer: &Buffer, bytes: &[u8]) -> Result<(), EngineError> {
        let mut uploads = self.uploads(bytes.len() as u64);
        uploads.write(buffer, bytes)?;
        uploads.finish()
    }
}

impl Uploads<'_> {
    /// Writes bytes to the start of a buffer; they may be freed on return. A tail that is no multiple of four is padded
    /// with zeros.
    pub fn write(&mut self, target: &Buffer, bytes: &[u8]) -> Result<(), EngineError> {
        if bytes.len() as u64 > target.size() {
            // Past its end there may be what another one holds.
            let (have, room) = (bytes.len(), target.size());
            return Err(EngineError::Validation(format!("{have} bytes do not fit a buffer of {room}")));
        }
        let mapped = if bytes.len() > RELEASED { MappedFile::of(bytes) } else { None };
        let (mut rest, mut offset) = (bytes, target.offset);
        while !rest.is_empty() {
            let room = self.chunk;
            let filling = self.filling()?;
            let (part, later) = rest.split_at(rest.len().min((room - filling.used) as usize));
            filling.put(part, &target.raw, offset)?;
            if let Some(mapped) = &mapped {
                mapped.release(part);
            }
            offset += part.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Waits until everything has arrived.
    pub fn finish(mut self) -> Result<(), EngineError> {
        self.hand_over();
        match self.handed_over.pop_back() {
            Some(last) => self.gpu.wait(last.index, TIMEOUT),
            None => self.gpu.check(),
        }
    }

    /// A buffer that has room.
    fn filling(&mut self) -> Result<&mut Filling, EngineError> {
        if self.filling.as_ref().is_some_and(|filling| filling.used >= self.chunk) {
            self.hand_over();
        }
        let filling = match self.filling.take() {
            Some(filling) => filling,
            None => {
                let buffer = self.free_buffer()?;
                let desc = wgpu::CommandEncoderDescriptor { label: Some("upload") };
                Filling { buffer, used: 0, encoder: self.gpu.device.create_command_encoder(&desc) }
            }
        };
        Ok(self.filling.insert(filling))
    }

    fn free_buffer(&mut self) -> Result<wgpu::Buffer, EngineError> {
        let oldest = if self.handed_over.len() < CHUNKS { None } else { self.handed_over.pop_front() };
        let Some(HandedOver { buffer, index }) = oldest else {
            let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
            return Ok(self.gpu.create_mapped("upload", self.chunk, usage)?.raw);
        };
        // It is mapped then, though another thread that polls may be about to say so.
        self.gpu.wait(index, TIMEOUT)?;
        Ok(buffer)
    }

    /// Has the device copy what is there so far.
    fn hand_over(&mut self) {
        let Some(Filling { buffer, encoder, .. }) = self.filling.take() else { return };
        buffer.unmap();
        let index = self.gpu.queue.submit([encoder.finish()]);
        // A refusal shows when the range is asked for.
        buffer.map_async(wgpu::MapMode::Write, .., |_| {});
        self.handed_over.push_back(HandedOver { buffer, index });
    }
}

impl Filling {
    fn put(&mut self, bytes: &[u8], target: &wgpu::Buffer, offset: u64) -> Result<(), EngineError> {
        let size = (bytes.len() as u64).next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
        let view = self.buffer.get_mapped_range_mut(self.used..self.used + size);
        let mut view = view.map_err(|e| EngineError::Validation(e.to_string()))?;
        view.slice(..bytes.len()).copy_from_slice(bytes);
        view.slice(bytes.len()..).fill(0);
        drop(view);
        self.encoder.copy_buffer_to_buffer(&self.buffer, self.used, target, offset, size);
        self.used += size.next_multiple_of(wgpu::MAP_ALIGNMENT);
        Ok(())
    }
}
