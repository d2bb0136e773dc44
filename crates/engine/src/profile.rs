//! Timestamps around launches.

use std::time::Duration;

use crate::device::Gpu;
use crate::error::EngineError;

/// Timestamps that one query set holds.
const SET: usize = 4096;

/// When one launch ran on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Position of the launch in its recording.
    pub dispatch: usize,
    /// Nanoseconds on the device's own clock.
    pub start: f64,
    /// Nanoseconds on the device's own clock.
    pub end: f64,
}

/// Query sets for a number of launches, and the buffers that their results pass through.
pub(crate) struct Timer {
    sets: Vec<wgpu::QuerySet>,
    launches: usize,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timer {
    /// None where the device has no timestamps: profiling then yields nothing.
    pub(crate) fn new(gpu: &Gpu, launches: usize) -> Option<Self> {
        if !gpu.caps().timestamps || launches == 0 {
            return None;
        }
        let set = |_| {
            gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: SET as u32,
            })
        };
        let sets: Vec<_> = (0..(2 * launches).div_ceil(SET)).map(set).collect();
        let buffer = |usage| {
            let size = (sets.len() * SET * 8) as u64;
            let label = Some("timestamps");
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        Some(Self { sets, launches, resolved, staging })
    }

    pub(crate) fn writes(&self, launch: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let at = (2 * launch % SET) as u32;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[2 * launch / SET],
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        }
    }

    pub(crate) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        for (index, set) in self.sets.iter().enumerate() {
            let used = (2 * self.launches - index * SET).min(SET) as u32;
            encoder.resolve_query_set(set, 0..used, &self.resolved, (index * SET * 8) as u64);
        }
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, self.staging.size());
    }

    /// Results of a submission that has finished; `steps` are the positions of the launches.
    pub(crate) fn spans(&self, gpu: &Gpu, steps: &[usize]) -> Result<Vec<Span>, EngineError> {
        let slice = self.staging.slice(..);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        let index = gpu.queue.submit([]);
        gpu.wait(index, Duration::from_secs(60))?;
        let view = slice.get_mapped_range().map_err(|e| EngineError::Validation(e.to_string()))?;
        let ticks: &[u64] = bytemuck::cast_slice(&view);
        let period = f64::from(gpu.queue.get_timestamp_period());
        let span = |(i, &dispatch): (usize, &usize)| Span {
            dispatch,
            start: ticks[2 * i] as f64 * period,
            end: ticks[2 * i + 1] as f64 * period,
        };
        Ok(steps.iter().enumerate().map(span).collect())
    }
}
