//! Delegates as text, stage by stage.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::ValueEnum;
use etwgpu_graph::{Blob, Graph, Value, decode, dump as graph_text, parse};
use etwgpu_kernels::{Live, lower};
use etwgpu_runtime::{Knobs, analyse};
use etwgpu_schema::vk_graph;

use super::device::Device;
use super::target::{Chosen, Target};
use super::{passes, sizes};
use crate::pte::Program;

/// A stage on the way from bytes to a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    /// The fields of the headers.
    Parse,
    /// The graph as exported.
    Decode,
    /// The graph after the rewrites.
    Passes,
    /// The recording for the live sizes.
    Lower,
}

/// Prints the chosen delegates up to `last`.
pub(super) fn dump(target: &Target, last: Stage, out: &mut String) -> Result<()> {
    let pte = target.open()?;
    let program = pte.program()?;
    let chosen = target.choose(&program)?;
    describe_program(&program, out);
    for chosen in &chosen {
        let _ = writeln!(
            out,
            "\n== {}: {}, {} bytes",
            chosen.place(),
            chosen.delegate.id,
            chosen.delegate.processed.len()
        );
        if chosen.is_ours() {
            stages(target, chosen, last, out).with_context(|| chosen.place())?;
        } else {
            out.push_str("of another backend\n");
        }
    }
    Ok(())
}

fn describe_program(program: &Program<'_>, out: &mut String) {
    for method in &program.methods {
        let ids: Vec<_> = method.delegates.iter().map(|d| d.id).collect();
        let _ = writeln!(out, "method {}: delegates [{}]", method.name, ids.join(", "));
    }
    let bytes: usize = program.named_data.values().map(|data| data.len()).sum();
    let _ = writeln!(out, "named data: {} entries, {bytes} bytes", program.named_data.len());
}

fn stages(target: &Target, chosen: &Chosen<'_, '_>, last: Stage, out: &mut String) -> Result<()> {
    let processed = chosen.delegate.processed;
    for (key, value) in &chosen.delegate.compile_specs {
        let _ = writeln!(out, "compile spec {key}: {}", value.escape_ascii());
    }
    let blob = parse(processed)?;
    out.push_str("-- parse\n");
    headers(processed, &blob, out)?;
    if last == Stage::Parse {
        return Ok(());
    }
    let mut graph = decode(&blob)?;
    let _ = write!(out, "-- decode\n{}", graph_text(&graph));
    if last == Stage::Decode {
        return Ok(());
    }
    let wanted = Knobs::resolve(&chosen.delegate.compile_specs, &[]).passes();
    out.push_str("-- passes\n");
    for pass in passes::run(&mut graph, &wanted) {
        out.push_str(&pass.text());
    }
    out.push_str(&graph_text(&graph));
    if last == Stage::Lower {
        out.push_str("-- lower\n");
        recording(target, chosen, out)?;
    }
    Ok(())
}

fn headers(processed: &[u8], blob: &Blob<'_>, out: &mut String) -> Result<()> {
    let start = processed.as_ptr() as usize;
    for (name, part) in [("flatbuffer", blob.flatbuffer), ("constants", blob.constants)] {
        let _ = writeln!(out, "{name} {} bytes at {}", part.len(), part.as_ptr() as usize - start);
    }
    let root = vk_graph(blob.flatbuffer)?;
    let _ = writeln!(out, "version {:?}", root.version().unwrap_or_default());
    let _ = writeln!(
        out,
        "storage {:?}, layout {:?}",
        root.storage_type_override(),
        root.memory_layout_override()
    );
    let counts = [
        ("calls", root.chain().map_or(0, |v| v.len())),
        ("values", root.values().map_or(0, |v| v.len())),
        ("inputs", root.input_ids().map_or(0, |v| v.len())),
        ("outputs", root.output_ids().map_or(0, |v| v.len())),
        ("constants", root.constants().map_or(0, |v| v.len())),
        ("shaders", root.shaders().map_or(0, |v| v.len())),
    ];
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let _ = writeln!(out, "{}", counts.join(", "));
    Ok(())
}

fn recording(target: &Target, chosen: &Chosen<'_, '_>, out: &mut String) -> Result<()> {
    let Device { caps, options, passes: wanted } = Device::choose(target.caps.as_ref(), chosen.delegate)?;
    let model = analyse(chosen.delegate.processed, &wanted)?;
    model.check_device(&caps)?;
    let live = sizes::live(&model, &target.sizes)?;
    let _ = writeln!(out, "for {}", caps.name);
    out.push_str(&live_values(&model.graph, &live));
    let lowered = lower(&model.planner(&caps, &options), &live)?;
    for fusion in passes::fusions(&model.groups, &lowered) {
        out.push_str(&fusion.text());
    }
    out.push_str(&etwgpu_record::dump(&lowered.recording));
    Ok(())
}

/// Sizes that differ from the declared ones, and symbolic integers, of values that nodes or the host use.
fn live_values(graph: &Graph, live: &Live) -> String {
    let mut text = String::from("live\n");
    let of_nodes = graph.nodes.iter().flat_map(|node| &node.outs);
    let mut ids: Vec<_> = graph.inputs.iter().chain(of_nodes).copied().collect();
    ids.sort();
    ids.dedup();
    for id in ids {
        let dims = &live.dims[id.index()];
        let _ = match graph.value(id) {
            Value::SymInt => writeln!(text, "%{} = {}", id.0, live.ints[id.index()]),
            Value::Tensor(tensor) if tensor.dims != *dims => writeln!(text, "%{} {:?}", id.0, &dims[..]),
            _ => Ok(()),
        };
    }
    text
}
