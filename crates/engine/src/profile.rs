//! Timestamps around launches.

use std::time::Duration;

use crate::device::Gpu;
use crate::error::EngineError;
use crate::trace::{Span, Timing};

/// Timestamps that one query set holds.
const SET: usize = 4096;

/// Timestamps that so many launches take.
fn queries(launches: usize, inside: bool) -> usize {
    if inside { launches + 1 } else { 2 * launches }
}

/// Query sets for a number of launches, and the buffers that their results pass through.
pub(crate) struct Timer {
    sets: Vec<wgpu::QuerySet>,
    timing: Timing,
    launches: usize,
    /// Whether timestamps stand between the launches of one pass, each launch lasting from the one before to its own;
    /// else each launch has a pass of its own, with a timestamp at either end, which takes longer.
    inside: bool,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timer {
    /// None where the device has no timestamps, or refuses to give so many: the run is then not timed.
    pub(crate) fn new(gpu: &Gpu, timing: Timing, launches: usize) -> Option<Self> {
        if !gpu.caps().timestamps || launches == 0 {
            return None;
        }
        let scopes =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal]
                .map(|filter| gpu.device.push_error_scope(filter));
        let timer = Self::create(gpu, timing, launches);
        let refusals = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        match refusals.last() {
            Some(refusal) => {
                log::warn!("not timed, as the device refuses timestamps for {launches} launches: {refusal}");
                None
            }
            None => Some(timer),
        }
    }

    fn create(gpu: &Gpu, timing: Timing, launches: usize) -> Self {
        let set = |_| {
            gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: SET as u32,
            })
        };
        let between = gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);
        let inside = between && timing == Timing::Launches;
        let sets: Vec<_> = (0..queries(launches, inside).div_ceil(SET)).map(set).collect();
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
        Self { sets, timing, launches, inside, resolved, staging }
    }

    /// Whether it can time such a run.
    pub(crate) fn serves(&self, timing: Timing, launches: usize) -> bool {
        self.timing == timing && self.launches == launches
    }

    /// Whether launches are timed within one pass.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside
    }

    /// Writes the time before the first launch (0) or after launch `number` - 1, in a pass that times its launches.
    pub(crate) fn mark(&self, pass: &mut wgpu::ComputePass<'_>, number: usize) {
        pass.write_timestamp(&self.sets[number / SET], (number % SET) as u32);
    }

    /// The ends of a pass of its own.
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
            let used = (queries(self.launches, self.inside) - index * SET).min(SET) as u32;
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
            let first = if self.inside { i } else { 2 * i };
            let [start, end] = [ticks[first], ticks[first + 1]].map(nanoseconds);
            Span { dispatch, start, end }
        };
        let spans = launches.iter().enumerate().map(span).collect();
        drop(view);
        self.staging.unmap();
        Ok(spans)
    }
}
