//! Recordings that are ready to run, and their runs.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etwgpu_record::BufferId;

use crate::ahead::Ahead;
use crate::commands::{Commands, Encoded};
use crate::device::Gpu;
use crate::error::EngineError;
use crate::memory::Buffer;
use crate::profile::Timer;
use crate::trace::{Phase, Trace};
use crate::transfer::{Download, Pending, Upload, missing};
use crate::wait::{TIMEOUT, wait_finished};

/// A recording with its buffers, bind groups and pipelines.
pub struct Prepared {
    /// Nobody else holds them between runs.
    pub(crate) commands: Arc<Commands>,
    pub(crate) ahead: Ahead<Commands>,
    /// The commands of the next run, encoded while the last one ran.
    pub(crate) next: Option<Encoded>,
    pub(crate) buffers: Vec<Option<Buffer>>,
    pub(crate) params: Option<Buffer>,
    pub(crate) params_image: Vec<u8>,
    pub(crate) params_dirty: bool,
    /// The parameters, in bytes of the image, of each launch that may be patched; the others may share theirs.
    pub(crate) patched: Vec<Option<Range<usize>>>,
    /// Words of the parameters that follow symbolic integers: byte position and graph value.
    pub(crate) live_params: Vec<(usize, u32)>,
    /// Parameters, then inputs.
    pub(crate) upload: Upload,
    pub(crate) inputs: Vec<BufferId>,
    pub(crate) download: Download,
    pub(crate) pending: Pending,
    /// Queries of the last run, if it was timed.
    pub(crate) timer: Option<Timer>,
}

/// Device memory of a prepared recording, beside the buffers that the recording names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanMemory {
    /// Parameters of all launches.
    pub parameters: u64,
    /// Inputs and parameters on their way to the device, outputs on their way to the host.
    pub staging: u64,
}

/// New parameters and grid of one launch.
pub struct Patch<'a> {
    /// Position of the launch in the recording.
    pub dispatch: usize,
    /// The uniform `Params`, as many words as before.
    pub params: &'a [u32],
    /// Workgroups.
    pub grid: [u32; 3],
}

/// Takes the bytes of an output, given its position among the recording's outputs.
pub type Sink<'a> = dyn FnMut(usize, &[u8]) -> Result<(), EngineError> + 'a;

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunStats {
    /// Launches.
    pub dispatches: usize,
    /// Compute passes.
    pub passes: usize,
    /// Queue submissions.
    pub submits: usize,
    /// Writes queued for inputs and parameters.
    pub uploads: usize,
    /// Whether the commands were encoded while the run before waited.
    pub encoded_ahead: bool,
    /// Time from submission until the outputs were copied out.
    pub wait: Duration,
    /// Time that encoding the next run took, on another thread where there is one, while the device worked.
    pub ahead: Duration,
    /// Time spent on nothing but waiting for the device.
    pub idle: Duration,
    /// CPU time of the calling thread that went into waiting awake.
    pub spun: Duration,
}

impl Prepared {
    /// Writes symbolic integers into the parameters that follow them.
    pub fn set_integers(&mut self, value: impl Fn(u32) -> i64) {
        for &(at, id) in &self.live_params {
            let bytes = (value(id) as u32).to_le_bytes();
            let word = &mut self.params_image[at..at + 4];
            if word != bytes {
                word.copy_from_slice(&bytes);
                self.params_dirty = true;
            }
        }
    }

    /// Replaces parameters and grid of one launch from the next run on. An error unless it was recorded as one that may
    /// be patched.
    pub fn patch(&mut self, patch: &Patch<'_>) -> Result<(), EngineError> {
        let Some(range) = self.patched[patch.dispatch].clone() else {
            let message = format!("launch {} was not recorded as one that may be patched", patch.dispatch);
            return Err(EngineError::Validation(message));
        };
        if self.commands.steps[patch.dispatch].grid != patch.grid {
            Arc::make_mut(&mut self.commands).steps[patch.dispatch].grid = patch.grid;
            self.next = None;
        }
        let bytes: &[u8] = bytemuck::cast_slice(patch.params);
        let image = &mut self.params_image[range];
        if image != bytes {
            image.copy_from_slice(bytes);
            self.params_dirty = true;
        }
        Ok(())
    }

    /// Uploads inputs, runs every launch in one pass and one submission, and hands each output's bytes to `sink`.
    ///
    /// Where `trace` asks for times of launches, and the device has timestamps, there are as many passes as it asks for.
    pub fn run(
        &mut self,
        gpu: &Gpu,
        inputs: &[(BufferId, &[u8])],
        sink: &mut Sink<'_>,
        trace: &mut Trace,
    ) -> Result<RunStats, EngineError> {
        gpu.check()?;
        let mut stats = RunStats { submits: 1, ..RunStats::default() };
        stats.uploads = self.write_inputs(gpu, inputs)?;
        trace.end(Phase::Inputs);
        let windows = self.commands.windows(trace.timing());
        let timed = windows.iter().filter(|window| window.timed).count();
        let kept = self.timer.take().filter(|timer| timer.passes() == timed);
        let timer = kept.or_else(|| Timer::new(gpu, timed));
        let Encoded { commands, dispatches, passes, .. } = match (&timer, self.next.take()) {
            (None, Some(ready)) => {
                stats.encoded_ahead = true;
                ready
            }
            (timer, _) => self.commands.encode_timed(timer.as_ref().map(|timer| (timer, &windows[..]))),
        };
        (stats.dispatches, stats.passes) = (dispatches, passes);
        trace.end(Phase::Encode);
        let submitting = Instant::now();
        let index = gpu.queue.submit([commands]);
        let started = Instant::now();
        trace.end(Phase::Submit);
        // Whatever happens from here on, the other thread is done with the commands before this function is.
        let encoding = timer.is_none().then(|| self.ahead.begin(&self.commands));
        if encoding.is_some() {
            trace.end(Phase::Ahead);
        }
        self.upload.ask_back(&self.pending);
        self.download.ask(&self.pending);
        let finished = wait_finished(gpu, &self.pending, index.clone());
        trace.end(Phase::Wait);
        if finished.is_err() {
            self.download.release();
            self.upload.forget();
        }
        let result = finished.and_then(|waited| {
            (stats.idle, stats.spun) = (waited.idle, waited.spun);
            self.download.read(sink)
        });
        self.next = encoding.map(|encoding| encoding.finish()).transpose()?;
        stats.ahead = self.next.as_ref().map_or(Duration::ZERO, |next| next.took);
        trace.end(Phase::Outputs);
        stats.wait = started.elapsed();
        if let Some(timer) = timer {
            let spans = timer.spans(gpu, index, &windows)?;
            trace.place(spans, submitting, started + stats.wait);
            self.timer = Some(timer);
        }
        result.map(|()| stats)
    }

    /// Puts inputs, and parameters that changed, where the next commands copy them from. Returns how many were written.
    fn write_inputs(&mut self, gpu: &Gpu, inputs: &[(BufferId, &[u8])]) -> Result<usize, EngineError> {
        if self.upload.prepare(gpu)? {
            Arc::make_mut(&mut self.commands).uploads = self.upload.copies();
            self.next = None;
            self.params_dirty = true;
        }
        let mut count = 0;
        let first_input = usize::from(self.params.is_some());
        for (id, bytes) in inputs {
            let index = self.inputs.iter().position(|input| input == id).ok_or_else(|| missing(*id))?;
            self.upload.write(first_input + index, bytes)?;
            count += 1;
        }
        if self.params_dirty && self.params.is_some() {
            self.upload.write(0, &self.params_image)?;
            count += 1;
        }
        self.params_dirty = false;
        self.upload.hand_over();
        Ok(count)
    }

    /// The first bytes of a buffer as the last run left it. Temporaries that share memory hold what came last.
    pub fn read(&self, gpu: &Gpu, buffer: BufferId, bytes: u64) -> Result<Vec<u8>, EngineError> {
        let source = self.buffers[buffer.index()].as_ref().ok_or_else(|| missing(buffer))?;
        let size = bytes.next_multiple_of(4).min(source.size());
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = gpu.create_with_usage("read back", size.max(4), usage)?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        encoder.copy_buffer_to_buffer(&source.raw, source.offset, &staging.raw, 0, size);
        let index = gpu.queue.submit([encoder.finish()]);
        let slice = staging.raw.slice(..);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        gpu.wait(index, TIMEOUT)?;
        let view = slice.get_mapped_range().map_err(|e| EngineError::Validation(e.to_string()))?;
        Ok(view[..(bytes as usize).min(view.len())].to_vec())
    }

    /// Bytes of the buffers that belong to this recording alone.
    pub fn memory(&self) -> PlanMemory {
        let bytes = |buffer: &Option<Buffer>| buffer.as_ref().map_or(0, Buffer::size);
        PlanMemory { parameters: bytes(&self.params), staging: self.upload.size() + self.download.size() }
    }
}
