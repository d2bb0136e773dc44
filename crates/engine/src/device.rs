//! Adapters and devices.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use etwgpu_record::{Caps, Precision, Subgroups};

use crate::ahead::Worker;
use crate::commands::Commands;
use crate::error::EngineError;
use crate::pipelines::Pipelines;

/// Bytes of the blocks of memory that small buffers lie in, from the first to the largest. Those in the host's memory are
/// half as large; the first one, where outputs are read back, is there in every process.
const BLOCKS: Range<u64> = 16 << 20..256 << 20;

/// Which adapter to open, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterChoice {
    /// Part of the adapter's name, in any case; without it the best GPU that is no CPU.
    pub name: Option<String>,
    /// Compile shaders with wgpu's bounds checks and loop bounds.
    pub checked_shaders: bool,
    /// Open the device as on an adapter without timestamps; for tests.
    pub without_timestamps: bool,
}

/// What is known of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// Marketing name.
    pub name: String,
    /// Driver name and version.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu`, ….
    pub kind: String,
}

/// A device, its queue and its pipelines; shared by all delegates of the process.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Pipelines,
    /// The thread that encodes, as long as some prepared recording uses it.
    pub(crate) worker: Mutex<Weak<Worker<Commands>>>,
    caps: Caps,
    info: AdapterInfo,
    state: Arc<DeviceState>,
}

/// What asynchronous callbacks report.
#[derive(Default)]
struct DeviceState {
    lost: AtomicBool,
    lost_reason: Mutex<String>,
    error: Mutex<Option<EngineError>>,
}

/// Every adapter of this machine.
pub fn adapters() -> Vec<AdapterInfo> {
    let instance = instance();
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all())).iter().map(describe).collect()
}

/// Validation and debug flags stay off: they cost, and we check limits ourselves.
fn instance() -> wgpu::Instance {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(desc)
}

fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let info = adapter.get_info();
    AdapterInfo {
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        backend: format!("{:?}", info.backend).to_lowercase(),
        kind: format!("{:?}", info.device_type),
    }
}

/// Discrete before integrated before anything else; a CPU only when asked for by name.
fn rank(adapter: &wgpu::Adapter) -> Option<u32> {
    match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => Some(0),
        wgpu::DeviceType::IntegratedGpu => Some(1),
        wgpu::DeviceType::VirtualGpu => Some(2),
        wgpu::DeviceType::Other => Some(3),
        wgpu::DeviceType::Cpu => None,
    }
}

fn select(choice: &AdapterChoice) -> Result<wgpu::Adapter, EngineError> {
    let adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
    let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
    let chosen = match &choice.name {
        Some(name) => {
            let name = name.to_lowercase();
            adapters.into_iter().find(|a| a.get_info().name.to_lowercase().contains(&name))
        }
        None => adapters.into_iter().filter(|a| rank(a).is_some()).min_by_key(rank),
    };
    chosen.ok_or_else(|| {
        let asked =
            choice.name.as_deref().unwrap_or("a GPU that is no CPU (name one with ETWGPU_ADAPTER to use it)");
        EngineError::NoAdapter(format!("wanted {asked}, found [{}]", names.join(", ")))
    })
}

impl Gpu {
    /// Opens a device with everything the adapter offers.
    pub fn open(choice: &AdapterChoice) -> Result<Arc<Self>, EngineError> {
        let adapter = select(choice)?;
        let info = describe(&adapter);
        let mut caps = caps(&adapter);
        caps.timestamps &= !choice.without_timestamps;
        let features = wanted_features(&caps) & adapter.features();
        let desc = wgpu::DeviceDescriptor {
            label: Some("etwgpu"),
            required_features: features,
            required_limits: adapter.limits(),
            experimental_features: if caps.coop_matrix {
                // SAFETY: cooperative matrices are the only experimental feature requested; shaders use them only
                // in the configurations that the adapter reports.
                unsafe { wgpu::ExperimentalFeatures::enabled() }
            } else {
                wgpu::ExperimentalFeatures::disabled()
            },
            memory_hints: wgpu::MemoryHints::Manual { suballocated_device_memory_block_size: BLOCKS },
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&desc))
            .map_err(|e| EngineError::NoDevice { adapter: info.name.clone(), message: e.to_string() })?;
        let state = Arc::new(DeviceState::default());
        watch(&device, &state);
        let pipelines = Pipelines::new(choice.checked_shaders);
        Ok(Arc::new(Self { device, queue, pipelines, worker: Mutex::default(), caps, info, state }))
    }

    /// What planning may know of this device.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Name, driver, kind.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// Whether the device is gone for good.
    pub fn is_lost(&self) -> bool {
        self.state.lost.load(Ordering::Acquire)
    }

    /// The first error since the last call, if any.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.is_lost() {
            return Err(EngineError::Lost(lock(&self.state.lost_reason).clone()));
        }
        lock(&self.state.error).take().map_or(Ok(()), Err)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Records what the driver reports outside of calls, instead of wgpu's default panic.
fn watch(device: &wgpu::Device, state: &Arc<DeviceState>) {
    let on_error = state.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        log::error!("{error}");
        lock(&on_error.error).get_or_insert(error.into());
    }));
    let on_lost = state.clone();
    device.set_device_lost_callback(move |reason, message| {
        if reason != wgpu::DeviceLostReason::Destroyed {
            log::error!("device lost: {message}");
        }
        *lock(&on_lost.lost_reason) = message;
        on_lost.lost.store(true, Ordering::Release);
    });
}

fn wanted_features(caps: &Caps) -> wgpu::Features {
    let mut features = wgpu::Features::SUBGROUP
        | wgpu::Features::SHADER_F16
        | wgpu::Features::MEMORY_DECORATION_COHERENT
        | wgpu::Features::MAPPABLE_PRIMARY_BUFFERS
        | wgpu::Features::PIPELINE_CACHE;
    if caps.timestamps {
        features |= wgpu::Features::TIMESTAMP_QUERY;
    }
    if caps.coop_matrix {
        features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    }
    features
}

fn caps(adapter: &wgpu::Adapter) -> Caps {
    let (features, limits, info) = (adapter.features(), adapter.limits(), adapter.get_info());
    let has_coop_16 = adapter.cooperative_matrix_properties().iter().any(|p| {
        (p.m_size, p.n_size, p.k_size) == (16, 16, 16)
            && p.ab_type == wgpu::CooperativeScalarType::F16
            && p.cr_type == wgpu::CooperativeScalarType::F32
    });
    Caps {
        name: info.name,
        subgroups: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some(Subgroups { min: info.subgroup_min_size, max: info.subgroup_max_size })
            .filter(|s| s.min >= wgpu::MINIMUM_SUBGROUP_MIN_SIZE),
        f16: features.contains(wgpu::Features::SHADER_F16),
        coop_matrix: has_coop_16 && features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        // Shading languages of these have them; elsewhere they are made of many instructions.
        packed_dot: matches!(info.backend, wgpu::Backend::Vulkan | wgpu::Backend::Dx12),
        coherent: features.contains(wgpu::Features::MEMORY_DECORATION_COHERENT),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_grid: limits.max_compute_workgroups_per_dimension,
        uniform_align: limits.min_uniform_buffer_offset_alignment,
        storage_align: limits.min_storage_buffer_offset_alignment,
        precision: Precision::default(),
        is_cpu: info.device_type == wgpu::DeviceType::Cpu,
    }
}
