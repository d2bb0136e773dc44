//! The `etwgpu` command's planner side.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "etwgpu-tool", version, about = "Looks inside delegates and runs them without ExecuTorch")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs exported models against their goldens.
    Check {
        /// Folder with NAME/model.pte and NAME/stepN_{in,out}_I.npy.
        models: PathBuf,
        /// Parts of names; all models without.
        names: Vec<String>,
    },
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Check { models, names } => etwgpu_cli::check::check(&models, &names),
    }
}
