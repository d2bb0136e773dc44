//! Pipelines: compiled once per module and binding layout, in parallel, shared by all delegates.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use etwgpu_record::{Access, Dispatch};

use crate::device::Gpu;
use crate::disk_cache::DiskCache;
use crate::error::EngineError;

/// A compiled kernel and the layout of its bindings.
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    source: Arc<str>,
    accesses: Vec<Access>,
    has_params: bool,
}

impl Key {
    fn of(dispatch: &Dispatch) -> Self {
        Self {
            source: dispatch.shader.source.clone(),
            accesses: dispatch.bindings.iter().map(|b| b.access).collect(),
            has_params: !dispatch.params.is_empty(),
        }
    }
}

/// Threads that compile at once, at most: each takes memory of the driver's, and NVIDIA's is not faster with more.
const COMPILERS: usize = 4;

/// A pipeline that some thread compiles or has compiled.
type Slot = Arc<OnceLock<Result<Arc<Pipeline>, EngineError>>>;

/// Every pipeline of a device.
pub(crate) struct Pipelines {
    checked: bool,
    slots: Mutex<HashMap<Key, Slot>>,
    disk: Mutex<Option<Arc<DiskCache>>>,
}

impl Pipelines {
    pub(crate) fn new(checked: bool) -> Self {
        Self { checked, slots: Mutex::default(), disk: Mutex::default() }
    }

    fn slot(&self, key: &Key) -> Slot {
        lock(&self.slots).entry(key.clone()).or_default().clone()
    }

    /// Lets a later caller try again.
    fn forget(&self, key: &Key) {
        lock(&self.slots).remove(key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Pipelines that were compiled on this device so far, for all delegates.
    pub fn pipeline_count(&self) -> usize {
        let slots = lock(&self.pipelines.slots);
        slots.values().filter(|slot| matches!(slot.get(), Some(Ok(_)))).count()
    }

    /// Keeps compiled pipelines in a folder as well, from the next compilation on.
    pub fn keep_pipelines_in(&self, folder: &Path) {
        let mut disk = lock(&self.pipelines.disk);
        if !disk.as_ref().is_some_and(|cache| cache.is_in(folder)) {
            *disk = DiskCache::open(&self.device, folder).map(Arc::new);
        }
    }

    /// Returns when pipelines that were compiled so far are on disk, if they are to be kept there.
    pub fn finish_keeping_pipelines(&self) {
        let disk = lock(&self.pipelines.disk).clone();
        if let Some(cache) = disk {
            cache.finish();
        }
    }

    /// Compiles the pipelines of launches that will be prepared later.
    pub fn compile<'a>(&self, dispatches: impl IntoIterator<Item = &'a Dispatch>) -> Result<(), EngineError> {
        self.pipelines_of(dispatches).map(|_| ())
    }

    /// Pipelines of these launches, in order; compiles those that are missing on all cores, without holding a lock.
    pub(crate) fn pipelines_of<'a>(
        &self,
        dispatches: impl IntoIterator<Item = &'a Dispatch>,
    ) -> Result<Vec<Arc<Pipeline>>, EngineError> {
        let wanted: Vec<(Key, Slot, &'static str)> = dispatches
            .into_iter()
            .map(|dispatch| {
                let key = Key::of(dispatch);
                let slot = self.pipelines.slot(&key);
                (key, slot, dispatch.shader.label)
            })
            .collect();
        let mut seen = HashSet::new();
        let is_missing = |(_, slot, _): &&(Key, Slot, &'static str)| {
            slot.get().is_none() && seen.insert(Arc::as_ptr(slot))
        };
        let mut missing: Vec<_> = wanted.iter().filter(is_missing).collect();
        // Long shaders take long as a rule, and no thread should begin one when the others are done.
        missing.sort_by_key(|(key, ..)| Reverse(key.source.len()));
        self.compile_all(&missing);
        wanted
            .iter()
            .map(|(key, slot, label)| match slot.get() {
                Some(Ok(pipeline)) => Ok(pipeline.clone()),
                Some(Err(error)) => {
                    self.pipelines.forget(key);
                    Err(error.clone())
                }
                None => Err(EngineError::Validation(format!("shader {label}: the compiler panicked"))),
            })
            .collect()
    }

    /// Fills slots. Two callers may want the same one: the second waits for the first.
    fn compile_all(&self, missing: &[&(Key, Slot, &'static str)]) {
        let workers =
            thread::available_parallelism().map_or(1, |n| n.get()).min(COMPILERS).min(missing.len());
        if workers == 0 {
            return;
        }
        let disk = lock(&self.pipelines.disk).clone();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((key, slot, label)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                slot.get_or_init(|| self.compile_one(key, label, disk.as_deref()).map(Arc::new));
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            // A thread that panicked leaves its slot empty, which the caller reports.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        if let Some(cache) = &disk {
            cache.save();
        }
    }

    fn compile_one(
        &self,
        key: &Key,
        label: &'static str,
        disk: Option<&DiskCache>,
    ) -> Result<Pipeline, EngineError> {
        let started = Instant::now();
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let desc = wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl(key.source.as_ref().into()),
        };
        let module = if self.pipelines.checked {
            self.device.create_shader_module(desc)
        } else {
            // SAFETY: all shaders are our own; their loops are bounded by sizes that planning checked, and their
            // indices stay within bindings, which the lane with checked shaders and the reference tests confirm.
            unsafe { self.device.create_shader_module_trusted(desc, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(label),
            entries: &layout_entries(key),
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: disk.map(|disk| &disk.cache),
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(EngineError::Validation(format!("shader {label}: {error}")));
        }
        log::debug!("compiled {label} in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        Ok(Pipeline { pipeline, layout })
    }
}

fn layout_entries(key: &Key) -> Vec<wgpu::BindGroupLayoutEntry> {
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let params = key.has_params.then(|| entry(0, wgpu::BufferBindingType::Uniform));
    let storage = key.accesses.iter().zip(1..).map(|(access, binding)| {
        entry(binding, wgpu::BufferBindingType::Storage { read_only: *access == Access::Read })
    });
    params.into_iter().chain(storage).collect()
}
