//! What this machine has to run delegates on.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use etwgpu_engine::{AdapterInfo, adapters};
use etwgpu_record::Caps;
use etwgpu_runtime::{Knobs, gpu};
use serde_json::{Value, json};

/// Prints the adapter that is chosen, what planning uses of it, and the other adapters.
pub(super) fn info(as_json: bool, out: &mut String) -> Result<()> {
    let found = adapters();
    let chosen = gpu(&Knobs::default());
    let described = chosen.as_ref().ok().map(|gpu| (gpu.info(), gpu.caps()));
    if as_json {
        let error = chosen.as_ref().err().map(ToString::to_string);
        let mut value = described.map_or_else(|| json!({ "error": error }), |(info, caps)| json(info, caps));
        value["found"] = found.iter().map(adapter_json).collect();
        let _ = writeln!(out, "{value:#}");
    } else {
        out.push_str(&text(described, &found));
    }
    match chosen {
        Ok(_) => Ok(()),
        Err(error) => bail!("{error}"),
    }
}

fn text(chosen: Option<(&AdapterInfo, &Caps)>, found: &[AdapterInfo]) -> String {
    let mut text = String::new();
    if let Some((info, caps)) = chosen {
        let _ = writeln!(text, "adapter   {}", info.name);
        let _ = writeln!(text, "driver    {}", info.driver);
        let _ = writeln!(text, "backend   {}", info.backend);
        let _ = writeln!(text, "kind      {}", info.kind);
        text.push_str("features\n");
        for (name, value) in features(caps) {
            let _ = writeln!(text, "  {name:<22}{value}");
        }
        text.push_str("limits\n");
        for (name, value, unit) in limits(caps) {
            let _ = writeln!(text, "  {name:<22}{value}{unit}");
        }
    }
    let _ = writeln!(text, "found     {} adapters", found.len());
    for adapter in found {
        let AdapterInfo { name, driver, backend, kind } = adapter;
        let mark = if chosen.is_some_and(|(info, _)| info == adapter) { '*' } else { ' ' };
        let _ = writeln!(text, "{mark} {name} ({backend}, {kind}, {driver})");
    }
    text
}

fn features(caps: &Caps) -> [(&'static str, String); 7] {
    let on = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let subgroups = caps.subgroups.map_or("no".to_owned(), |s| match s.min == s.max {
        true => format!("{} wide", s.min),
        false => format!("{} to {} wide", s.min, s.max),
    });
    [
        ("subgroups", subgroups),
        ("f16", on(caps.f16)),
        ("cooperative matrix", on(caps.coop_matrix)),
        ("dot products of bytes", on(caps.packed_dot)),
        ("coherent memory", on(caps.coherent)),
        ("timestamps", on(caps.timestamps)),
        ("runs on the CPU", on(caps.is_cpu)),
    ]
}

fn limits(caps: &Caps) -> [(&'static str, u64, &'static str); 8] {
    [
        ("storage binding", caps.max_binding, " bytes"),
        ("buffer", caps.max_buffer, " bytes"),
        ("storage buffers", caps.max_storage_buffers.into(), " in a shader"),
        ("workgroup memory", caps.max_workgroup_memory.into(), " bytes"),
        ("workgroup size", caps.max_invocations.into(), " invocations"),
        ("grid", caps.max_grid.into(), " workgroups along a dimension"),
        ("uniform alignment", caps.uniform_align.into(), " bytes"),
        ("storage alignment", caps.storage_align.into(), " bytes"),
    ]
}

fn adapter_json(info: &AdapterInfo) -> Value {
    json!({ "name": info.name, "driver": info.driver, "backend": info.backend, "kind": info.kind })
}

fn json(info: &AdapterInfo, caps: &Caps) -> Value {
    json!({
        "adapter": adapter_json(info),
        "caps": {
            "subgroups": caps.subgroups.map(|s| [s.min, s.max]),
            "f16": caps.f16,
            "coop_matrix": caps.coop_matrix,
            "packed_dot": caps.packed_dot,
            "coherent": caps.coherent,
            "timestamps": caps.timestamps,
            "is_cpu": caps.is_cpu,
            "max_binding": caps.max_binding,
            "max_buffer": caps.max_buffer,
            "max_storage_buffers": caps.max_storage_buffers,
            "max_workgroup_memory": caps.max_workgroup_memory,
            "max_invocations": caps.max_invocations,
            "max_grid": caps.max_grid,
            "uniform_align": caps.uniform_align,
            "storage_align": caps.storage_align,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_adapter_is_marked() {
        let adapter = |name: &str| AdapterInfo {
            name: name.into(),
            driver: "driver 1".into(),
            backend: "vulkan".into(),
            kind: "Cpu".into(),
        };
        let found = [adapter("a"), adapter("b")];
        let text = text(Some((&found[1], &Caps::intel())), &found);
        assert!(text.contains("  subgroups             8 to 32 wide\n"), "{text}");
        assert!(text.ends_with("  a (vulkan, Cpu, driver 1)\n* b (vulkan, Cpu, driver 1)\n"), "{text}");
        let nothing = super::text(None, &[]);
        assert_eq!(nothing, "found     0 adapters\n");
    }
}
