//! Runs the looking commands in-process, on programs below `data/`.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Once;

use clap::Parser;
use etwgpu_cli::host::Arguments;
use etwgpu_cli::look::{Look, run};
use etwgpu_cli::npy::Array;
use etwgpu_cli::pte::Pte;
use etwgpu_graph::Graph;
use etwgpu_runtime::{Knobs, Session, analyse};
use etwgpu_schema::FlatBufferBuilder;
use etwgpu_schema::program as fb;

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    look: Look,
}

/// Root of this repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A committed program.
pub fn data(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{name}.pte"));
    path.to_str().unwrap().to_owned()
}

/// Compares a text with a committed one; `ETWGPU_UPDATE_SNAPSHOTS=1` writes it instead.
pub fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("ETWGPU_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = expected.lines().zip(text.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or(expected.lines().count().min(text.lines().count()));
    assert!(
        expected == text,
        "{name} differs from line {}: expected {:?}, got {:?} (ETWGPU_UPDATE_SNAPSHOTS=1 accepts it)",
        line + 1,
        expected.lines().nth(line),
        text.lines().nth(line)
    );
}

/// Name of the adapter that tests run on.
pub fn adapter() -> String {
    etwgpu_testkit::open().info().name.clone()
}

/// The demo's decoder on the adapter that tests run on.
pub struct Demo {
    pub session: Session,
    pub graph: Graph,
    pub knobs: Knobs,
}

impl Demo {
    /// Path of its program.
    pub fn path() -> PathBuf {
        repository().join("demo/adder.pte")
    }

    pub fn load() -> Self {
        let pte = Pte::open(&Self::path()).unwrap();
        let program = pte.program().unwrap();
        let delegate = &program.methods[0].delegates[0];
        let knobs = Knobs::resolve(&delegate.compile_specs, &[("adapter", &adapter())]);
        let graph = analyse(delegate.processed, &knobs.passes()).unwrap().graph;
        let session = Session::load(delegate.processed, &knobs, &mut &program).unwrap();
        Self { session, graph, knobs }
    }

    /// A token at a position.
    pub fn arguments(&self, token: i64, position: i64) -> Arguments {
        let long =
            |sizes: Vec<i32>, value: i64| Array { scalar_type: 4, sizes, bytes: value.to_le_bytes().into() };
        Arguments::new(&self.graph, vec![long(vec![1, 1], token), long(vec![1], position)])
    }
}

/// What the command prints, and its error.
pub fn look(arguments: &[&str]) -> (String, Result<(), String>) {
    static QUIET: Once = Once::new();
    // Routes asked for by the environment would change the plans that are compared here.
    QUIET.call_once(|| {
        etwgpu_runtime::set_option("prefer_routes", "").unwrap();
        etwgpu_runtime::set_option("avoid_routes", "").unwrap();
    });
    let command = Command::try_parse_from([&["etwgpu-tool"], arguments].concat());
    let mut text = String::new();
    let result = match command {
        Ok(command) => run(&command.look, &mut text).map_err(|error| format!("{error:#}")),
        Err(error) => Err(error.to_string()),
    };
    (text, result)
}

/// What the command prints; it must succeed.
pub fn shown(arguments: &[&str]) -> String {
    let (text, result) = look(arguments);
    result.unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"));
    text
}

/// A program in a temporary file of this name, removed at the end.
pub struct TempProgram(PathBuf);

impl TempProgram {
    /// Writes the file.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.pte", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempProgram {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The first delegate's bytes of a committed program.
pub fn delegate(name: &str) -> Vec<u8> {
    let pte = etwgpu_cli::pte::Pte::open(data(name).as_ref()).unwrap();
    pte.program().unwrap().methods[0].delegates[0].processed.to_vec()
}

/// Backend and inline bytes of a delegate.
pub type Delegate<'a> = (&'a str, Vec<u8>);

/// A program of these methods, each with delegates.
pub fn program(methods: &[(&str, &[Delegate<'_>])]) -> Vec<u8> {
    let fbb = &mut FlatBufferBuilder::new();
    let mut inline = Vec::new();
    let mut plans = Vec::new();
    for (method, delegates) in methods {
        let mut stored = Vec::new();
        for (id, bytes) in *delegates {
            let args = fb::BackendDelegateDataReferenceArgs {
                location: fb::DataLocation::INLINE,
                index: inline.len() as u32,
            };
            let processed = Some(fb::BackendDelegateDataReference::create(fbb, &args));
            let data = Some(fbb.create_vector(bytes));
            inline.push(fb::BackendDelegateInlineData::create(
                fbb,
                &fb::BackendDelegateInlineDataArgs { data },
            ));
            let id = Some(fbb.create_string(id));
            let args = fb::BackendDelegateArgs { id, processed, compile_specs: None };
            stored.push(fb::BackendDelegate::create(fbb, &args));
        }
        let (name, delegates) = (Some(fbb.create_string(method)), Some(fbb.create_vector(&stored)));
        plans.push(fb::ExecutionPlan::create(fbb, &fb::ExecutionPlanArgs { name, delegates }));
    }
    let args = fb::ProgramArgs {
        execution_plan: Some(fbb.create_vector(&plans)),
        backend_delegate_data: Some(fbb.create_vector(&inline)),
        ..Default::default()
    };
    let root = fb::Program::create(fbb, &args);
    fb::finish_program_buffer(fbb, root);
    fbb.finished_data().to_vec()
}
