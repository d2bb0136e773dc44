//! Every shader that planning asks for, on every kind of device: it validates with what the device offers, and its
//! bindings, parameters and workgroups are those that the plan says.

use std::collections::HashSet;

use etwgpu_kernels::{LowerOptions, cases};
use etwgpu_record::{Access, BufferDesc, Caps, Dispatch, Subgroups};
use etwgpu_testkit::{choices, lower};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Module, StorageAccess};

fn capabilities(caps: &Caps) -> Capabilities {
    // Conversions to and from packed halves are part of every device's shaders, arithmetic on halves is not.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, caps.f16);
    capabilities.set(Capabilities::SUBGROUP, caps.subgroups.is_some());
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, caps.coop_matrix);
    capabilities.set(Capabilities::MEMORY_DECORATION_COHERENT, caps.coherent);
    capabilities
}

fn parse(source: &str, caps: &Caps) -> Result<(Module, ModuleInfo), String> {
    let capabilities = capabilities(caps);
    let options = naga::front::wgsl::Options { capabilities, ..naga::front::wgsl::Options::new() };
    let module = naga::front::wgsl::Frontend::new_with_options(options)
        .parse(source)
        .map_err(|e| e.emit_to_string(source))?;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

fn storage(module: &Module) -> Vec<(u32, Access)> {
    let bound = |global: &GlobalVariable| match (global.space, global.binding) {
        (AddressSpace::Storage { access }, Some(at)) => {
            let writes = access.contains(StorageAccess::STORE);
            Some((at.binding, if writes { Access::ReadWrite } else { Access::Read }))
        }
        _ => None,
    };
    let mut found: Vec<_> = module.global_variables.iter().filter_map(|(_, global)| bound(global)).collect();
    found.sort_by_key(|(binding, _)| *binding);
    found
}

/// Bytes of all variables in an address space; none when there is no such variable.
fn size_of(module: &Module, space: AddressSpace) -> Result<Option<u32>, String> {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let globals = module.global_variables.iter().filter(|(_, global)| global.space == space);
    let sizes: Vec<u32> = globals.map(|(_, global)| layouter[global.ty].size.next_multiple_of(16)).collect();
    Ok(if sizes.is_empty() { None } else { Some(sizes.iter().sum()) })
}

fn check(dispatch: &Dispatch, caps: &Caps) -> Result<(), String> {
    let (module, _) = parse(&dispatch.shader.source, caps)?;
    let planned: Vec<(u32, Access)> = (1..).zip(dispatch.bindings.iter().map(|b| b.access)).collect();
    let declared = storage(&module);
    if declared != planned {
        return Err(format!("declares {declared:?}, the plan binds {planned:?}"));
    }
    if planned.len() > caps.max_storage_buffers as usize {
        return Err(format!("{} storage buffers", planned.len()));
    }
    let words = (dispatch.params.len() as u32 * 4).next_multiple_of(16);
    let params = size_of(&module, AddressSpace::Uniform)?;
    if params.unwrap_or(0) != words {
        return Err(format!("parameters of {params:?} bytes, the plan passes {words}"));
    }
    let shared = size_of(&module, AddressSpace::WorkGroup)?.unwrap_or(0);
    if shared > caps.max_workgroup_memory {
        return Err(format!("{shared} bytes of workgroup memory"));
    }
    let [entry] = &module.entry_points[..] else { return Err("not one entry point".into()) };
    let invocations: u32 = entry.workgroup_size.iter().product();
    if entry.name != "main" || invocations > caps.max_invocations || invocations == 0 {
        return Err(format!("entry point {} of {invocations} invocations", entry.name));
    }
    if let Some(groups) = dispatch.grid.iter().find(|&&g| g > caps.max_grid) {
        return Err(format!("{groups} workgroups along one dimension"));
    }
    Ok(())
}

/// One query over a small cache.
#[cfg(feature = "sdpa-fd")]
fn attention(heads: u32, width: u32) -> cases::Case {
    use etwgpu_graph::DType::F32;
    let mut b = cases::Builder::new(format!("{heads} heads of {width}"));
    let q = b.noise(F32, &[1, heads, 1, width]);
    let [keys, values] = [(); 2].map(|()| b.noise(F32, &[1, 1, 300, width]));
    let out = b.result(F32, &[1, heads, 1, width]);
    let none = cases::Arg::None;
    b.node("et_vk.sdpa.default", &[q.into(), keys.into(), values.into(), none.clone(), none], &[out]);
    b.finish(&[out])
}

/// Workgroup memory grows with heads and channels; where it does not suffice, planning must turn elsewhere.
#[test]
#[cfg(feature = "sdpa-fd")]
fn decoding_fits_workgroup_memory_for_every_size_of_heads() {
    let floor = Caps { coherent: true, ..Caps::webgpu_floor() };
    let gpu = Caps { is_cpu: false, ..Caps::lavapipe() };
    let common = [
        floor.clone(),
        Caps { coherent: false, ..floor },
        Caps::lavapipe(),
        gpu,
        Caps::h200(),
        Caps::amd64(),
    ];
    let every = devices();
    let (mut checked, mut refused) = (0, 0);
    for (width, heads) in (4u32..=256).step_by(4).flat_map(|width| (1..=16).map(move |heads| (width, heads)))
    {
        let is_edge = width.is_power_of_two() || (width - 4).is_power_of_two();
        let devices = common.iter().chain(every.iter().filter(|_| is_edge));
        let case = attention(heads, width);
        let live = case.live().unwrap();
        let mut seen = HashSet::new();
        for caps in devices {
            let lowered = lower(&case, &live, caps, &Default::default()).unwrap();
            let splits = |d: &&Dispatch| d.shader.label == "sdpa_split";
            let Some(dispatch) = lowered.recording.dispatches.iter().find(splits) else {
                refused += 1;
                continue;
            };
            if seen.insert((dispatch.shader.source.clone(), caps.max_workgroup_memory)) {
                check(dispatch, caps).unwrap_or_else(|e| panic!("{} on {}: {e}", case.name, caps.name));
                checked += 1;
            }
        }
    }
    println!("{checked} shaders, {refused} refused");
    assert!(checked > 1000 && refused > 100, "{checked} shaders, {refused} refused");
}

/// A gate of 4-bit layers, whose weights have no elements: planning does not look at them.
fn gate(k: u32, n: u32) -> cases::Case {
    use etwgpu_graph::{Constant, ConstantId, ConstantSource, DType::F32, DType::U8, Value};
    let mut b = cases::Builder::new(format!("gate of {n} by {k}"));
    let x = b.noise(F32, &[1, k]);
    let [weight, scales] = [b.result(U8, &[n, k / 2]), b.result(F32, &[k / 32, n])];
    let [first, second, sigmoid, gate, out] = [(); 5].map(|()| b.result(F32, &[1, n]));
    for layer in [first, second] {
        let args = [x.into(), weight.into(), scales.into(), cases::Arg::Int(32), cases::Arg::None];
        b.node("et_vk.linear_q4gsw.default", &args, &[layer]);
    }
    b.node("aten.sigmoid.default", &[first.into()], &[sigmoid]);
    b.node("aten.mul.Tensor", &[first.into(), sigmoid.into()], &[gate]);
    b.node("aten.mul.Tensor", &[gate.into(), second.into()], &[out]);
    let mut case = b.finish(&[out]);
    for (id, number) in [weight, scales].into_iter().zip(0..) {
        let source = ConstantSource::Named(format!("constant {number}"));
        case.graph.constants.push(Constant { source, stored: None });
        if let Value::Tensor(tensor) = &mut case.graph.values[id.index()] {
            tensor.constant = Some(ConstantId(number));
        }
    }
    case
}

/// Devices of every width of subgroups, with little and much workgroup memory.
fn devices() -> Vec<Caps> {
    let widths = [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64), (128, 128), (8, 32), (4, 64)];
    let subgroups: Vec<_> =
        widths.iter().map(|&(min, max)| Some(Subgroups { min, max })).chain([None]).collect();
    let mut devices = Vec::new();
    for (subgroups, kib) in subgroups.into_iter().flat_map(|s| [16, 32, 48].map(|kib| (s, kib))) {
        for max_invocations in [256, 1024] {
            let name = format!("subgroups {subgroups:?}, {kib} KiB, {max_invocations} invocations");
            let max_workgroup_memory = kib << 10;
            devices.push(Caps { name, subgroups, max_workgroup_memory, max_invocations, ..Caps::h200() });
        }
    }
    devices
}

/// Staged activations and sums of subgroups grow with the row, with the channels and with smaller subgroups.
#[test]
fn products_fit_workgroup_memory_for_every_length_of_rows() {
    let (mut checked, mut failures) = (HashSet::new(), Vec::new());
    let apart = LowerOptions { avoid: vec!["fuse.swiglu".into()], ..LowerOptions::default() };
    let options = [LowerOptions::default(), apart];
    for k in [32, 96, 1024, 2080, 4096, 8192, 8224, 16384, 28672, 32768] {
        for n in [8, 4096, 16384, 32768, 131_072] {
            let case = gate(k, n);
            let live = case.live().unwrap();
            for (caps, options) in devices().iter().flat_map(|caps| options.iter().map(move |o| (caps, o))) {
                let Ok(lowered) = lower(&case, &live, caps, options) else { continue };
                for dispatch in
                    lowered.recording.dispatches.iter().filter(|d| d.shader.source.contains("TEAM_ROWS"))
                {
                    if checked.insert((dispatch.shader.source.clone(), caps.max_workgroup_memory))
                        && let Err(error) = check(dispatch, caps)
                    {
                        failures.push(format!("{} on {}: {error}", case.name, caps.name));
                    }
                }
            }
        }
    }
    assert!(checked.len() > 500, "only {} shaders", checked.len());
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), checked.len());
}

#[test]
fn shaders_fit_the_devices_they_are_planned_for() {
    let cases = cases::all();
    let (mut failures, mut modules) = (Vec::new(), HashSet::new());
    for caps in Caps::presets() {
        let mut seen = HashSet::new();
        for case in &cases {
            let live = case.live().unwrap_or_else(|e| panic!("{}: {e}", case.name));
            for options in choices() {
                let Ok(lowered) = lower(case, &live, &caps, &options) else { continue };
                for dispatch in &lowered.recording.dispatches {
                    modules.insert(dispatch.shader.source.clone());
                    let written = dispatch.bindings.iter().filter(|b| b.access == Access::ReadWrite);
                    let buffers = written.map(|b| &lowered.recording.buffers[b.buffer.index()]);
                    // Weights share buffers, of which a launch can only read.
                    for desc in buffers.filter(|desc| matches!(desc, BufferDesc::Weight { .. })) {
                        failures.push(format!("{} writes {desc:?} for {}", dispatch.shader.label, case.name));
                    }
                    if !seen.insert((
                        dispatch.shader.source.clone(),
                        dispatch.params.len(),
                        dispatch.bindings.len(),
                    )) {
                        continue;
                    }
                    if let Err(error) = check(dispatch, &caps) {
                        failures.push(format!(
                            "{} on {} for {}: {error}",
                            dispatch.shader.label, caps.name, case.name
                        ));
                    }
                }
            }
        }
    }
    println!("{} modules of {} cases", modules.len(), cases.len());
    assert!(modules.len() > 100, "only {} modules", modules.len());
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(30)].join("\n")
    );
}
