//! Times of launches out of timed passes, and how well they add up elsewhere.
//!
//! The model: a timed pass takes what its launches take among others in production, and one constant more. It drains
//! the device before and after, starts with cold caches, and writes two timestamps. The same work timed in two ways
//! gives the constant: all launches in one pass, and each in a pass of its own. Their times then add up to the one pass
//! by construction. Whether the model is true, windows of a few launches tell, which take no part in the fit.

use serde::{Deserialize, Serialize};

use crate::bench::median;

/// Microseconds that a launch counts at least, unless even the timed pass around it took less.
pub(super) const FLOOR_US: f64 = 0.2;

/// Times of launches without what timing them costs. All times are in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fit {
    /// What a timed pass costs.
    pub(super) timer_us: f64,
    /// Times in order.
    pub(super) launches: Vec<f64>,
    /// How many launches would be below the floor. The sum is too high by what lifts them.
    pub(super) lifted: usize,
}

/// What a timed pass costs, from the one pass of `single.len()` launches and from passes of one launch each; none where
/// there are fewer than two, and at least nothing.
///
/// This is the least-squares solution of as many equations as unknowns: it leaves no remainder.
pub(super) fn cost(whole: f64, single: &[f64]) -> Option<f64> {
    let passes_more = single.len().checked_sub(1).filter(|&more| more > 0)?;
    let cost = (single.iter().sum::<f64>() - whole) / passes_more as f64;
    cost.is_finite().then_some(cost.max(0.0))
}

impl Fit {
    /// Takes the cost of a timed pass off passes of one launch each.
    pub(super) fn new(single: &[f64], timer_us: f64) -> Self {
        let lifted = single.iter().filter(|&&time| time - timer_us < FLOOR_US.min(time)).count();
        let launches = single.iter().map(|&time| (time - timer_us).max(FLOOR_US.min(time))).collect();
        Self { timer_us, launches, lifted }
    }

    /// Holds the fit against passes of `size` consecutive launches each, the last of what is left. None where that would
    /// repeat what the fit is made from, or where not every window was measured.
    pub(super) fn check(&self, size: usize, measured: &[f64]) -> Option<Check> {
        if size < 2 || size >= self.launches.len() || measured.len() != self.launches.len().div_ceil(size) {
            return None;
        }
        let window = |((at, launches), &us): ((usize, &[f64]), &f64)| {
            let predicted_us = launches.iter().sum::<f64>() + self.timer_us;
            Window { first: at * size, launches: launches.len(), us, predicted_us }
        };
        let windows = self.launches.chunks(size).enumerate().zip(measured).map(window);
        Some(Check { launches: size, windows: windows.filter(|window| window.launches > 1).collect() })
    }
}

/// Windows of launches that were timed but took no part in the fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Launches that each holds, but for the last.
    pub launches: usize,
    /// In order; never one launch alone.
    pub windows: Vec<Window>,
}

/// A timed pass of some launches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its first launch, among those with workgroups.
    pub first: usize,
    /// How many.
    pub launches: usize,
    /// What it took, in microseconds; a median.
    pub us: f64,
    /// What its launches' times and the cost of a timed pass add up to.
    pub predicted_us: f64,
}

impl Window {
    /// Prediction over measurement, less one.
    pub fn error(&self) -> f64 {
        self.predicted_us / self.us.max(f64::MIN_POSITIVE) - 1.0
    }
}

impl Check {
    /// What all windows took.
    pub fn us(&self) -> f64 {
        self.windows.iter().map(|window| window.us).sum()
    }

    /// What they are predicted to take.
    pub fn predicted_us(&self) -> f64 {
        self.windows.iter().map(|window| window.predicted_us).sum()
    }

    /// The middle of the windows' errors, whatever their signs.
    pub fn median_error(&self) -> f64 {
        median(&mut self.windows.iter().map(|window| window.error().abs()).collect::<Vec<_>>())
    }

    /// The window that is predicted worst.
    pub fn worst(&self) -> Option<&Window> {
        self.windows.iter().max_by(|a, b| a.error().abs().total_cmp(&b.error().abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Launches between 1 and 12 us, the same every time.
    fn times(count: usize) -> Vec<f64> {
        (0..count).map(|i| 1.0 + (i * 7 % 23) as f64 / 2.0).collect()
    }

    /// A linear congruential generator.
    struct Random(u64);

    impl Random {
        /// From nothing to one.
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        /// The median of nine measurements of a time: 3 % either way, one in eight far too long.
        fn measured(&mut self, time: f64) -> f64 {
            let mut once = || {
                let disturbed = if self.next() < 0.125 { 20.0 } else { 0.0 };
                time * (0.97 + 0.06 * self.next()) + disturbed
            };
            median(&mut (0..9).map(|_| once()).collect::<Vec<_>>())
        }
    }

    /// Passes of `size` launches when a pass costs `cost` of its first launch's position and of its launches' times.
    fn passes(times: &[f64], size: usize, cost: impl Fn(usize, &[f64]) -> f64) -> Vec<f64> {
        let windows = times.chunks(size).enumerate();
        windows.map(|(at, window)| window.iter().sum::<f64>() + cost(at * size, window)).collect()
    }

    fn fit(times: &[f64], cost_of: impl Fn(usize, &[f64]) -> f64 + Copy) -> Fit {
        let single = passes(times, 1, cost_of);
        let whole = passes(times, times.len(), cost_of)[0];
        Fit::new(&single, cost(whole, &single).unwrap())
    }

    fn close(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() <= within, "{a} is not {b} within {within}");
    }

    #[test]
    fn a_constant_cost_is_found_and_every_window_foretold() {
        let times = times(85);
        let constant = |_: usize, _: &[f64]| 4.4;
        let fit = fit(&times, constant);
        close(fit.timer_us, 4.4, 1e-9);
        fit.launches.iter().zip(&times).for_each(|(a, b)| close(*a, *b, 1e-9));
        assert_eq!(fit.lifted, 0);
        for (size, windows) in [(2, 42), (4, 21), (8, 11), (84, 1)] {
            let check = fit.check(size, &passes(&times, size, constant)).unwrap();
            assert_eq!(check.windows.len(), windows, "the 85th launch alone is no window");
            close(check.worst().unwrap().error(), 0.0, 1e-9);
        }
        let last = fit.check(8, &passes(&times, 8, constant)).unwrap().windows.pop().unwrap();
        assert_eq!((last.first, last.launches), (80, 5));
    }

    #[test]
    fn noise_is_no_more_than_noise_in_the_result() {
        let (times, mut random) = (times(85), Random(1));
        let mut measured = |size| -> Vec<f64> {
            passes(&times, size, |_, _| 4.4).into_iter().map(|time| random.measured(time)).collect()
        };
        let (whole, single) = (measured(85)[0], measured(1));
        let fit = Fit::new(&single, cost(whole, &single).unwrap());
        close(fit.timer_us, 4.4, 0.3);
        close(fit.launches.iter().sum::<f64>() / times.iter().sum::<f64>(), 1.0, 0.03);
        fit.launches.iter().zip(&times).for_each(|(a, b)| close(*a, *b, 0.8));
        for size in [2, 4, 8] {
            let check = fit.check(size, &measured(size)).unwrap();
            assert!(check.median_error() < 0.02 && check.worst().unwrap().error().abs() < 0.06, "{check:?}");
            close(check.predicted_us() / check.us(), 1.0, 0.02);
        }
    }

    #[test]
    fn costs_that_differ_from_pass_to_pass_show_in_the_windows() {
        let times = times(85);
        let by_launch = |first: usize, _: &[f64]| if first < 40 { 9.0 } else { 3.0 };
        let fit = fit(&times, by_launch);
        let sum: f64 = fit.launches.iter().sum();
        close(sum / times.iter().sum::<f64>(), 1.0, 0.1); // The sum alone would not tell.
        let check = fit.check(4, &passes(&times, 4, by_launch)).unwrap();
        assert!(check.median_error() > 0.1 && check.worst().unwrap().error().abs() > 0.25, "{check:?}");
    }

    #[test]
    fn a_cost_of_the_long_pass_alone_shows_in_the_sum_of_windows() {
        let times = times(85);
        let long = |_: usize, window: &[f64]| if window.len() == 85 { 204.4 } else { 4.4 };
        let fit = fit(&times, long);
        let check = fit.check(4, &passes(&times, 4, long)).unwrap();
        assert!(check.predicted_us() / check.us() > 1.15, "{check:?}");
    }

    #[test]
    fn launches_below_the_floor_are_lifted_counted_and_summed() {
        let single = [4.0, 4.1, 14.0, 0.1];
        let fit = Fit::new(&single, 4.0);
        assert_eq!((fit.launches[0], fit.launches[1], fit.launches[2]), (FLOOR_US, FLOOR_US, 10.0));
        assert_eq!(fit.launches[3], 0.1, "no more than it was measured to take");
        assert_eq!(fit.lifted, 3);
        assert!(fit.launches.iter().sum::<f64>() > single.iter().sum::<f64>() - 4.0 * 4.0);
        assert_eq!(Fit::new(&[0.1, 3.0], 0.0).lifted, 0);
    }

    #[test]
    fn what_cannot_be_told_is_not() {
        assert_eq!(cost(5.0, &[5.0]), None);
        assert_eq!(cost(0.0, &[]), None);
        assert_eq!(cost(f64::NAN, &[1.0, 2.0]), None);
        assert_eq!(cost(10.0, &[4.0, 4.0]), Some(0.0), "timing saves no time");
        let fit = Fit::new(&[1.0; 4], 0.5);
        assert_eq!(fit.check(4, &[3.0]), None, "this is what the cost came from");
        assert_eq!(fit.check(1, &[1.0; 4]), None);
        assert_eq!(fit.check(2, &[]), None, "a device that stopped timing");
        assert_eq!(Fit::new(&[1.0; 3], 0.5).check(2, &[1.5, 1.0]).unwrap().windows.len(), 1);
    }
}
