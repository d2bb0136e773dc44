//! Timestamps around passes.

use std::time::Duration;

use crate::device::Gpu;
use crate::error::EngineError;
use crate::trace::{Span, Window};

/// Timestamps that one query set holds.
const SET: usize = 4096;

/// Query sets for a number of passes, and the buffers that their results pass through.
pub(crate) struct Timer {
    sets: Vec<wgpu::QuerySet>,
    passes: usize,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timer {
    /// None where the device has no timestamps, or refuses to give so many: the run is then not timed.
    pub(crate) fn new(gpu: &Gpu, passes: usize) -> Option<Self> {
        if !gpu.caps().timestamps || passes == 0 {
            return None;
        }
        let scopes =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal]
                .map(|filter| gpu.device.push_error_scope(filter));
        let timer = Self::create(gpu, passes);
        let refusals = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        match refusals.last() {
            Some(refusal) => {
                log::warn!("not timed, as the device refuses {} timestamps: {refusal}", 2 * passes);
                None
            }
            None => Some(timer),
        }
    }

    fn create(gpu: &Gpu, passes: usize) -> Self {
        let set = |_| {
            gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: SET as u32,
            })
        };
        let sets: Vec<_> = (0..(2 * passes).div_ceil(SET)).map(set).collect();
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
        Self { sets, passes, resolved, staging }
    }

    /// How many passes it times.
    pub(crate) fn passes(&self) -> usize {
        self.passes
    }

    pub(crate) fn writes(&self, pass: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let at = (2 * pass % SET) as u32;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[2 * pass / SET],
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        }
    }

    /// Follows all that is measured.
    pub(crate) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        for (index, set) in self.sets.iter().enumerate() {
            let used = (2 * self.passes - index * SET).min(SET) as u32;
            encoder.resolve_query_set(set, 0..used, &self.resolved, (index * SET * 8) as u64);
        }
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, self.staging.size());
    }

    /// Results of a submission, once it has finished: nanoseconds on the device's own clock. `windows` are what
    /// its passes held.
    pub(crate) fn spans(
        &self,
        gpu: &Gpu,
        submission: wgpu::SubmissionIndex,
        windows: &[Window],
    ) -> Result<Vec<Span>, EngineError> {
        let slice = self.staging.slice(..);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        gpu.wait(submission, Duration::from_secs(60))?;
        let view = slice.get_mapped_range().map_err(|e| EngineError::Validation(e.to_string()))?;
        let ticks: &[u64] = bytemuck::cast_slice(&view);
        let period = f64::from(gpu.queue.get_timestamp_period());
        // Ticks count from an origin of their own; only differences keep their precision as floating point numbers.
        let origin = ticks.first().copied().unwrap_or(0);
        let nanoseconds = |tick: u64| tick.wrapping_sub(origin).cast_signed() as f64 * period;
        let span = |(i, window): (usize, &Window)| {
            let [start, end] = [ticks[2 * i], ticks[2 * i + 1]].map(nanoseconds);
            Span { dispatch: window.dispatch, launches: window.launches, start, end }
        };
        let spans = windows.iter().filter(|window| window.timed).enumerate().map(span).collect();
        drop(view);
        self.staging.unmap();
        Ok(spans)
    }
}
