//! Two measurements side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::measurement::Measurement;
use super::table::rows;

/// Kernels of two measurements, the largest difference first.
pub fn compare(before: &Measurement, after: &Measurement) -> String {
    let mut kernels: BTreeMap<(String, String), [(usize, f64); 2]> = BTreeMap::new();
    for (side, measurement) in [before, after].into_iter().enumerate() {
        for row in rows(&measurement.kernels.launches) {
            let entry = &mut kernels.entry((row.name(), row.route)).or_default()[side];
            *entry = (entry.0 + row.count, entry.1 + row.us);
        }
    }
    let mut kernels: Vec<_> = kernels.into_iter().collect();
    let change = |times: &[(usize, f64); 2]| times[1].1 - times[0].1;
    kernels.sort_by(|a, b| change(&b.1).abs().total_cmp(&change(&a.1).abs()));
    let mut text = format!(
        "before: {} on {}\nafter:  {} on {}\n",
        before.program, before.device, after.program, after.device
    );
    let mut line = |name: &str, a: f64, b: f64, counts: &str| {
        let ratio = if a > 0.0 { format!("{:>8.2}", b / a) } else { format!("{:>8}", "new") };
        let _ = writeln!(text, "{a:>11.1} {b:>11.1} {:>+11.1} {ratio} {counts:>12}  {name}", b - a);
    };
    line("the whole run on the host", before.run_us, after.run_us, "");
    if let (Some(a), Some(b)) = (before.kernels.pass_us, after.kernels.pass_us) {
        line("its pass on the GPU", a, b, "");
    }
    line("sum of kernels", before.kernels.us(), after.kernels.us(), "");
    for ((name, route), times) in &kernels {
        let [(count, a), (count_after, b)] = *times;
        line(&format!("{name}  {route}"), a, b, &format!("{count} -> {count_after}"));
    }
    let header = format!(
        "{:>11} {:>11} {:>11} {:>8} {:>12}  kernel and route\n",
        "before us", "after us", "difference", "ratio", "count"
    );
    let at = text.match_indices('\n').nth(1).map_or(0, |(at, _)| at + 1);
    text.insert_str(at, &header);
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Kernels, LaunchTime, Limits};
    use super::*;

    #[test]
    fn the_largest_difference_comes_first_and_new_kernels_are_marked() {
        let measurement = |launches: &[(&str, f64)]| Measurement {
            program: "p".into(),
            device: "d".into(),
            inputs: vec![],
            runs: 1,
            limits: Limits::default(),
            run_us: 10.0,
            phases: vec![],
            kernels: Kernels {
                launches: launches
                    .iter()
                    .map(|&(kernel, us)| LaunchTime { kernel: kernel.into(), us, ..LaunchTime::default() })
                    .collect(),
                ..Kernels::default()
            },
        };
        let text = compare(&measurement(&[("a", 5.0), ("b", 4.0)]), &measurement(&[("b", 1.0), ("c", 6.0)]));
        let kernels: Vec<&str> = text.lines().skip(5).collect();
        assert!(kernels[0].contains("new") && kernels[0].contains("c x0"), "{text}");
        assert!(kernels[1].contains("-5.0") && kernels[1].contains("1 -> 0"), "{text}");
        assert!(kernels[2].contains("0.25"), "{text}");
    }
}
