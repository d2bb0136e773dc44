//! Exported models against their goldens, without ExecuTorch: for machines that only have a GPU.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use etwgpu_runtime::{Knobs, Session, analyse};

use crate::host::Arguments;
use crate::npy::Array;
use crate::pte::Pte;

/// Part of a model's name, absolute, relative and Frobenius tolerance; the first that matches holds.
const TOLERANCES: &[(&str, f64, f64, f64)] = &[
    ("8da4w_dyn_fp16", 0.0, 0.0, 2.5e-2),
    ("fp16", 2e-3, 1e-2, 5e-3),
    ("8da4w", 1e-3, 1e-3, 5e-3),
    ("", 1e-4, 1e-3, 0.0),
];

/// Runs every model below `folder` whose name contains one of `names`; prints a line each, and the counts.
pub fn check(folder: &Path, names: &[String]) -> Result<bool> {
    let mut models: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(|e| Some(e.ok()?.path())).collect();
    models.retain(|path| path.join("model.pte").exists());
    models.sort();
    let (mut passed, mut failed) = (0, 0);
    for model in models {
        let name = model.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !names.is_empty() && !names.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        match run(&model, &name) {
            Ok(figures) => {
                passed += 1;
                println!("pass {name}: {figures}");
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error:#}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

fn run(model: &Path, name: &str) -> Result<String> {
    let pte = Pte::open(&model.join("model.pte"))?;
    let program = pte.program()?;
    let [delegate] = &program.methods.first().context("no method")?.delegates[..] else {
        bail!("not one delegate")
    };
    let knobs = Knobs::resolve(&delegate.compile_specs, &[]);
    let graph = analyse(delegate.processed, &knobs.passes())?.graph;
    let mut session = Session::load(delegate.processed, &knobs, &mut &program)?;
    let (_, atol, rtol, frobenius) = *TOLERANCES.iter().find(|t| name.contains(t.0)).context("tolerance")?;
    let (mut worst, mut worst_norm, mut steps) = (0.0f64, 0.0f64, 0);
    while model.join(format!("step{steps}_in_0.npy")).exists() {
        let inputs = arrays(model, steps, "in")?;
        let count = inputs.len();
        let mut arguments = Arguments::new(&graph, inputs);
        session.run(&mut arguments).with_context(|| format!("step {steps}"))?;
        for (index, want) in arrays(model, steps, "out")?.iter().enumerate() {
            let same = arguments.arrays[count..].iter().filter(|a| a.sizes == want.sizes);
            let errors = same.map(|got| Error::of(&got.values(), &want.values(), atol, rtol));
            let best = errors.min_by(|a, b| a.max.total_cmp(&b.max)).with_context(|| {
                let sizes: Vec<_> = arguments.arrays[count..].iter().map(|a| &a.sizes).collect();
                format!("step {steps} output {index}: sizes {sizes:?}, expected {:?}", want.sizes)
            })?;
            worst = worst.max(best.max);
            worst_norm = worst_norm.max(best.norm);
            if best.off > 0 && best.norm > frobenius {
                bail!(
                    "step {steps} output {index}: {} elements off, max {:.3e}, frobenius {:.3e}",
                    best.off,
                    best.max,
                    best.norm
                );
            }
        }
        steps += 1;
    }
    if steps == 0 {
        bail!("no steps");
    }
    Ok(format!("{steps} steps, max abs {worst:.2e}, frobenius {worst_norm:.2e}"))
}

fn arrays(model: &Path, step: usize, kind: &str) -> Result<Vec<Array>> {
    let path = |index: usize| model.join(format!("step{step}_{kind}_{index}.npy"));
    (0..).map(path).take_while(|p| p.exists()).map(|p| Array::read(&p)).collect()
}

struct Error {
    max: f64,
    norm: f64,
    off: usize,
}

impl Error {
    fn of(got: &[f64], want: &[f64], atol: f64, rtol: f64) -> Self {
        let mut error = Self { max: 0.0, norm: 0.0, off: 0 };
        let mut squares = 0.0;
        for (g, w) in got.iter().zip(want) {
            let difference = if g.is_finite() { (g - w).abs() } else { f64::INFINITY };
            error.max = error.max.max(difference);
            error.off += usize::from(difference > atol && difference > rtol * w.abs());
            error.norm += difference * difference;
            squares += w * w;
        }
        error.norm = (error.norm / squares.max(1e-60)).sqrt();
        error
    }
}
