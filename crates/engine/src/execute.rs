//! Recordings made ready, and run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use etwgpu_record::{BufferDesc, BufferId, Dispatch, Recording};

use crate::device::Gpu;
use crate::error::EngineError;
use crate::memory::Buffer;
use crate::pipelines::Pipeline;
use crate::profile::Timer;
use crate::trace::{Phase, Trace, Window};
use crate::transfer::{Download, Pending, Upload, is_mappable, missing};

/// How long to poll before blocking: a decode step is over sooner, and a sleeping thread wakes late.
const SPIN: Duration = Duration::from_millis(2);

/// Largest time a single run may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A recording with its buffers, bind groups and pipelines.
pub struct Prepared {
    steps: Vec<Step>,
    buffers: Vec<Option<Buffer>>,
    params: Option<Buffer>,
    params_image: Vec<u8>,
    params_dirty: bool,
    /// Words of the parameters that follow symbolic integers: byte position and graph value.
    live_params: Vec<(usize, u32)>,
    /// The launches of the next run, encoded while the last one ran.
    next: Option<Encoded>,
    /// Parameters, then inputs.
    upload: Upload,
    inputs: Vec<BufferId>,
    download: Download,
    pending: Pending,
    /// Queries of the last run, if it was timed.
    timer: Option<Timer>,
}

/// Commands of one run.
struct Encoded {
    commands: wgpu::CommandBuffer,
    passes: usize,
}

struct Step {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
    params_offset: usize,
    params_len: usize,
}

impl Step {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], self.grid[2]);
    }
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
    /// Time from submission until the outputs were copied out; it holds `ahead`.
    pub wait: Duration,
    /// Time spent on preparing the next run while the device works.
    pub ahead: Duration,
    /// Time spent on nothing but waiting for the device.
    pub idle: Duration,
}

impl Prepared {
    /// Allocates and binds everything that a recording names.
    ///
    /// `resident` supplies the buffers of weights and states, which outlive the recording.
    pub fn new(
        gpu: &Gpu,
        recording: &Recording,
        resident: &dyn Fn(&BufferDesc) -> Option<Buffer>,
    ) -> Result<Self, EngineError> {
        let buffers = create_buffers(gpu, recording, resident)?;
        let (params_image, offsets) =
            lay_out_params(&recording.dispatches, gpu.caps().uniform_align as usize);
        let params = match params_image.len() {
            0 => None,
            len => {
                let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                Some(gpu.create_with_usage("params", len as u64, usage)?)
            }
        };
        let pipelines = gpu.pipelines_of(&recording.dispatches)?;
        let mut steps = Vec::with_capacity(pipelines.len());
        for ((dispatch, pipeline), &params_offset) in recording.dispatches.iter().zip(pipelines).zip(&offsets)
        {
            let bind_group = bind(gpu, dispatch, &pipeline, &buffers, params.as_ref(), params_offset)?;
            let params_len = dispatch.params.len() * 4;
            steps.push(Step { pipeline, bind_group, grid: dispatch.grid, params_offset, params_len });
        }
        let download = Download::new(gpu, recording, &buffers)?;
        let is_input = |desc: &BufferDesc| matches!(desc, BufferDesc::Input { .. });
        let descs = recording.buffers.iter().zip(0..);
        let inputs: Vec<BufferId> = descs.filter(|(d, _)| is_input(d)).map(|(_, id)| BufferId(id)).collect();
        let uploaded = inputs.iter().filter_map(|id| buffers[id.index()].clone());
        let upload = Upload::new(params.iter().cloned().chain(uploaded));
        gpu.check()?;
        let words = recording.dispatches.iter().zip(&offsets);
        let live_params = words
            .flat_map(|(d, &offset)| {
                d.live_params.iter().map(move |l| (offset + l.word as usize * 4, l.value))
            })
            .collect();
        let params_dirty = params.is_some();
        Ok(Self {
            steps,
            buffers,
            params,
            params_image,
            params_dirty,
            live_params,
            next: None,
            upload,
            inputs,
            download,
            pending: Pending::default(),
            timer: None,
        })
    }

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

    /// Replaces parameters and grid of one launch from the next run on.
    pub fn patch(&mut self, patch: &Patch<'_>) {
        let step = &mut self.steps[patch.dispatch];
        if step.grid != patch.grid {
            step.grid = patch.grid;
            self.next = None;
        }
        let bytes: &[u8] = bytemuck::cast_slice(patch.params);
        let image = &mut self.params_image[step.params_offset..step.params_offset + step.params_len];
        if image != bytes {
            image.copy_from_slice(bytes);
            self.params_dirty = true;
        }
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
        stats.dispatches = self.active().count();
        let timed = trace.timing().windows(self.active().map(|(position, _)| position));
        let kept = self.timer.take().filter(|timer| timer.passes() == timed.len());
        let timer = kept.or_else(|| Timer::new(gpu, timed.len()));
        let Encoded { commands, passes } = match (&timer, self.next.take()) {
            (None, Some(ready)) => ready,
            (timer, _) => self.encode(gpu, timer.as_ref().map(|timer| (timer, &timed[..]))),
        };
        stats.passes = passes;
        trace.end(Phase::Encode);
        let submitting = Instant::now();
        let index = gpu.queue.submit([commands]);
        let started = Instant::now();
        trace.end(Phase::Submit);
        self.upload.ask_back(&self.pending);
        self.download.ask(&self.pending);
        if timer.is_none() {
            self.next = Some(self.encode(gpu, None));
            trace.end(Phase::Ahead);
        }
        stats.ahead = started.elapsed();
        let waiting = Instant::now();
        let finished = self.wait_finished(gpu, index.clone());
        stats.idle = waiting.elapsed();
        trace.end(Phase::Wait);
        if finished.is_err() {
            self.download.release();
            self.upload.forget();
        }
        let result = finished.and_then(|()| self.download.read(sink));
        trace.end(Phase::Outputs);
        stats.wait = started.elapsed();
        if let Some(timer) = timer {
            let spans = timer.spans(gpu, index, &timed)?;
            trace.place(spans, submitting, started + stats.wait);
            self.timer = Some(timer);
        }
        result.map(|()| stats)
    }

    /// Puts inputs, and parameters that changed, where the next commands copy them from. Returns how many were written.
    fn write_inputs(&mut self, gpu: &Gpu, inputs: &[(BufferId, &[u8])]) -> Result<usize, EngineError> {
        if self.upload.prepare(gpu)? {
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

    /// Launches that do something, with their positions.
    fn active(&self) -> impl Iterator<Item = (usize, &Step)> {
        self.steps.iter().enumerate().filter(|(_, step)| !step.grid.contains(&0))
    }

    /// Every launch in one pass, or each window of them in a timed pass of its own.
    fn encode(&self, gpu: &Gpu, timed: Option<(&Timer, &[Window])>) -> Encoded {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        self.upload.encode(&mut encoder);
        let passes = match timed {
            Some((timer, windows)) => {
                let mut steps = self.active();
                for (count, window) in windows.iter().enumerate() {
                    let timestamp_writes = Some(timer.writes(count));
                    let desc = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                    let mut pass = encoder.begin_compute_pass(&desc);
                    steps.by_ref().take(window.launches).for_each(|(_, step)| step.encode(&mut pass));
                }
                windows.len()
            }
            None => {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                self.active().for_each(|(_, step)| step.encode(&mut pass));
                1
            }
        };
        self.download.encode(&mut encoder);
        if let Some((timer, _)) = timed {
            timer.resolve(&mut encoder);
        }
        Encoded { commands: encoder.finish(), passes }
    }

    /// Waits for the outputs, first awake, then asleep.
    fn wait_finished(&self, gpu: &Gpu, index: wgpu::SubmissionIndex) -> Result<(), EngineError> {
        // A device that is this CPU needs the core that spinning would take.
        let spin = if gpu.caps().is_cpu { Duration::ZERO } else { SPIN };
        let deadline = Instant::now() + spin;
        while self.pending.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            let _ = gpu.device.poll(wgpu::PollType::Poll);
            std::hint::spin_loop();
        }
        if self.pending.load(Ordering::Acquire) > 0 {
            gpu.wait(index, TIMEOUT)?;
        }
        gpu.check()
    }

    /// The first bytes of a buffer as the last run left it. Temporaries that share memory hold what came last.
    pub fn read(&self, gpu: &Gpu, buffer: BufferId, bytes: u64) -> Result<Vec<u8>, EngineError> {
        let source = self.buffers[buffer.index()].as_ref().ok_or_else(|| missing(buffer))?;
        let size = bytes.next_multiple_of(4).min(source.size());
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = gpu.create_with_usage("read back", size.max(4), usage)?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        encoder.copy_buffer_to_buffer(&source.0, 0, &staging.0, 0, size);
        let index = gpu.queue.submit([encoder.finish()]);
        let slice = staging.0.slice(..);
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

fn create_buffers(
    gpu: &Gpu,
    recording: &Recording,
    resident: &dyn Fn(&BufferDesc) -> Option<Buffer>,
) -> Result<Vec<Option<Buffer>>, EngineError> {
    let create = |(desc, id): (&BufferDesc, u32)| match desc {
        BufferDesc::Temp { size: 0 } => Ok(None),
        BufferDesc::Temp { size } if is_mappable(gpu, recording, BufferId(id)) => {
            gpu.create_readable("output", *size).map(Some)
        }
        BufferDesc::Temp { size } => gpu.create_buffer("temp", *size).map(Some),
        // New buffers hold zeros.
        BufferDesc::Counters { size } => gpu.create_buffer("counters", *size).map(Some),
        BufferDesc::Input { size, .. } => gpu.create_buffer("input", *size).map(Some),
        BufferDesc::Weight { .. } | BufferDesc::State { .. } => Ok(resident(desc)),
    };
    recording.buffers.iter().zip(0..).map(create).collect()
}

/// Parameters of all launches in one buffer, each at an aligned offset.
fn lay_out_params(dispatches: &[Dispatch], align: usize) -> (Vec<u8>, Vec<usize>) {
    let mut image = Vec::new();
    let mut offsets = Vec::with_capacity(dispatches.len());
    for dispatch in dispatches {
        if !dispatch.params.is_empty() {
            image.resize(image.len().next_multiple_of(align.max(16)), 0);
        }
        offsets.push(image.len());
        image.extend_from_slice(bytemuck::cast_slice(&dispatch.params));
    }
    // A uniform struct ends on a 16-byte boundary.
    image.resize(image.len().next_multiple_of(16), 0);
    (image, offsets)
}

fn bind(
    gpu: &Gpu,
    dispatch: &Dispatch,
    pipeline: &Pipeline,
    buffers: &[Option<Buffer>],
    params: Option<&Buffer>,
    params_offset: usize,
) -> Result<wgpu::BindGroup, EngineError> {
    let range = |buffer, offset, size| {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer,
            offset,
            size: wgpu::BufferSize::new(size),
        })
    };
    let mut entries = Vec::with_capacity(dispatch.bindings.len() + 1);
    if let (false, Some(params)) = (dispatch.params.is_empty(), params) {
        let size = (dispatch.params.len() as u64 * 4).next_multiple_of(16);
        entries.push(wgpu::BindGroupEntry {
            binding: 0,
            resource: range(&params.0, params_offset as u64, size),
        });
    }
    for (binding, number) in dispatch.bindings.iter().zip(1..) {
        let buffer = buffers[binding.buffer.index()].as_ref().ok_or_else(|| missing(binding.buffer))?;
        entries.push(wgpu::BindGroupEntry {
            binding: number,
            resource: range(&buffer.0, binding.offset, binding.size),
        });
    }
    let desc = wgpu::BindGroupDescriptor {
        label: Some(dispatch.shader.label),
        layout: &pipeline.layout,
        entries: &entries,
    };
    Ok(gpu.device.create_bind_group(&desc))
}
