//! The process's GPU.

use std::sync::{Arc, Mutex, PoisonError};

use etwgpu_engine::{AdapterChoice, EngineError, Gpu};

use crate::knobs::Knobs;

/// Opened on first use and kept: drivers do not take a device's end at process exit well.
static GPU: Mutex<Option<(AdapterChoice, Arc<Gpu>)>> = Mutex::new(None);

/// The GPU that these settings choose; a device that was lost or chosen otherwise is replaced.
pub fn gpu(knobs: &Knobs) -> Result<Arc<Gpu>, EngineError> {
    if knobs.is_on("disable") {
        return Err(EngineError::NoAdapter("switched off (ETWGPU_DISABLE)".into()));
    }
    let name = Some(knobs.text("adapter").to_owned()).filter(|n| !n.is_empty());
    let choice =
        AdapterChoice { name, checked_shaders: knobs.is_on("checked_shaders"), ..AdapterChoice::default() };
    let mut current = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((chosen, gpu)) = &*current
        && *chosen == choice
        && !gpu.is_lost()
    {
        return Ok(gpu.clone());
    }
    let gpu = Gpu::open(&choice)?;
    *current = Some((choice, gpu.clone()));
    drop(current); // a log line may wait for another thread, and that one for the device
    let info = gpu.info();
    log::info!("running on {} ({}, {})", info.name, info.backend, info.driver);
    Ok(gpu)
}

/// Whether a delegate could run here.
pub fn is_available() -> bool {
    match gpu(&Knobs::default()) {
        Ok(_) => true,
        Err(error) => {
            log::warn!("unavailable: {error}");
            false
        }
    }
}

/// JSON description of the adapter that delegates run on, or of why there is none.
pub fn adapter_info_json() -> String {
    match gpu(&Knobs::default()) {
        Ok(gpu) => {
            let (info, caps) = (gpu.info(), gpu.caps());
            let subgroups = caps.subgroups.map_or("null".into(), |s| format!("[{}, {}]", s.min, s.max));
            format!(
                "{{\"name\": {:?}, \"driver\": {:?}, \"backend\": {:?}, \"kind\": {:?}, \"subgroups\": {subgroups}, \
                 \"f16\": {}, \"cooperative_matrix\": {}, \"max_binding\": {}, \"max_buffer\": {}}}",
                info.name,
                info.driver,
                info.backend,
                info.kind,
                caps.f16,
                caps.coop_matrix,
                caps.max_binding,
                caps.max_buffer
            )
        }
        Err(error) => format!("{{\"error\": {:?}}}", error.to_string()),
    }
}
