//! A line of the table, and its figures.

use serde_json::{Value as Json, json};

use super::Times;
use super::problem::Problem;
use crate::profile::Limits;

/// Largest difference of two results, relative to the largest element of the first.
pub(super) fn difference(a: &[u8], b: &[u8]) -> f64 {
    let element = |bytes: &[u8]| f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    // A NaN stays one.
    let most = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
    let size = a.chunks_exact(4).map(|a| element(a).abs()).fold(0.0, most);
    let pairs = a.chunks_exact(4).zip(b.chunks_exact(4));
    pairs.map(|(a, b)| (element(a) - element(b)).abs()).fold(0.0, most) / size
}

/// Figures of one arm.
pub(super) struct Row<'a> {
    pub(super) problem: &'a Problem,
    pub(super) limits: &'a Limits,
    pub(super) arm: &'static str,
    pub(super) times: &'a Times,
    pub(super) naive: Option<f64>,
    /// How far its result is from the first arm's.
    pub(super) off: f64,
}

impl Row<'_> {
    fn gb_per_s(&self) -> f64 {
        self.problem.bytes() as f64 / self.times.us / 1e3
    }

    fn tflop_per_s(&self) -> f64 {
        self.problem.ops() as f64 / self.times.us / 1e6
    }

    /// Least time that the device could take, as a share of what it took.
    fn of_limit(&self) -> f64 {
        let matrices = self.arm.contains("coop");
        self.limits.least_us(self.problem.bytes(), self.problem.ops(), matrices) / self.times.us
    }

    pub(super) fn print(&self) {
        let Times { us, kernels, .. } = self.times;
        let parts: Vec<String> = kernels.iter().map(|(label, us)| format!("{label} {us:.1}")).collect();
        println!(
            "  {us:>9.1} {:>9.1} {:>8.1} {:>8.2} {:>8.1}% {:>8}  {} ({}){}",
            kernels.values().sum::<f64>(),
            self.gb_per_s(),
            self.tflop_per_s(),
            self.of_limit() * 100.0,
            self.naive.map_or("-".into(), |naive| format!("{:.2}", naive / us)),
            self.arm,
            parts.join(", "),
            if self.off <= 1e-2 { String::new() } else { format!(", RESULT OFF BY {:.1e}", self.off) }
        );
    }

    pub(super) fn json(&self) -> Json {
        let Problem { shape, seq, context, layers, pairs, apart, .. } = *self.problem;
        json!({
            "route": self.arm, "heads": shape.heads, "kv_heads": shape.kv_heads, "head_dim": shape.width,
            "cache": format!("{:?}", self.problem.cache).to_lowercase(), "queries": seq, "context": context,
            "layers": layers, "pairs_of_caches": pairs, "apart": apart,
            "us": self.times.us, "kernels_us": self.times.kernels,
            "gb_per_s": self.gb_per_s(), "tflop_per_s": self.tflop_per_s(), "of_limit": self.of_limit(),
            "x_naive": self.naive.map(|naive| naive / self.times.us), "largest_difference": self.off,
        })
    }
}
