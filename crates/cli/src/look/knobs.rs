//! Settings as text.

use std::fmt::Write as _;

use etwgpu_runtime::{KNOBS, Knobs};

/// The text of `docs/knobs.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Written by `etwgpu-tool knobs --markdown`; do not edit.\n\n\
         A value set as a backend option (for the process, or passed with a load) wins over the environment variable, \
         which wins over the compile spec that the program was exported with, which wins over the default. Options and \
         compile specs go by the key. A setting takes effect at the next load.\n\n\
         | key | environment variable | default | meaning |\n|---|---|---|---|\n",
    );
    for knob in KNOBS {
        let default =
            if knob.default.is_empty() { "empty".to_owned() } else { format!("`{}`", knob.default) };
        let doc = knob.doc.replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | `{}` | {default} | {doc} |", knob.key, knob.env);
    }
    text
}

/// Every setting with its value outside of any load.
pub(super) fn values() -> String {
    let knobs = Knobs::default();
    let mut text = String::new();
    for knob in KNOBS {
        let _ = writeln!(text, "{} = {:?} ({}): {}", knob.key, knobs.text(knob.key), knob.env, knob.doc);
    }
    text
}
