//! Launches summed up by kernel, for reading.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::limits::Limits;
use super::measurement::{LaunchTime, Measurement};

/// Launches of one kernel with the same route and number of workgroups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Kernel.
    pub kernel: String,
    /// Route, or a dash.
    pub route: String,
    /// Workgroups of each launch.
    pub workgroups: u64,
    /// Launches.
    pub count: usize,
    /// Time of all, in microseconds.
    pub us: f64,
    /// Bytes that they must move at least.
    pub bytes: u64,
    /// Arithmetic operations.
    pub operations: u64,
    /// Whether they use cooperative matrices.
    pub matrix: bool,
}

impl Row {
    /// GB/s.
    pub fn bandwidth(&self) -> f64 {
        rate(self.bytes, self.us) / 1e3
    }

    /// TFLOP/s.
    pub fn flops(&self) -> f64 {
        rate(self.operations, self.us) / 1e6
    }

    /// Least possible time over the time it takes; above one where a cache serves what counts as memory.
    pub fn share_of_limit(&self, limits: &Limits) -> f64 {
        if self.us > 0.0 { limits.least_us(self.bytes, self.operations, self.matrix) / self.us } else { 0.0 }
    }

    /// Kernel and workgroups.
    pub fn name(&self) -> String {
        format!("{} x{}", self.kernel, self.workgroups)
    }
}

fn rate(count: u64, us: f64) -> f64 {
    if us > 0.0 { count as f64 / us } else { 0.0 }
}

/// Launches by kernel, route and workgroups, the longest time first.
pub fn rows(launches: &[LaunchTime]) -> Vec<Row> {
    let mut rows: BTreeMap<(String, String, u64), Row> = BTreeMap::new();
    for launch in launches {
        let route = launch.route.clone().unwrap_or_else(|| "-".into());
        let key = (launch.kernel.clone(), route.clone(), launch.workgroups());
        let row = rows.entry(key).or_insert_with(|| Row {
            kernel: launch.kernel.clone(),
            route,
            workgroups: launch.workgroups(),
            ..Row::default()
        });
        row.count += 1;
        row.us += launch.us;
        row.bytes += launch.bytes;
        row.operations += launch.operations;
        row.matrix |= launch.matrix;
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by(|a, b| b.us.total_cmp(&a.us));
    rows
}

/// The rows of launches; with limits, the share of them too.
pub fn lines(launches: &[LaunchTime], limits: Option<&Limits>) -> String {
    let rows = rows(launches);
    let total: f64 = rows.iter().map(|row| row.us).sum();
    let mut text = String::new();
    let of_limit = if limits.is_some() { "  of limit" } else { "" };
    let _ = writeln!(
        text,
        "{:>10} {:>6} {:>6} {:>9} {:>9} {:>9}{of_limit}  {:<32} route",
        "us", "share", "count", "us each", "GB/s", "TFLOP/s", "kernel"
    );
    for row in &rows {
        let share = limits.map(|limits| format!("  {:>6.1} %", 100.0 * row.share_of_limit(limits)));
        let _ = writeln!(
            text,
            "{:>10.1} {:>4.1} % {:>6} {:>9.2} {:>9.1} {:>9.4}{}  {:<32} {}",
            row.us,
            100.0 * row.us / total.max(f64::MIN_POSITIVE),
            row.count,
            row.us / row.count as f64,
            row.bandwidth(),
            row.flops(),
            share.unwrap_or_default(),
            row.name(),
            row.route
        );
    }
    text
}

/// The whole report.
pub fn table(measurement: &Measurement) -> String {
    let Measurement { program, device, inputs, runs, limits, run_us, kernels, .. } = measurement;
    let mut text = format!("{program}\non {device}\n");
    for (position, input) in inputs.iter().enumerate() {
        let _ = writeln!(text, "input{position} {input}");
    }
    let matrix = limits.matrix_tflop_per_s.map(|m| format!(", {m:.1} TFLOP/s with matrices"));
    let _ = writeln!(
        text,
        "limits: {:.0} GB/s, {:.2} TFLOP/s{}",
        limits.gb_per_s,
        limits.tflop_per_s,
        matrix.unwrap_or_default()
    );
    let _ = writeln!(text, "a run: {run_us:.1} us on the host, medians of {runs} runs");
    text + &kernels.summary() + &lines(&kernels.launches, Some(limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(kernel: &str, us: f64, bytes: u64) -> LaunchTime {
        LaunchTime {
            kernel: kernel.into(),
            grid: [2, 3, 1],
            us,
            bytes,
            operations: 10,
            ..LaunchTime::default()
        }
    }

    #[test]
    fn kernels_are_summed_and_sorted_by_time() {
        let rows = rows(&[launch("a", 1.0, 1000), launch("b", 5.0, 10), launch("a", 1.0, 3000)]);
        assert_eq!(rows.iter().map(Row::name).collect::<Vec<_>>(), ["b x6", "a x6"]);
        let a = &rows[1];
        assert_eq!((a.count, a.us, a.bytes, a.operations), (2, 2.0, 4000, 20));
        assert_eq!(a.bandwidth(), 2.0);
        let limits = Limits { gb_per_s: 4.0, tflop_per_s: 1.0, matrix_tflop_per_s: None };
        assert_eq!(a.share_of_limit(&limits), 0.5, "half of what memory gives");
        let limits = Limits { gb_per_s: 4000.0, tflop_per_s: 1e-5, matrix_tflop_per_s: None };
        assert!((a.share_of_limit(&limits) - 1.0).abs() < 1e-9, "all that arithmetic gives");
    }
}
