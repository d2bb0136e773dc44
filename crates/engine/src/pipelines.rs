//! Pipelines: compiled once per module and binding layout, in parallel, shared by all delegates.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use etwgpu_record::{Access, Dispatch};

use crate::device::Gpu;
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

/// Every pipeline of a device.
pub(crate) struct Pipelines {
    checked: bool,
    ready: Mutex<HashMap<Key, Arc<Pipeline>>>,
}

impl Pipelines {
    pub(crate) fn new(checked: bool) -> Self {
        Self { checked, ready: Mutex::default() }
    }

    fn get(&self, key: &Key) -> Option<Arc<Pipeline>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

impl Gpu {
    /// Pipelines that were compiled on this device so far, for all delegates.
    pub fn pipeline_count(&self) -> usize {
        self.pipelines.ready.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Pipelines of these launches, in order; compiles those that are missing on all cores, without holding a lock.
    pub(crate) fn pipelines_of(&self, dispatches: &[Dispatch]) -> Result<Vec<Arc<Pipeline>>, EngineError> {
        let keys: Vec<Key> = dispatches.iter().map(Key::of).collect();
        let mut missing: Vec<(&Key, &'static str)> = Vec::new();
        for (key, dispatch) in keys.iter().zip(dispatches) {
            if self.pipelines.get(key).is_none() && !missing.iter().any(|(k, _)| *k == key) {
                missing.push((key, dispatch.shader.label));
            }
        }
        self.compile_all(&missing)?;
        keys.iter()
            .map(|key| {
                self.pipelines.get(key).ok_or_else(|| EngineError::Validation("pipeline vanished".into()))
            })
            .collect()
    }

    fn compile_all(&self, missing: &[(&Key, &'static str)]) -> Result<(), EngineError> {
        let workers = thread::available_parallelism().map_or(1, |n| n.get()).min(missing.len());
        if workers == 0 {
            return Ok(());
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<(), EngineError> {
            while let Some((key, label)) =
                missing.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                let pipeline = Arc::new(self.compile(key, label)?);
                self.pipelines
                    .ready
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert((*key).clone(), pipeline);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            handles
                .into_iter()
                .map(|h| {
                    h.join()
                        .unwrap_or_else(|_| Err(EngineError::Validation("shader compiler panicked".into())))
                })
                .collect::<Result<Vec<()>, _>>()
        })?;
        Ok(())
    }

    fn compile(&self, key: &Key, label: &'static str) -> Result<Pipeline, EngineError> {
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
            cache: None,
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
