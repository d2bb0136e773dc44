//! Makes what a recording names: buffers, parameters, bind groups.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use etwgpu_record::{BufferDesc, BufferId, Dispatch, Recording};

use crate::ahead::{Ahead, Worker};
use crate::commands::{Commands, Step};
use crate::device::Gpu;
use crate::error::EngineError;
use crate::execute::Prepared;
use crate::memory::Buffer;
use crate::pipelines::Pipeline;
use crate::transfer::{Download, Pending, Upload, is_mappable, missing};

impl Prepared {
    /// Allocates and binds everything that a recording names.
    ///
    /// `resident` supplies the buffers of weights and states, which outlive the recording.
    pub fn new(
        gpu: &Gpu,
        recording: &Recording,
        resident: &dyn Fn(&BufferDesc) -> Option<Buffer>,
    ) -> Result<Self, EngineError> {
        let dispatches = &recording.dispatches;
        let buffers = create_buffers(gpu, recording, resident)?;
        let layout = ParamsLayout::of(dispatches, gpu.caps().uniform_align as usize);
        let params = match layout.image.len() {
            0 => None,
            len => {
                let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                Some(gpu.create_with_usage("params", len as u64, usage)?)
            }
        };
        let pipelines = gpu.pipelines_of(dispatches)?;
        let mut steps = Vec::with_capacity(pipelines.len());
        for ((dispatch, pipeline), &offset) in dispatches.iter().zip(pipelines).zip(&layout.offsets) {
            let bind_group = bind(gpu, dispatch, &pipeline, &buffers, params.as_ref(), offset)?;
            steps.push(Step { pipeline, bind_group, grid: dispatch.grid });
        }
        let download = Download::new(gpu, recording, &buffers)?;
        let is_input = |desc: &BufferDesc| matches!(desc, BufferDesc::Input { .. });
        let descs = recording.buffers.iter().zip(0..);
        let inputs: Vec<BufferId> = descs.filter(|(d, _)| is_input(d)).map(|(_, id)| BufferId(id)).collect();
        let uploaded = inputs.iter().filter_map(|id| buffers[id.index()].clone());
        let upload = Upload::new(params.iter().cloned().chain(uploaded));
        gpu.check()?;
        let device = gpu.device.clone();
        let commands = Commands { device, uploads: upload.copies(), steps, downloads: download.copies() };
        Ok(Self {
            commands: Arc::new(commands),
            ahead: Ahead::new(Worker::of(&gpu.worker)),
            next: None,
            buffers,
            params_dirty: params.is_some(),
            params,
            patched: layout.patched(dispatches),
            params_image: layout.image,
            live_params: layout.live,
            upload,
            inputs,
            download,
            pending: Pending::default(),
            timer: None,
        })
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

/// Parameters of all launches in one buffer.
///
/// Launches with equal ones share them: what each launch reads once a run has long left the device's caches by then, and
/// no launch begins its work before it has read its parameters.
struct ParamsLayout {
    image: Vec<u8>,
    /// Where the parameters of each launch begin, at an aligned offset.
    offsets: Vec<usize>,
    /// Words that are symbolic integers, and which.
    live: Vec<(usize, u32)>,
}

impl ParamsLayout {
    fn of(dispatches: &[Dispatch], align: usize) -> Self {
        let mut layout =
            Self { image: Vec::new(), offsets: Vec::with_capacity(dispatches.len()), live: Vec::new() };
        let mut shared = HashMap::new();
        for dispatch in dispatches {
            let offset = if dispatch.is_patched {
                layout.add(dispatch, align)
            } else {
                let equal = shared.entry((&dispatch.params, &dispatch.live_params));
                *equal.or_insert_with(|| layout.add(dispatch, align))
            };
            layout.offsets.push(offset);
        }
        // A uniform struct ends on a 16-byte boundary.
        layout.image.resize(layout.image.len().next_multiple_of(16), 0);
        layout
    }

    /// Bytes of the image of each launch that may be patched.
    fn patched(&self, dispatches: &[Dispatch]) -> Vec<Option<Range<usize>>> {
        let range = |(dispatch, &start): (&Dispatch, &usize)| start..start + dispatch.params.len() * 4;
        let places = dispatches.iter().zip(&self.offsets);
        places.map(|place| place.0.is_patched.then(|| range(place))).collect()
    }

    fn add(&mut self, dispatch: &Dispatch, align: usize) -> usize {
        if !dispatch.params.is_empty() {
            self.image.resize(self.image.len().next_multiple_of(align.max(16)), 0);
        }
        let offset = self.image.len();
        self.image.extend_from_slice(bytemuck::cast_slice(&dispatch.params));
        self.live
            .extend(dispatch.live_params.iter().map(|live| (offset + live.word as usize * 4, live.value)));
        offset
    }
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
            resource: range(&params.raw, params_offset as u64, size),
        });
    }
    for (binding, number) in dispatch.bindings.iter().zip(1..) {
        let buffer = buffers[binding.buffer.index()].as_ref().ok_or_else(|| missing(binding.buffer))?;
        let end = binding.offset + binding.size;
        if end > buffer.size() {
            let (label, have) = (dispatch.shader.label, buffer.size());
            let message = format!("{label} binds {end} bytes as binding {number}, its buffer has {have}");
            return Err(EngineError::Validation(message));
        }
        entries.push(wgpu::BindGroupEntry {
            binding: number,
            resource: range(&buffer.raw, buffer.offset + binding.offset, binding.size),
        });
    }
    let desc = wgpu::BindGroupDescriptor {
        label: Some(dispatch.shader.label),
        layout: &pipeline.layout,
        entries: &entries,
    };
    Ok(gpu.device.create_bind_group(&desc))
}
