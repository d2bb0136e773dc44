//! Settings: one table, one rule of precedence.
//!
//! A value set through [`set_option`] or passed with a load wins over the environment, which wins over the program's
//! compile specs, which win over the default.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use etwgpu_kernels::passes::PassOptions;
use etwgpu_record::Precision;

use crate::status::Error;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// Key as an option and as a compile spec.
    pub key: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Value when nothing sets it.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Every setting.
pub const KNOBS: &[Knob] = &[
    Knob {
        key: "adapter",
        env: "ETWGPU_ADAPTER",
        default: "",
        doc: "Part of the name of the adapter to run on, in any case; CPU adapters run only when named.",
    },
    Knob {
        key: "disable",
        env: "ETWGPU_DISABLE",
        default: "0",
        doc: "1 makes the backend report itself unavailable.",
    },
    Knob {
        key: "prefer_routes",
        env: "ETWGPU_PREFER_ROUTES",
        default: "",
        doc: "Comma-separated routes to take wherever they fit (see `etwgpu explain`).",
    },
    Knob {
        key: "avoid_routes",
        env: "ETWGPU_AVOID_ROUTES",
        default: "",
        doc: "Comma-separated routes never to take.",
    },
    Knob {
        key: "precision",
        env: "ETWGPU_PRECISION",
        default: "default",
        doc: "`default` lets large matrix products of linear layers round their operands to f16 where the GPU has \
              cooperative matrices; `fast` lets attention do so, too, and rounds activations of up to 8 rows to 16 \
              bits where they become integers; `strict` keeps everything in f32.",
    },
    Knob {
        key: "enable_f16_kv_cache",
        env: "ETWGPU_ENABLE_F16_KV_CACHE",
        default: "0",
        doc: "1 stores key-value caches that live in the delegate as f16, in half the memory: keys and values are \
              rounded, and must stay below 65504. A cache that the host or another operator reads stays as it is. \
              Needs f16 in shaders.",
    },
    Knob {
        key: "checked_shaders",
        env: "ETWGPU_CHECKED_SHADERS",
        default: "0",
        doc: "1 compiles shaders with bounds checks and loop bounds; slower, for finding faults.",
    },
    Knob {
        key: "cache_dir",
        env: "ETWGPU_CACHE_DIR",
        default: "",
        doc: "Folder for compiled shaders, so that later processes load faster; made when missing, nothing is kept when \
              empty. Any number of processes may share one.",
    },
    Knob {
        key: "log",
        env: "ETWGPU_LOG",
        default: "",
        doc: "Least important log lines that ExecuTorch's logger gets: `off`, `error`, `warn`, `info`, `debug`, `trace`; \
              when empty, `info` of this delegate and errors of wgpu. For the process, at once.",
    },
    Knob {
        key: "timestamp_query",
        env: "ETWGPU_TIMESTAMP_QUERY",
        default: "0",
        doc: "1 times every kernel on the GPU, each in a pass of its own, which is slower (see docs/profiling.md); \
              `WEBGPU_TIMESTAMP_QUERY=1` does the same.",
    },
];

/// Environment variables of other projects that stand for ours.
const ALIASES: &[(&str, &str)] = &[("timestamp_query", "WEBGPU_TIMESTAMP_QUERY")];

/// What the environment says of a setting; our own name first.
fn environment(knob: &Knob) -> Option<String> {
    let aliases = ALIASES.iter().filter(|(key, _)| *key == knob.key).map(|(_, env)| *env);
    std::iter::once(knob.env).chain(aliases).find_map(|name| std::env::var(name).ok())
}

static PROCESS: LazyLock<Mutex<HashMap<&'static str, String>>> = LazyLock::new(Mutex::default);

fn process() -> MutexGuard<'static, HashMap<&'static str, String>> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(key: &str) -> Result<&'static Knob, Error> {
    let known = || KNOBS.iter().map(|k| k.key).collect::<Vec<_>>().join(", ");
    KNOBS
        .iter()
        .find(|k| k.key == key)
        .ok_or_else(|| Error::Setting(format!("no option `{key}`; there are {}", known())))
}

/// Sets an option for the whole process, from the next load on.
pub fn set_option(key: &str, value: &str) -> Result<(), Error> {
    let knob = find(key)?;
    process().insert(knob.key, value.to_owned());
    Ok(())
}

/// The value of an option outside of any load.
pub fn get_option(key: &str) -> Result<String, Error> {
    find(key)?;
    Ok(Knobs::default().text(key).to_owned())
}

/// The settings of one load.
#[derive(Clone, Debug)]
pub struct Knobs(HashMap<&'static str, String>);

impl Default for Knobs {
    fn default() -> Self {
        Self::resolve(&[], &[])
    }
}

impl Knobs {
    /// Resolves every setting; keys that are not ours are left to others.
    pub fn resolve(compile_specs: &[(&str, &[u8])], options: &[(&str, &str)]) -> Self {
        let set = process();
        let value = |knob: &Knob| {
            let option = options.iter().find(|(key, _)| *key == knob.key).map(|(_, v)| (*v).to_owned());
            let spec = || compile_specs.iter().find(|(key, _)| *key == knob.key).map(|(_, v)| spec_text(v));
            option
                .or_else(|| set.get(knob.key).cloned())
                .or_else(|| environment(knob))
                .or_else(spec)
                .unwrap_or_else(|| knob.default.to_owned())
        };
        Self(KNOBS.iter().map(|knob| (knob.key, value(knob))).collect())
    }

    /// Value as text.
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// Whether a switch is on.
    pub fn is_on(&self, key: &str) -> bool {
        matches!(self.text(key), "1" | "true" | "on" | "yes")
    }

    /// How far results may be rounded.
    pub fn precision(&self) -> Result<Precision, Error> {
        match self.text("precision") {
            "strict" => Ok(Precision::Strict),
            "default" => Ok(Precision::Default),
            "fast" => Ok(Precision::Fast),
            other => Err(Error::Setting(format!("precision `{other}`; there are strict, default, fast"))),
        }
    }

    /// What the settings ask of the rewrites of the graph.
    pub fn passes(&self) -> PassOptions {
        PassOptions { f16_kv_cache: self.is_on("enable_f16_kv_cache") }
    }

    /// Value as a path, none when empty.
    pub fn path(&self, key: &str) -> Option<&Path> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(Path::new)
    }

    /// Comma-separated values.
    pub fn list(&self, key: &str) -> Vec<String> {
        self.text(key).split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }
}

/// Compile specs carry booleans as one byte and text as itself.
fn spec_text(value: &[u8]) -> String {
    match value {
        [0] => "0".into(),
        [1] => "1".into(),
        text => String::from_utf8_lossy(text).trim_end_matches('\0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_win_over_compile_specs_and_those_over_defaults() {
        let specs: &[(&str, &[u8])] = &[("avoid_routes", b"a"), ("checked_shaders", &[1])];
        let knobs = Knobs::resolve(specs, &[("avoid_routes", "b, c")]);
        assert_eq!(knobs.list("avoid_routes"), ["b", "c"]);
        assert!(knobs.is_on("checked_shaders"));
        assert!(!knobs.is_on("disable"));
        assert!(set_option("no_such", "1").is_err());
    }
}
