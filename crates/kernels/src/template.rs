//! WGSL templates: constants and flags of a kernel variant, shared modules, conditional lines.
//!
//! Directives stand alone on a line: `#import name` (a shared module), `#ifdef FLAG`, `#ifndef FLAG`, `#else`,
//! `#endif`, `#enable extension`, and `#for i COUNT` … `#end`, which repeats its lines with `{i}` replaced: what is
//! written out has names of its own, and stays in registers where an array might not. Constants become
//! `const NAME = value;` lines at the top of the module.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex};

use etwgpu_record::{Access, Shader};

/// Shared modules that `#import` brings in.
const MODULES: &[(&str, &str)] = &[
    ("attention", include_str!("../wgsl/attention.wgsl")),
    ("cache_elem", include_str!("../wgsl/cache_elem.wgsl")),
    ("coords", include_str!("../wgsl/coords.wgsl")),
    ("elem", include_str!("../wgsl/elem.wgsl")),
    ("gemv_float", include_str!("../wgsl/gemv_float.wgsl")),
    ("gemv_packed", include_str!("../wgsl/gemv_packed.wgsl")),
    ("grid", include_str!("../wgsl/grid.wgsl")),
    #[cfg(feature = "sdpa-fd")]
    ("join_parts", include_str!("../wgsl/join_parts.wgsl")),
    ("operands", include_str!("../wgsl/operands.wgsl")),
    ("packed", include_str!("../wgsl/packed.wgsl")),
    ("products", include_str!("../wgsl/products.wgsl")),
    ("qparams", include_str!("../wgsl/qparams.wgsl")),
    ("quantised_rows", include_str!("../wgsl/quantised_rows.wgsl")),
    ("reduce", include_str!("../wgsl/reduce.wgsl")),
    #[cfg(feature = "sdpa-fd")]
    ("splits", include_str!("../wgsl/splits.wgsl")),
];

/// A template with the constants and flags of one variant.
#[derive(Clone, Debug)]
pub struct Template {
    label: &'static str,
    text: &'static str,
    constants: Vec<(&'static str, i64)>,
    flags: Vec<&'static str>,
    storage: Vec<Declaration>,
}

/// A storage binding that the host declares: name, use, WGSL type.
type Declaration = (&'static str, Access, &'static str);

type Key = (usize, Vec<(&'static str, i64)>, Vec<&'static str>, Vec<Declaration>);

/// Expanded modules by variant: planning a decode step expands nothing.
static EXPANDED: LazyLock<Mutex<HashMap<Key, Arc<str>>>> = LazyLock::new(Mutex::default);

impl Template {
    /// A template without constants; `label` names the kernel in profiles.
    pub fn new(label: &'static str, text: &'static str) -> Self {
        Self { label, text, constants: Vec::new(), flags: Vec::new(), storage: Vec::new() }
    }

    /// Defines an integer constant: `i32` when negative, else `u32`.
    pub fn set(mut self, name: &'static str, value: impl Into<i64>) -> Self {
        self.constants.push((name, value.into()));
        self
    }

    /// Raises a flag when `on`.
    pub fn flag(mut self, name: &'static str, on: bool) -> Self {
        if on {
            self.flags.push(name);
        }
        self
    }

    /// Declares the next storage binding, for kernels whose bindings vary; `ty` may name an alias of the module.
    pub fn storage(mut self, name: &'static str, access: Access, ty: &'static str) -> Self {
        self.storage.push((name, access, ty));
        self
    }

    /// The module of this variant.
    pub fn shader(self) -> Shader {
        let key =
            (self.text.as_ptr() as usize, self.constants.clone(), self.flags.clone(), self.storage.clone());
        let mut expanded = EXPANDED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let source = expanded.entry(key).or_insert_with(|| self.expand().into()).clone();
        Shader { label: self.label, source }
    }

    fn expand(&self) -> String {
        let mut enables = String::new();
        let mut body = String::new();
        let mut imported = Vec::new();
        self.expand_into(self.text, &mut enables, &mut body, &mut imported);
        let body = self.unroll(&body);
        let mut constants = String::new();
        for (name, value) in &self.constants {
            let suffix = if *value < 0 { "i" } else { "u" };
            let _ = writeln!(constants, "const {name} = {value}{suffix};");
        }
        for ((name, access, ty), binding) in self.storage.iter().zip(1..) {
            let access = if *access == Access::Read { "read" } else { "read_write" };
            let _ = writeln!(constants, "@group(0) @binding({binding}) var<storage, {access}> {name}: {ty};");
        }
        format!("{enables}{constants}{body}")
    }

    /// Writes out every `#for`, the innermost last.
    fn unroll(&self, text: &str) -> String {
        let mut out = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ["#for", name, count] = words[..] else {
                out.push_str(line);
                out.push('\n');
                continue;
            };
            let mut depth = 1;
            let mut body = String::new();
            for line in lines.by_ref() {
                match line.split_whitespace().next() {
                    Some("#for") => depth += 1,
                    Some("#end") => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            let constant = self.constants.iter().find(|(n, _)| *n == count).map(|c| c.1);
            let count = count
                .parse()
                .ok()
                .or(constant)
                .unwrap_or_else(|| panic!("no constant `{count}` to count to"));
            for i in 0..count {
                out.push_str(&self.unroll(&body.replace(&format!("{{{name}}}"), &i.to_string())));
            }
        }
        out
    }

    fn expand_into<'t>(
        &self,
        text: &'t str,
        enables: &mut String,
        body: &mut String,
        imported: &mut Vec<&'t str>,
    ) where
        'static: 't,
    {
        let mut active = vec![true];
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (directive, argument) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let on = active.iter().all(|&a| a);
            match directive {
                "#ifdef" => active.push(self.flags.contains(&argument)),
                "#ifndef" => active.push(!self.flags.contains(&argument)),
                "#else" => {
                    if let Some(last) = active.last_mut() {
                        *last = !*last;
                    }
                }
                "#endif" => {
                    active.pop();
                }
                "#enable" if on => {
                    let line = format!("enable {argument};\n");
                    if !enables.contains(&line) {
                        enables.push_str(&line);
                    }
                }
                "#import" if on => {
                    let module = MODULES.iter().find(|(name, _)| *name == argument);
                    let &(name, text) = module.unwrap_or_else(|| panic!("no shared module `{argument}`"));
                    if !imported.contains(&name) {
                        imported.push(name);
                        self.expand_into(text, enables, body, imported);
                    }
                }
                _ if on && (!directive.starts_with('#') || matches!(directive, "#for" | "#end")) => {
                    body.push_str(line);
                    body.push('\n');
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditionals_nest_and_enables_come_first() {
        let text = "#ifdef A\n#enable f16\na\n#ifndef B\nnot b\n#else\nb\n#endif\n#else\nno a\n#endif\n";
        let with = |flags: &[&'static str]| {
            flags.iter().fold(Template::new("t", text).set("N", 3), |t, f| t.flag(f, true)).expand()
        };
        assert_eq!(with(&["A"]), "enable f16;\nconst N = 3u;\na\nnot b\n");
        assert_eq!(with(&["A", "B"]), "enable f16;\nconst N = 3u;\na\nb\n");
        assert_eq!(with(&[]), "const N = 3u;\nno a\n");
    }

    #[test]
    fn loops_are_written_out() {
        let text = "#for i 2\n#for j COUNT\nlet v{i}{j} = {i}u;\n#end\n#end\nend\n";
        let text = Template::new("t", text).set("COUNT", 1).expand();
        assert_eq!(text, "const COUNT = 1u;\nlet v00 = 0u;\nlet v10 = 1u;\nend\n");
    }

    #[test]
    fn equal_variants_share_one_text() {
        let make = || Template::new("t", "x\n").set("N", 4).shader();
        assert!(Arc::ptr_eq(&make().source, &make().source));
    }
}
