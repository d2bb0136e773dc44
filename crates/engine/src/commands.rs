//! What a run has the device do, and its encoding.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ahead::Encode;
use crate::pipelines::Pipeline;
use crate::profile::Timer;
use crate::trace::{Timing, Window};

/// Copies in, launches, copies out. Any thread may encode them.
#[derive(Clone)]
pub(crate) struct Commands {
    pub(crate) device: wgpu::Device,
    pub(crate) uploads: Vec<Copy>,
    pub(crate) steps: Vec<Step>,
    pub(crate) downloads: Vec<Copy>,
}

/// Bytes that go from one buffer to another.
#[derive(Clone)]
pub(crate) struct Copy {
    pub(crate) source: wgpu::Buffer,
    pub(crate) source_offset: u64,
    pub(crate) target: wgpu::Buffer,
    pub(crate) target_offset: u64,
    pub(crate) size: u64,
}

/// A launch.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) bind_group: wgpu::BindGroup,
    pub(crate) grid: [u32; 3],
}

/// Commands of one run, as the device takes them, once.
pub(crate) struct Encoded {
    pub(crate) commands: wgpu::CommandBuffer,
    pub(crate) dispatches: usize,
    pub(crate) passes: usize,
    /// Time that the encoding took.
    pub(crate) took: Duration,
}

impl Copy {
    fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let Self { source, source_offset, target, target_offset, size } = self;
        encoder.copy_buffer_to_buffer(source, *source_offset, target, *target_offset, *size);
    }
}

impl Step {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], self.grid[2]);
    }
}

impl Commands {
    /// Launches that do something, with their positions.
    fn active(&self) -> impl Iterator<Item = (usize, &Step)> {
        self.steps.iter().enumerate().filter(|(_, step)| !step.grid.contains(&0))
    }

    /// What the passes of a timed run hold.
    pub(crate) fn windows(&self, timing: Timing) -> Vec<Window> {
        if timing == Timing::Off {
            return Vec::new(); // without a look at every launch, in front of each submission
        }
        timing.windows(self.active().map(|(position, _)| position))
    }

    /// Every launch in one pass, or each window of them in a pass of its own.
    pub(crate) fn encode_timed(&self, timed: Option<(&Timer, &[Window])>) -> Encoded {
        let started = Instant::now();
        let desc = wgpu::CommandEncoderDescriptor { label: None };
        let mut encoder = self.device.create_command_encoder(&desc);
        self.uploads.iter().for_each(|copy| copy.encode(&mut encoder));
        let passes = match timed {
            Some((timer, windows)) => {
                let mut steps = self.active();
                let mut writes = (0..).map(|pass| timer.writes(pass));
                for window in windows {
                    let timestamp_writes = if window.timed { writes.next() } else { None };
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
        self.downloads.iter().for_each(|copy| copy.encode(&mut encoder));
        if let Some((timer, _)) = timed {
            timer.resolve(&mut encoder);
        }
        let dispatches = self.active().count();
        Encoded { commands: encoder.finish(), dispatches, passes, took: started.elapsed() }
    }
}

impl Encode for Commands {
    type Output = Encoded;

    fn encode(&self) -> Encoded {
        self.encode_timed(None)
    }
}
