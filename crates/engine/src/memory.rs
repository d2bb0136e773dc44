//! Buffers and uploads.

use std::time::Duration;

use crate::device::Gpu;
use crate::error::EngineError;

/// Bytes handed to the queue at once while streaming weights.
const CHUNK: usize = 8 << 20;

/// Bytes in flight to the device before an upload waits: bounds the host memory that staging takes.
const IN_FLIGHT: usize = 64 << 20;

/// A buffer on the device; clones name the same buffer.
#[derive(Clone, Debug)]
pub struct Buffer(pub(crate) wgpu::Buffer);

impl Buffer {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.0.size()
    }
}

impl Gpu {
    /// Allocates a storage buffer of zeros.
    pub fn create_buffer(&self, label: &str, size: u64) -> Result<Buffer, EngineError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.create_with_usage(label, size, usage)
    }

    /// Whether launches may write buffers that the host maps.
    pub(crate) fn maps_storage(&self) -> bool {
        self.device.features().contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
    }

    /// Allocates a storage buffer that the host can map for reading.
    pub(crate) fn create_readable(&self, label: &str, size: u64) -> Result<Buffer, EngineError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_READ;
        self.create_with_usage(label, size, usage)
    }

    /// Allocates a buffer that the host may write at once.
    pub(crate) fn create_mapped(
        &self,
        label: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer, EngineError> {
        self.create(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: true })
    }

    pub(crate) fn create_with_usage(
        &self,
        label: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer, EngineError> {
        self.create(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    }

    fn create(&self, desc: &wgpu::BufferDescriptor<'_>) -> Result<Buffer, EngineError> {
        let limit = self.caps().max_buffer;
        if desc.size > limit {
            let what = desc.label.unwrap_or_default().to_owned();
            return Err(EngineError::Limit { what, need: desc.size, limit });
        }
        let out_of_memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = self.device.create_buffer(desc);
        let refused = pollster::block_on(validation.pop());
        match pollster::block_on(out_of_memory.pop()).or(refused) {
            Some(error) => Err(error.into()),
            None => Ok(Buffer(buffer)),
        }
    }

    /// Writes bytes to the start of a buffer, a bounded amount at a time; they may be freed on return.
    pub fn upload(&self, buffer: &Buffer, bytes: &[u8]) -> Result<(), EngineError> {
        let mut in_flight = 0;
        for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
            self.write(buffer, (index * CHUNK) as u64, chunk);
            in_flight += chunk.len();
            if in_flight >= IN_FLIGHT {
                self.flush()?;
                in_flight = 0;
            }
        }
        if bytes.len() >= CHUNK { self.flush() } else { self.check() }
    }

    /// Queues a small write; a tail that is no multiple of four is padded with zeros.
    pub(crate) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        let whole = bytes.len() / 4 * 4;
        if whole > 0 {
            self.queue.write_buffer(&buffer.0, offset, &bytes[..whole]);
        }
        let tail = &bytes[whole..];
        if !tail.is_empty() {
            let mut word = [0; 4];
            word[..tail.len()].copy_from_slice(tail);
            self.queue.write_buffer(&buffer.0, offset + whole as u64, &word);
        }
    }

    /// Submits queued writes and waits until the device has taken them.
    pub fn flush(&self) -> Result<(), EngineError> {
        let index = self.queue.submit([]);
        self.wait(index, Duration::from_secs(120))
    }

    pub(crate) fn wait(&self, index: wgpu::SubmissionIndex, timeout: Duration) -> Result<(), EngineError> {
        let poll = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(timeout) };
        match self.device.poll(poll) {
            Ok(_) => self.check(),
            Err(wgpu::PollError::Timeout) => Err(EngineError::Timeout(timeout.as_secs())),
            Err(error) => Err(EngineError::Validation(error.to_string())),
        }
    }
}
