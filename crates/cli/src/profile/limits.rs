//! What a device can do: the lines of a roofline, from the command line or from three short kernels.

use anyhow::Result;
use clap::Args;
use etwgpu_engine::{Gpu, Prepared, Timing, Trace};
use etwgpu_record::{Access, Binding, BufferDesc, Dispatch, Recording, Shader};
use serde::{Deserialize, Serialize};

/// What a device can do at best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Reading of memory, in GB/s.
    pub gb_per_s: f64,
    /// `f32` arithmetic, in TFLOP/s.
    pub tflop_per_s: f64,
    /// Cooperative matrices, in TFLOP/s.
    pub matrix_tflop_per_s: Option<f64>,
}

/// Limits that the caller knows.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Given {
    /// What the device can read, in GB/s; measured without.
    #[arg(long, value_name = "GB/S")]
    pub bandwidth: Option<f64>,
    /// What the device can compute in f32, in TFLOP/s; measured without.
    #[arg(long, value_name = "TFLOP/S")]
    pub flops: Option<f64>,
    /// What its cooperative matrices can compute, in TFLOP/s; measured without, where there are any.
    #[arg(long, value_name = "TFLOP/S")]
    pub matrix_flops: Option<f64>,
}

impl Limits {
    /// The given limits, measuring those that are not given.
    pub fn of(gpu: &Gpu, given: &Given) -> Result<Self> {
        let Given { bandwidth, flops, matrix_flops: matrix } = *given;
        let matrix = match matrix {
            None if gpu.caps().coop_matrix => measured_matrices(gpu),
            given => given,
        };
        Ok(Self {
            gb_per_s: bandwidth.map_or_else(|| best_rate(gpu, &reading(gpu)), Ok)?,
            tflop_per_s: flops.map_or_else(|| Ok(best_rate(gpu, &multiplying(gpu))? / 1e3), anyhow::Ok)?,
            matrix_tflop_per_s: matrix,
        })
    }

    /// Least time for some work, in microseconds.
    pub fn least_us(&self, bytes: u64, operations: u64, matrix: bool) -> f64 {
        let flops = if matrix { self.matrix_tflop_per_s } else { None }.unwrap_or(self.tflop_per_s);
        (bytes as f64 / self.gb_per_s / 1e3).max(operations as f64 / flops / 1e6)
    }
}

/// A kernel that does one thing as fast as it can, and how much of it.
struct Probe {
    recording: Recording,
    work: f64,
}

/// Work per nanosecond at best.
fn best_rate(gpu: &Gpu, probe: &Probe) -> Result<f64> {
    let mut prepared = Prepared::new(gpu, &probe.recording, &|_| None)?;
    let mut best = 0f64;
    for _ in 0..6 {
        let mut trace = Trace::new(Timing::Pass, true);
        prepared.run(gpu, &[], &mut |_, _| Ok(()), &mut trace)?;
        let waited: f64 = trace.phases.iter().map(|p| (p.end - p.start).as_nanos() as f64).sum();
        let time = trace.spans.first().map_or(waited, |span| span.duration());
        best = best.max(probe.work / time.max(1.0));
    }
    Ok(best)
}

fn probe(source: &str, inputs: &[u64], output: u64, params: Vec<u32>, groups: u32, work: f64) -> Probe {
    let mut recording = Recording::default();
    let mut bind = |size, access| Binding {
        buffer: recording.add_buffer(BufferDesc::Temp { size }),
        offset: 0,
        size,
        touched: size,
        access,
    };
    let mut bindings: Vec<Binding> = inputs.iter().map(|&size| bind(size, Access::Read)).collect();
    bindings.push(bind(output, Access::ReadWrite));
    recording.dispatches.push(Dispatch {
        shader: Shader { label: "probe", source: source.into() },
        bindings,
        params,
        grid: [groups, 1, 1],
        ..Dispatch::default()
    });
    Probe { recording, work }
}

/// Workgroups of 256 that keep a device busy.
fn groups(gpu: &Gpu) -> u32 {
    if gpu.caps().is_cpu { 64 } else { 4096 }
}

/// Sums a buffer that no cache holds.
fn reading(gpu: &Gpu) -> Probe {
    let threads = groups(gpu) * 256;
    let wanted: u64 = if gpu.caps().is_cpu { 64 << 20 } else { 1 << 30 };
    let bytes = wanted.min(gpu.caps().max_binding / 16 * 16);
    let source = "
        struct Params { count: u32, threads: u32 }
        @group(0) @binding(0) var<uniform> p: Params;
        @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
        @group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
        @compute @workgroup_size(256)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            var sum = vec4<f32>();
            for (var i = id.x; i < p.count; i += p.threads) { sum += x[i]; }
            out[id.x] = sum;
        }";
    let params = vec![(bytes / 16) as u32, threads];
    probe(source, &[bytes], u64::from(threads) * 16, params, groups(gpu), bytes as f64)
}

/// Multiplies and adds in registers, in eight chains that do not wait for each other.
fn multiplying(gpu: &Gpu) -> Probe {
    const ROUNDS: u32 = 256;
    let threads = groups(gpu) * 256;
    let source = "
        struct Params { rounds: u32, factor: f32 }
        @group(0) @binding(0) var<uniform> p: Params;
        @group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
        @compute @workgroup_size(256)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let x = vec4<f32>(p.factor);
            var a = vec4<f32>(f32(id.x));
            var b = a + 1.0; var c = a + 2.0; var d = a + 3.0;
            var e = a + 4.0; var f = a + 5.0; var g = a + 6.0; var h = a + 7.0;
            for (var i = 0u; i < p.rounds; i++) {
                a = fma(a, x, x); b = fma(b, x, x); c = fma(c, x, x); d = fma(d, x, x);
                e = fma(e, x, x); f = fma(f, x, x); g = fma(g, x, x); h = fma(h, x, x);
            }
            out[id.x] = (a + b) + (c + d) + ((e + f) + (g + h));
        }";
    let work = f64::from(threads) * f64::from(ROUNDS) * 8.0 * 4.0 * 2.0;
    let params = vec![ROUNDS, 0.5f32.to_bits()];
    probe(source, &[], u64::from(threads) * 16, params, groups(gpu), work)
}

/// TFLOP/s of cooperative matrices; none, with a word about it, where the device does not take the kernel.
fn measured_matrices(gpu: &Gpu) -> Option<f64> {
    let rate = best_rate(gpu, &matrices(gpu));
    rate.inspect_err(|error| log::warn!("cooperative matrices are not measured: {error:#}"))
        .ok()
        .map(|rate| rate / 1e3)
}

/// Of `matrices`, which only some devices can run.
const MATRICES: &str = "
    enable f16;
    enable wgpu_cooperative_matrix;
    struct Params { rounds: u32, none: u32 }
    @group(0) @binding(0) var<uniform> p: Params;
    @group(0) @binding(1) var<storage, read_write> out: array<f32>;
    var<workgroup> halves: array<f16, 256>;
    var<workgroup> sums: array<f32, 1024>;
    @compute @workgroup_size(128)
    fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
        halves[lid] = f16(0.01); halves[lid + 128u] = f16(0.01);
        workgroupBarrier();
        let x = coopLoadT<coop_mat16x16<f16, A>>(&halves[0], 16u);
        let y = coopLoad<coop_mat16x16<f16, B>>(&halves[0], 16u);
        var a = coop_mat16x16<f32, C>(); var b = coop_mat16x16<f32, C>();
        var c = coop_mat16x16<f32, C>(); var d = coop_mat16x16<f32, C>();
        var e = coop_mat16x16<f32, C>(); var f = coop_mat16x16<f32, C>();
        var g = coop_mat16x16<f32, C>(); var h = coop_mat16x16<f32, C>();
        for (var i = 0u; i < p.rounds; i++) {
            a = coopMultiplyAdd(x, y, a); b = coopMultiplyAdd(x, y, b);
            c = coopMultiplyAdd(x, y, c); d = coopMultiplyAdd(x, y, d);
            e = coopMultiplyAdd(x, y, e); f = coopMultiplyAdd(x, y, f);
            g = coopMultiplyAdd(x, y, g); h = coopMultiplyAdd(x, y, h);
        }
        // Every chain ends in memory, so that none can be left out.
        let at = lid / 32u * 256u;
        coopStoreT(a, &sums[at], 16u); workgroupBarrier();
        var sum = sums[at + lid % 32u]; workgroupBarrier();
        coopStoreT(b, &sums[at], 16u); workgroupBarrier();
        sum += sums[at + lid % 32u]; workgroupBarrier();
        coopStoreT(c, &sums[at], 16u); workgroupBarrier();
        sum += sums[at + lid % 32u]; workgroupBarrier();
        coopStoreT(d, &sums[at], 16u); workgroupBarrier();
        sum += sums[at + lid % 32u]; workgroupBarrier();
        coopStoreT(e, &sums[at], 16u); workgroupBarrier();
        sum += sums[at + lid % 32u]; workgroupBarrier();
        coopStoreT(f, &sums[at], 16u); workgroupBarrier();
        sum += sums[at + lid % 32u]; workgroupBarrier();
        coopStoreT(g, &sums[at], 16u); workgroupBarrier();
        sum += sums[at + lid % 32u]; workgroupBarrier();
        coopStoreT(h, &sums[at], 16u); workgroupBarrier();
        sum += sums[at + lid % 32u];
        out[wid.x * 128u + lid] = sum;
    }";

/// Multiplies 16x16 matrices of halves in registers, each subgroup in eight chains.
fn matrices(gpu: &Gpu) -> Probe {
    const ROUNDS: u32 = 256;
    let subgroups = 128 / gpu.caps().subgroups.map_or(32, |s| s.max.clamp(1, 128));
    let groups = groups(gpu);
    let work = f64::from(groups * subgroups) * f64::from(ROUNDS) * 8.0 * 2.0 * 16f64.powi(3);
    probe(MATRICES, &[], u64::from(groups) * 128 * 4, vec![ROUNDS, 0], groups, work)
}

#[cfg(test)]
mod tests {
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::MATRICES;

    #[test]
    fn the_kernel_that_few_devices_run_is_valid() {
        let capabilities = Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
        let options = naga::front::wgsl::Options { capabilities, ..naga::front::wgsl::Options::new() };
        let module = naga::front::wgsl::Frontend::new_with_options(options)
            .parse(MATRICES)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string(MATRICES)));
        let validated = Validator::new(ValidationFlags::all(), capabilities).validate(&module);
        validated.unwrap_or_else(|error| panic!("{}", error.emit_to_string(MATRICES)));
    }
}
