//! The device that a program is planned for.

use anyhow::{Context, Result};
use etwgpu_kernels::LowerOptions;
use etwgpu_kernels::passes::PassOptions;
use etwgpu_record::Caps;
use etwgpu_runtime::{Knobs, gpu};

use crate::pte::Delegate;

/// Capabilities and choices of a planner.
#[derive(Clone, Debug)]
pub struct Device {
    /// What planning may know of the device.
    pub caps: Caps,
    /// Routes that the settings ask for.
    pub options: LowerOptions,
    /// Rewrites that the settings ask for.
    pub passes: PassOptions,
}

impl Device {
    /// The preset, or else the adapter that a load of `delegate` would choose on this machine.
    pub fn choose(preset: Option<&Caps>, delegate: &Delegate<'_>) -> Result<Self> {
        let knobs = Knobs::resolve(&delegate.compile_specs, &[]);
        let caps = match preset {
            Some(caps) => caps.clone(),
            None => {
                let gpu = gpu(&knobs).context("--caps PRESET plans without an adapter")?;
                gpu.caps().clone()
            }
        };
        let options = LowerOptions {
            prefer: knobs.list("prefer_routes"),
            avoid: knobs.list("avoid_routes"),
            keep_values: false,
        };
        Ok(Self { caps, options, passes: knobs.passes() })
    }
}

/// The preset of this name.
pub(super) fn preset(name: &str) -> Result<Caps, String> {
    let presets = Caps::presets();
    let names = presets.iter().map(|caps| caps.name.as_str()).collect::<Vec<_>>().join(", ");
    presets.iter().find(|caps| caps.name == name).cloned().ok_or_else(|| format!("there are {names}"))
}
