//! Buffers.

use std::time::Duration;

use crate::device::Gpu;
use crate::error::EngineError;

/// Bytes of the buffers in which smaller ones lie together.
const SHARED: u64 = 256 << 20;

/// Memory on the device: a whole buffer, or a part of one that others share. Clones name the same memory.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(crate) raw: wgpu::Buffer,
    /// Where it begins in the buffer.
    pub(crate) offset: u64,
    size: u64,
}

impl Buffer {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Gpu {
    /// Allocates a storage buffer of zeros.
    pub fn create_buffer(&self, label: &str, size: u64) -> Result<Buffer, EngineError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.create_with_usage(label, size, usage)
    }

    /// Allocates storage for each size, in few buffers: each one that commands use costs the host time in every run.
    ///
    /// No launch may read one part and write another, and each waits for what others did to any part.
    pub fn create_together(&self, label: &str, sizes: &[u64]) -> Result<Vec<Buffer>, EngineError> {
        let align = u64::from(self.caps().storage_align.max(4));
        let most = SHARED.min(self.caps().max_buffer);
        let mut parts = Vec::with_capacity(sizes.len());
        let mut rest = sizes;
        while !rest.is_empty() {
            let (offsets, end) = fill(rest, align, most);
            let shared = self.create_buffer(label, end)?;
            let part = |(&offset, &size)| Buffer { raw: shared.raw.clone(), offset, size };
            parts.extend(offsets.iter().zip(rest).map(part));
            rest = &rest[offsets.len()..];
        }
        Ok(parts)
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
            None => Ok(Buffer { raw: buffer, offset: 0, size: desc.size }),
        }
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

/// Where as many of these sizes as fit, but at least one, begin in a buffer of at most so many bytes, and where the last
/// ends.
fn fill(sizes: &[u64], align: u64, most: u64) -> (Vec<u64>, u64) {
    let mut offsets = Vec::new();
    let mut end = 0;
    for &size in sizes {
        let begin = u64::next_multiple_of(end, align);
        if !offsets.is_empty() && begin + size > most {
            break;
        }
        offsets.push(begin);
        end = begin + size;
    }
    (offsets, end)
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn parts_begin_aligned_and_end_within_the_buffer() {
        assert_eq!(fill(&[10, 20, 4], 16, 64), (vec![0, 16, 48], 52));
        assert_eq!(fill(&[10, 20, 20], 16, 64), (vec![0, 16], 36));
        assert_eq!(fill(&[48, 16, 4], 16, 64), (vec![0, 48], 64));
    }

    #[test]
    fn what_is_too_large_for_a_shared_buffer_has_its_own() {
        assert_eq!(fill(&[100, 4], 16, 64), (vec![0], 100));
        assert_eq!(fill(&[4, 100], 16, 64), (vec![0], 4));
    }
}
