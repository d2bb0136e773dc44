//! The `etwgpu` command's planner side.

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use etwgpu_cli::bench::Bench;
use etwgpu_cli::look::{self, Look, Usage};

/// Exit code for arguments that make no sense, as clap has it.
const USAGE: u8 = 2;

#[derive(Parser)]
#[command(name = "etwgpu-tool", version, about = "Looks inside delegates and runs them without ExecuTorch")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Look(Look),
    /// Runs exported models against their goldens.
    Check {
        /// Folder with NAME/model.pte and NAME/stepN_{in,out}_I.npy.
        models: PathBuf,
        /// Parts of names; all models without.
        names: Vec<String>,
    },
    /// Where the time of a run goes, kernel by kernel, on made-up inputs.
    Profile(etwgpu_cli::profile::Options),
    /// Memory of the device and the host that a delegate takes, and what a longer context would.
    Memory(etwgpu_cli::memory::Options),
    /// Measures speed without ExecuTorch around it.
    #[command(subcommand)]
    Bench(Bench),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_core=error"))
        .init();
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { USAGE } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Look(command) => shown(|text| look::run(&command, text)),
        Command::Profile(options) => shown(|text| etwgpu_cli::profile::run(&options, text)),
        Command::Memory(options) => shown(|text| etwgpu_cli::memory::run(&options, text)),
        Command::Check { models, names } => etwgpu_cli::check::check(&models, &names),
        Command::Bench(bench) => etwgpu_cli::bench::run(&bench).map(|()| true),
    }
}

/// Prints what a command has to say, also when it fails half-way.
fn shown(command: impl FnOnce(&mut String) -> Result<()>) -> Result<bool> {
    let mut text = String::new();
    let result = command(&mut text);
    print(&text)?;
    result.map(|()| true)
}

/// A reader that has seen enough is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
