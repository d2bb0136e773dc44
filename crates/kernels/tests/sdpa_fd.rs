//! The feature `sdpa-fd`: without it nothing of FlashDecoding is in the binary, and decoding takes other routes.
//!
//! `scripts/test` runs this file with the feature and without it.

use std::fs;
use std::path::Path;

use etwgpu_kernels::LowerOptions;
use etwgpu_kernels::cases::Case;
use etwgpu_kernels::ops::sdpa;
use etwgpu_testkit::{compare, lower, open, reference, run, taken};

/// Whether this binary was built with the feature.
const BUILT: bool = cfg!(feature = "sdpa-fd");

/// Text joined at run time, so that looking for it does not put it into the binary.
fn joined(parts: &[&str], between: &str) -> String {
    parts.join(between)
}

fn shaders(folder: &Path, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            shaders(&path, texts);
        } else if path.extension().is_some_and(|e| e == "wgsl") {
            texts.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Lines of FlashDecoding's shaders that no other shader has.
fn shader_lines() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    shaders(&root.join("src"), &mut texts);
    shaders(&root.join("wgsl"), &mut texts);
    let is_ours = |name: &str| {
        ["sdpa/split", "sdpa/merge", "wgsl/splits"]
            .iter()
            .any(|ours| name.ends_with(&joined(&[ours, "wgsl"], ".")))
    };
    let (ours, others): (Vec<_>, Vec<_>) = texts.into_iter().partition(|(name, _)| is_ours(name));
    assert_eq!(ours.len(), 3, "the shaders moved");
    let lines = ours.iter().flat_map(|(_, text)| text.lines()).map(str::trim);
    let only_ours = |line: &&str| line.len() > 20 && !others.iter().any(|(_, text)| text.contains(line));
    lines.filter(only_ours).map(str::to_owned).collect()
}

#[test]
fn the_binary_has_flash_decoding_if_and_only_if_the_feature_is_on() {
    let binary = fs::read(std::env::current_exe().unwrap()).unwrap();
    let has = |text: &String| binary.windows(text.len()).any(|window| window == text.as_bytes());
    let lines = shader_lines();
    assert!(lines.len() > 30, "only {} lines", lines.len());
    let names = [
        joined(&["sdpa.flash", "decoding"], "_"), // the route
        joined(&["sdpa", "split"], "_"),          // labels of its shaders
        joined(&["sdpa", "merge"], "_"),
        joined(&["4sdpa", "decode"], "6"), // symbols of its module
    ];
    for text in names.iter().chain(&lines) {
        assert_eq!(has(text), BUILT, "`{text}`");
    }
}

/// Whether attention is computed for a single query.
fn decodes(case: &Case) -> bool {
    let Ok(live) = case.live() else { return false };
    case.graph.nodes.iter().any(|node| {
        let queries = |from_end: usize| {
            let dims = &live.dims[node.args[0].index()];
            dims[dims.len() - from_end] == 1
        };
        match node.op.as_str() {
            "sdpa_with_kv_cache.default" | "custom_sdpa.default" | "llama.custom_sdpa.default" => queries(3),
            "et_vk.sdpa.default" => queries(2),
            _ => false,
        }
    })
}

#[test]
fn decoding_passes_without_flash_decoding() {
    let gpu = open();
    let route = joined(&["sdpa.flash", "decoding"], "_");
    let options = LowerOptions { avoid: vec![route.clone()], ..LowerOptions::default() };
    let (mut ran, mut failures) = (0, Vec::new());
    for case in sdpa::cases::all().into_iter().filter(decodes) {
        let live = case.live().unwrap();
        let Ok(lowered) = lower(&case, &live, gpu.caps(), &options) else { continue };
        assert!(!taken(&lowered).contains(&route.as_str()), "{}", case.name);
        let (want, _) = reference(&case);
        let got = run(&gpu, &case, &live, &lowered);
        let right = got.and_then(|got| got.iter().zip(&want).try_for_each(|(g, w)| compare(g, w)));
        failures.extend(right.err().map(|error| format!("{}: {error}", case.name)));
        ran += 1;
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(ran >= 40, "only {ran} cases");
}

#[test]
fn it_is_the_first_choice_where_it_is_built() {
    let gpu = open();
    let mut took = 0;
    for case in sdpa::cases::all().into_iter().filter(decodes) {
        let lowered = lower(&case, &case.live().unwrap(), gpu.caps(), &LowerOptions::default());
        let Ok(lowered) = lowered else { continue };
        took += usize::from(taken(&lowered).contains(&joined(&["sdpa.flash", "decoding"], "_").as_str()));
    }
    assert_eq!(took > 30, BUILT, "{took} cases");
}
