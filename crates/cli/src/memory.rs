//! What a delegate takes of device and host memory, and what a longer context would.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use etwgpu_graph::{Graph, ValueId};
use etwgpu_kernels::ops::sdpa::cache_arguments;
use etwgpu_kernels::{Live, LowerOptions, lower};
use etwgpu_record::Caps;
use etwgpu_runtime::{Knobs, Memory, Model, Session, analyse, gpu};
use serde_json::json;

use crate::host::Arguments;
use crate::look::{Input, Sizes, Target, Usage, ValueArg, live};
use crate::profile::synthesise;

/// What to load.
#[derive(Args, Debug)]
pub struct Options {
    /// Which delegate, at which sizes it is run once.
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Memory of this process on the host, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Host {
    /// Its own.
    anonymous: u64,
    /// Pages of mapped files, such as the program's; the system takes them back when it needs to.
    file: u64,
}

/// KV caches of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Context {
    caches: usize,
    /// Positions that fit.
    capacity: u64,
    bytes_per_position: u64,
}

/// Loads the chosen delegate, runs it once on made-up inputs, and tells what memory that took.
pub fn run(options: &Options, out: &mut String) -> Result<()> {
    let target = &options.target;
    if target.caps.is_some() {
        return Err(
            Usage("memory runs on this machine's adapter; --caps is for dump and explain".into()).into()
        );
    }
    let pte = target.open()?;
    let program = pte.program()?;
    let chosen = target.choose_one(&program)?;
    let knobs = Knobs::resolve(&chosen.delegate.compile_specs, &[]);
    let model = analyse(chosen.delegate.processed, &knobs.passes())?;
    let live_sizes = live(&model, &target.sizes)?;
    let gpu = gpu(&knobs)?;
    let before = host_memory();
    let (session, peak) = watched(|| Session::load(chosen.delegate.processed, &knobs, &mut &program));
    let mut session = session?;
    let after = host_memory();
    let inputs = synthesise(&model, &live_sizes)?;
    session.run(&mut Arguments::new(&model.graph, inputs))?;
    let memory = session.memory();
    let context = context(&model);
    let scratch_at_end = scratch_at_end(&model, gpu.caps(), &target.sizes, &live_sizes, &context);
    if options.json {
        let value = json!({
            "program": target.name(), "device": gpu.caps().name,
            "weights": memory.weights, "states": memory.states, "inputs": memory.inputs,
            "scratch": memory.scratch, "parameters": memory.parameters, "staging": memory.staging,
            "pipelines": memory.pipelines,
            "host_before_load": before.map(|m| m.anonymous), "host_peak_at_load": peak.map(|m| m.anonymous),
            "host_after_load": after.map(|m| m.anonymous), "host_file_peak": peak.map(|m| m.file),
            "context": context.capacity, "caches": context.caches,
            "bytes_per_position": context.bytes_per_position, "scratch_at_last_position": scratch_at_end,
        });
        let _ = writeln!(out, "{value:#}");
        return Ok(());
    }
    let _ = writeln!(out, "{}, {}\non {}", target.name(), chosen.place(), gpu.caps().name);
    out.push_str(&device_text(&memory));
    out.push_str(&host_text(before, peak, after, &memory));
    out.push_str(&context_text(&context, scratch_at_end));
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{:>10.3} MB", bytes as f64 / 1e6)
}

fn device_text(memory: &Memory) -> String {
    let Memory { weights, states, inputs, scratch, parameters, staging, pipelines, .. } = *memory;
    let total = weights + states + inputs + scratch + parameters + staging;
    let mut text = String::from("device\n");
    for (name, bytes) in [
        ("weights", weights),
        ("states (KV caches)", states),
        ("inputs", inputs),
        ("scratch", scratch),
        ("parameters", parameters),
        ("staging of outputs", staging),
        ("in all", total),
    ] {
        let _ = writeln!(text, "  {name:<20} {}", megabytes(bytes));
    }
    let _ = writeln!(text, "  {pipelines} pipelines, whose bytes no driver tells");
    text
}

fn host_text(before: Option<Host>, peak: Option<Host>, after: Option<Host>, memory: &Memory) -> String {
    let (Some(before), Some(peak), Some(after)) = (before, peak, after) else {
        return "host memory is not known on this system\n".into();
    };
    let above = peak.anonymous.saturating_sub(before.anonymous);
    format!(
        "host, which on CPU adapters is the device's too\n  before the load      {}\n  peak during the load {}\n  \
         after the load       {}\n  mapped files at most {}\n  the load took {:.2} times the bytes of weights and \
         states at its peak\n",
        megabytes(before.anonymous),
        megabytes(peak.anonymous),
        megabytes(after.anonymous),
        megabytes(peak.file),
        above as f64 / (memory.weights + memory.states).max(1) as f64
    )
}

fn context_text(context: &Context, scratch_at_end: Option<u64>) -> String {
    let Context { caches, capacity, bytes_per_position } = *context;
    if caches == 0 {
        return "no KV caches\n".into();
    }
    let mut text = format!(
        "context\n  {caches} KV caches of {capacity} positions, {bytes_per_position} bytes a position\n  twice the \
         context would add {} of states\n",
        megabytes(capacity * bytes_per_position).trim()
    );
    if let Some(scratch) = scratch_at_end {
        let _ = writeln!(text, "  scratch at the last position: {}", megabytes(scratch).trim());
    }
    text
}

/// The KV caches that a graph's attention uses.
fn context(model: &Model) -> Context {
    let graph = &model.graph;
    let mut found: Vec<ValueId> = Vec::new();
    for node in &graph.nodes {
        for id in cache_arguments(&node.op).iter().filter_map(|&at| node.args.get(at)) {
            let root = model.storage.root(*id);
            if !found.contains(&root) {
                found.push(root);
            }
        }
    }
    let sizes = found.iter().filter_map(|&id| cache_sizes(graph, id));
    sizes.fold(Context::default(), |sum, (capacity, bytes)| Context {
        caches: sum.caches + 1,
        capacity: sum.capacity.max(capacity),
        bytes_per_position: sum.bytes_per_position + bytes / capacity.max(1),
    })
}

fn cache_sizes(graph: &Graph, id: ValueId) -> Option<(u64, u64)> {
    let tensor = graph.tensor(id).filter(|t| t.dims.len() == 4)?;
    let elements: u64 = tensor.dims.iter().map(|&d| u64::from(d)).product();
    Some((u64::from(tensor.dims[1]), elements * tensor.dtype.size()))
}

/// Bytes of temporaries when the same inputs come at the last position that they fit at; none where no position is
/// among the inputs.
fn scratch_at_end(model: &Model, caps: &Caps, sizes: &Sizes, now: &Live, context: &Context) -> Option<u64> {
    let tokens = *now.dims[model.graph.inputs.first()?.index()].last()?;
    let last = context.capacity.checked_sub(u64::from(tokens))?;
    let mut sizes = sizes.clone();
    sizes.values.push(ValueArg { input: Input::Any, elements: vec![last as i64] });
    let at_end = live(model, &sizes).ok()?;
    let options = LowerOptions::default();
    Some(lower(&model.planner(caps, &options), &at_end).ok()?.recording.temp_bytes())
}

/// What this process takes now; none where the system does not tell.
fn host_memory() -> Option<Host> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some(Host { anonymous: field("RssAnon")?, file: field("RssFile")? })
}

/// Runs `work`, looking at the memory every fraction of a millisecond; gives the largest of what was seen.
fn watched<T>(work: impl FnOnce() -> T) -> (T, Option<Host>) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = host_memory();
            while !done.load(Ordering::Acquire) {
                thread::sleep(Duration::from_micros(200));
                if let (Some(peak), Some(now)) = (&mut peak, host_memory()) {
                    peak.anonymous = peak.anonymous.max(now.anonymous);
                    peak.file = peak.file.max(now.file);
                }
            }
            peak
        });
        let result = work();
        done.store(true, Ordering::Release);
        (result, watcher.join().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_seen_although_it_is_given_back() {
        let Some(before) = host_memory() else { return };
        let (sum, peak) = watched(|| {
            let bytes = vec![1u8; 64 << 20];
            thread::sleep(Duration::from_millis(20));
            bytes.iter().map(|&b| u64::from(b)).sum::<u64>()
        });
        assert_eq!(sum, 64 << 20);
        assert!(peak.unwrap().anonymous >= before.anonymous + (60 << 20), "{peak:?} after {before:?}");
    }
}
