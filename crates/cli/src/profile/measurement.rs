//! What was measured of a run, as it is written to files.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::kernels::Kernels;
use super::limits::Limits;

/// A profiled run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The program's path, method and delegate.
    pub program: String,
    /// Adapter.
    pub device: String,
    /// Inputs at their live sizes.
    pub inputs: Vec<String>,
    /// Runs behind the time on the host, and sweeps that were asked for.
    pub runs: u32,
    /// What the device can do.
    pub limits: Limits,
    /// Median time of a run that times nothing, on the host, in microseconds.
    pub run_us: f64,
    /// Phases of a run in which every launch had a timed pass of its own.
    pub phases: Vec<PhaseTime>,
    /// Times on the device.
    #[serde(flatten)]
    pub kernels: Kernels,
}

/// A phase of the host, in microseconds since the run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// Its name.
    pub name: String,
    /// Begin.
    pub start_us: f64,
    /// End.
    pub end_us: f64,
}

/// A launch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaunchTime {
    /// Kernel.
    pub kernel: String,
    /// Route that was taken, where there was a choice.
    pub route: Option<String>,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Ids of the program's operators that it stands for.
    pub node_ids: Vec<u32>,
    /// Their names.
    pub operators: Vec<String>,
    /// Bytes that it must move at least.
    pub bytes: u64,
    /// Arithmetic operations.
    pub operations: u64,
    /// Whether it uses cooperative matrices.
    pub matrix: bool,
    /// Begin in a run in which each launch had a timed pass of its own, in microseconds since the run began.
    pub start_us: f64,
    /// What that pass took, with what a pass of its own costs.
    pub last_us: f64,
    /// By how much it moves the end of the step: a median over sweeps, not below zero.
    pub us: f64,
    /// About as far as that median may lie off, one time in two; none of a single sweep.
    pub error_us: Option<f64>,
}

impl Measurement {
    /// Reads a file that `--json` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!("{} is no measurement of this version of etwgpu; measure again", path.display())
        })
    }
}

impl LaunchTime {
    /// Workgroups in all.
    pub fn workgroups(&self) -> u64 {
        self.grid.iter().map(|&g| u64::from(g)).product()
    }
}
