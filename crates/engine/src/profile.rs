//! Timestamps around launches.

use std::time::Duration;

use crate::device::Gpu;
use crate::error::EngineError;
use crate::trace::Span;

/// Timestamps that one query set holds.
const SET: usize = 4096;

/// Query sets for a number of launches, and the buffers that their results pass through.
pub(crate) struct Timer {
    sets: Vec<wgpu::QuerySet>,
    launches: usize,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timer {
    /// None where the device has no timestamps, or refuses to give so many: the run is then not timed.
    pub(crate) fn new(gpu: &Gpu, launches: usize) -> Option<Self> {
        if !gpu.caps().timestamps || launches == 0 {
            return None;
        }
        let scopes =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal]
                .map(|filter| gpu.device.push_error_scope(filter));
        let timer = Self::create(gpu, launches);
        let refusals = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        match refusals.last() {
            Some(refusal) => {
                log::warn!("not timed, as the device refuses {} timestamps: {refusal}", 2 * launches);
                None
            }
            None => Some(timer),
        }
    }

    fn create(gpu: &Gpu, launches: usize) -> Self {
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
        Self { sets, launches, resolved, staging }
    }

    /// How many launches it times.
    pub(crate) fn launches(&self) -> usize {
        self.launches
    }

    pub(crate) fn writes(&self, launch: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let at = (2 * launch % SET) as u32;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[2 * launch / SET],
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        }
    }

    /// Follows all that is measured.
    pub(crate) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        for (index, set) in self.sets.iter().enumerate() {
            let used = (2 * self.launches - index * SET).min(SET) as u32;
            encoder.resolve_query_set(set, 0..used, &self.resolved, (index * SET * 8) as u64);
        }
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, self.staging.size());
    }

    /// Results of a submission, once it has finished: nanoseconds on the device's own clock. `launches` are the
    /// positions of the timed launches.
    pub(crate) fn spans(
        &self,
        gpu: &Gpu,
        submission: wgpu::SubmissionIndex,
        launches: &[Option<usize>],
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
        let span = |(i, &dispatch): (usize, &Option<usize>)| {
            let [start, end] = [ticks[2 * i], ticks[2 * i + 1]].map(nanoseconds);
            Span { dispatch, start, end }
        };
        let spans = launches.iter().enumerate().map(span).collect();
        drop(view);
        self.staging.unmap();
        Ok(spans)
    }
}
