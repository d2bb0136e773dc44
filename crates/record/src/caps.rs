//! What planning may know of a GPU.

/// Range of subgroup widths that a shader may meet on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subgroups {
    /// Smallest width, in invocations; four at least.
    pub min: u32,
    /// Largest width, in invocations.
    pub max: u32,
}

/// How far results may be rounded for the sake of speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Everything in `f32`.
    Strict,
    /// Operands of large matrix products in `f16`, sums in `f32`.
    #[default]
    Default,
    /// Probabilities and values of attention in `f16`, too, and activations of up to 8 rows in 16 bits, relative to the
    /// largest of 32 channels, where they become integers.
    Fast,
}

/// Features and limits of a device, as far as route predicates need them.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// Name of the adapter, or of the preset.
    pub name: String,
    /// Subgroup arithmetic in compute shaders, and its width.
    pub subgroups: Option<Subgroups>,
    /// `f16` arithmetic and storage in shaders.
    pub f16: bool,
    /// 16×16×16 cooperative matrices with `f16` operands and `f32` accumulators.
    pub coop_matrix: bool,
    /// Dot products of four bytes as instructions.
    pub packed_dot: bool,
    /// Workgroups of one launch can see what others have written.
    pub coherent: bool,
    /// Timestamps at pass boundaries.
    pub timestamps: bool,
    /// Largest storage binding, bytes.
    pub max_binding: u64,
    /// Largest buffer, bytes.
    pub max_buffer: u64,
    /// Storage buffers that one shader may bind.
    pub max_storage_buffers: u32,
    /// Workgroup memory of one workgroup, bytes.
    pub max_workgroup_memory: u32,
    /// Invocations of one workgroup.
    pub max_invocations: u32,
    /// Workgroups along one grid dimension.
    pub max_grid: u32,
    /// Alignment of uniform binding offsets, bytes.
    pub uniform_align: u32,
    /// Alignment of storage binding offsets, bytes.
    pub storage_align: u32,
    /// How far results may be rounded; the caller's choice, kept here because routes read it beside the features.
    pub precision: Precision,
    /// Whether the device executes shaders on the CPU; few large workgroups beat many small ones there.
    pub is_cpu: bool,
}

impl Caps {
    /// The limits that every WebGPU implementation grants, and no optional feature.
    pub fn webgpu_floor() -> Self {
        Self {
            name: "webgpu-floor".into(),
            subgroups: None,
            f16: false,
            coop_matrix: false,
            packed_dot: false,
            coherent: false,
            timestamps: false,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_storage_buffers: 8,
            max_workgroup_memory: 16 << 10,
            max_invocations: 256,
            max_grid: 65535,
            uniform_align: 256,
            storage_align: 256,
            precision: Precision::Default,
            is_cpu: false,
        }
    }

    /// Mesa lavapipe: a CPU with subgroups of eight.
    pub fn lavapipe() -> Self {
        Self {
            name: "lavapipe".into(),
            subgroups: Some(Subgroups { min: 8, max: 8 }),
            f16: true,
            packed_dot: true,
            coherent: true,
            timestamps: true,
            max_buffer: 2 << 30,
            max_storage_buffers: 32,
            max_workgroup_memory: 32 << 10,
            max_invocations: 1024,
            uniform_align: 16,
            storage_align: 16,
            is_cpu: true,
            ..Self::webgpu_floor()
        }
    }

    /// NVIDIA H200 through Vulkan.
    pub fn h200() -> Self {
        Self {
            name: "h200".into(),
            subgroups: Some(Subgroups { min: 32, max: 32 }),
            f16: true,
            coop_matrix: true,
            packed_dot: true,
            coherent: true,
            timestamps: true,
            max_binding: (2 << 30) - 4,
            max_buffer: 4 << 30,
            max_storage_buffers: 1 << 20,
            max_workgroup_memory: 48 << 10,
            max_invocations: 1024,
            uniform_align: 64,
            storage_align: 16,
            ..Self::webgpu_floor()
        }
    }

    /// An Apple-like GPU: 32-wide subgroups, `f16`, 32 KiB of workgroup memory.
    pub fn apple() -> Self {
        Self {
            name: "apple".into(),
            coop_matrix: false,
            packed_dot: false,
            coherent: false,
            max_workgroup_memory: 32 << 10,
            max_storage_buffers: 31,
            storage_align: 32,
            ..Self::h200()
        }
    }

    /// An AMD-like GPU: 64-wide subgroups.
    pub fn amd64() -> Self {
        let subgroups = Some(Subgroups { min: 64, max: 64 });
        Self { name: "amd64".into(), subgroups, packed_dot: true, coherent: true, ..Self::apple() }
    }

    /// An Intel-like GPU, whose subgroups vary between 8 and 32.
    pub fn intel() -> Self {
        let subgroups = Some(Subgroups { min: 8, max: 32 });
        Self { name: "intel".into(), subgroups, packed_dot: true, coherent: true, ..Self::apple() }
    }

    /// Every preset; planning tests walk them.
    pub fn presets() -> Vec<Self> {
        vec![
            Self::webgpu_floor(),
            Self::lavapipe(),
            Self::h200(),
            Self::apple(),
            Self::amd64(),
            Self::intel(),
        ]
    }
}
