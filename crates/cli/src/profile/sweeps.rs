//! Times of launches out of timed passes that reach one launch further each.
//!
//! T(n) is the pass of the first n launches. What launch n takes among the others is T(n) - T(n-1): what begins and ends a
//! pass is in both. The two are measured one after the other, so a drifting clock drops out as well.

use std::time::{Duration, Instant};

use anyhow::Result;
use etwgpu_engine::Timing;
use serde::{Deserialize, Serialize};

use crate::bench::median;

/// Parts of a step that are measured from its end, too; at most.
const PARTS: usize = 8;

/// Time that sweeps may take, and how many are made even so.
const LIMIT: Duration = Duration::from_secs(30);
const LEAST: usize = 3;

/// Passes of a step, timed again and again. All times are in microseconds.
pub(super) struct Sweeps {
    /// T(n) from n = 0 to all launches; a row a sweep.
    firsts: Vec<Vec<f64>>,
    /// What is left behind each cut; a row a sweep.
    afters: Vec<Vec<f64>>,
    /// Launches before each cut: none, a part, two parts, ..., all.
    cuts: Vec<usize>,
    /// The one pass of production.
    passes: Vec<f64>,
}

/// A median over sweeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Middle {
    pub(super) us: f64,
    /// Half the distance between the quartiles over the root of the number of sweeps: about as far as the median may lie
    /// off, one time in two. None of a single sweep.
    pub(super) error_us: Option<f64>,
}

/// Consecutive launches, measured from both ends of the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its first launch, among those with workgroups.
    pub first: usize,
    /// How many.
    pub launches: usize,
    /// Sum of the launches' times.
    pub us: f64,
    /// The pass from its first launch to the end of the step, less the pass from behind its last one; a median.
    pub from_end_us: f64,
}

impl Sweeps {
    /// Sweeps over a step of `count` launches, `runs` times or as often as it fits; `timed` repeats the step and says what
    /// its timed pass took.
    pub(super) fn take(
        count: usize,
        runs: u32,
        mut timed: impl FnMut(Timing) -> Result<f64>,
    ) -> Result<Self> {
        let part = count.div_ceil(PARTS).max(1);
        let cuts: Vec<usize> = (0..count).step_by(part).chain([count]).collect();
        let mut all = Self { firsts: Vec::new(), afters: Vec::new(), cuts, passes: Vec::new() };
        let began = Instant::now();
        while again(all.count(), runs, began.elapsed()) {
            let (mut firsts, mut afters) = (Vec::new(), Vec::new());
            for n in 0..=count {
                firsts.push(timed(Timing::First(n))?);
                if all.cuts.contains(&n) {
                    afters.push(timed(Timing::After(n))?);
                    all.passes.push(timed(Timing::Pass)?);
                }
            }
            all.firsts.push(firsts);
            all.afters.push(afters);
        }
        Ok(all)
    }

    /// How many were made.
    pub(super) fn count(&self) -> usize {
        self.firsts.len()
    }

    /// The one pass of production, in runs that take no part in the launches' times.
    pub(super) fn pass_us(&self) -> f64 {
        median(&mut self.passes.clone())
    }

    /// By which part of itself that pass became longer from the first third of the sweeps to the last.
    pub(super) fn slowdown(&self) -> f64 {
        let third = self.passes.len().div_ceil(3);
        let ends = [&self.passes[..third], &self.passes[self.passes.len() - third..]];
        let [first, last] = ends.map(|passes| median(&mut passes.to_vec()));
        if first > 0.0 { last / first - 1.0 } else { 0.0 }
    }

    /// A pass with no launch in it.
    pub(super) fn empty_us(&self) -> f64 {
        median(&mut self.firsts.iter().map(|sweep| sweep[0]).collect::<Vec<_>>())
    }

    /// What each launch takes; below zero where noise is more than that.
    pub(super) fn launches(&self) -> Vec<Middle> {
        increases(&self.firsts).map(|mut increases| Middle::of(&mut increases)).collect()
    }

    /// Parts of the step, given the launches' times.
    pub(super) fn parts(&self, launches: &[f64]) -> Vec<Part> {
        let part = |(cuts, mut increases): (&[usize], Vec<f64>)| Part {
            first: cuts[0],
            launches: cuts[1] - cuts[0],
            us: launches[cuts[0]..cuts[1]].iter().sum(),
            from_end_us: -median(&mut increases),
        };
        self.cuts.windows(2).zip(increases(&self.afters)).map(part).collect()
    }
}

/// Whether to sweep once more.
fn again(sweeps: usize, runs: u32, spent: Duration) -> bool {
    let fits = spent.as_secs_f64() * (sweeps + 1) as f64 <= LIMIT.as_secs_f64() * sweeps as f64;
    sweeps < runs as usize && (sweeps < LEAST || fits)
}

/// From each column to the next: the differences in all rows.
fn increases(sweeps: &[Vec<f64>]) -> impl Iterator<Item = Vec<f64>> {
    let columns = sweeps.first().map_or(0, Vec::len);
    (1..columns).map(|n| sweeps.iter().map(|sweep| sweep[n] - sweep[n - 1]).collect())
}

impl Middle {
    fn of(times: &mut [f64]) -> Self {
        let us = median(times); // Which sorts them.
        let (count, quarter) = (times.len(), times.len() / 4);
        let error = || (times[count - 1 - quarter] - times[quarter]) / 2.0 / (count as f64).sqrt();
        Self { us, error_us: (count > 1).then(error) }
    }
}

impl Part {
    /// By how much the two measurements differ.
    pub fn off_us(&self) -> f64 {
        (self.us - self.from_end_us).abs()
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
    }

    /// Sweeps over a device where a timed pass costs something of its first launch and the one behind its last.
    fn sweeps(times: &[f64], runs: u32, mut cost: impl FnMut(usize, usize) -> f64) -> Sweeps {
        let timed = |timing| {
            let (from, to) = match timing {
                Timing::First(n) => (0, n),
                Timing::After(n) => (n, times.len()),
                _ => (0, times.len()),
            };
            Ok(times[from..to].iter().sum::<f64>() + cost(from, to))
        };
        Sweeps::take(times.len(), runs, timed).unwrap()
    }

    fn us(sweeps: &Sweeps) -> Vec<f64> {
        sweeps.launches().into_iter().map(|launch| launch.us).collect()
    }

    fn close(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() <= within, "{a} is not {b} within {within}");
    }

    fn all_close(a: &[f64], b: &[f64], within: f64) {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(a, b)| close(*a, *b, within));
    }

    #[test]
    fn what_begins_and_ends_a_pass_drops_out() {
        let times = times(85);
        let sweeps = sweeps(&times, 3, |_, _| 4.4);
        let launches = us(&sweeps);
        all_close(&launches, &times, 1e-9);
        close(sweeps.empty_us(), 4.4, 1e-9);
        close(sweeps.pass_us(), launches.iter().sum::<f64>() + 4.4, 1e-9);
        assert!(sweeps.launches().iter().all(|launch| launch.error_us.unwrap() < 1e-9));
        let parts = sweeps.parts(&launches);
        let shapes: Vec<_> = parts.iter().map(|part| (part.first, part.launches)).collect();
        assert_eq!(shapes[..2], [(0, 11), (11, 11)]);
        assert_eq!((shapes.len(), shapes[7]), (8, (77, 8)));
        parts.iter().for_each(|part| close(part.off_us(), 0.0, 1e-9));
    }

    #[test]
    fn a_cost_of_the_launch_that_a_pass_begins_with_drops_out_but_for_the_first() {
        let times = times(85);
        // A window of launches would cost 9 or 3 us of where it begins; an empty pass costs 2.
        let cost = |from: usize, to: usize| {
            if from == to {
                2.0
            } else if from < 40 {
                9.0
            } else {
                3.0
            }
        };
        let sweeps = sweeps(&times, 3, cost);
        let launches = us(&sweeps);
        all_close(&launches[1..], &times[1..], 1e-9);
        close(launches[0], times[0] + 7.0, 1e-9);
        close(sweeps.pass_us() - sweeps.empty_us(), launches.iter().sum(), 1e-9);
        let parts = sweeps.parts(&launches);
        let worst = parts.iter().map(Part::off_us).fold(0.0, f64::max);
        close(worst, 7.0, 1e-9); // The measurement from the end, which another cost is in, tells.
    }

    #[test]
    fn a_cost_of_the_number_of_launches_falls_on_those_that_raise_it() {
        let times = times(85);
        let cost = |from: usize, to: usize| 3.0 + 0.8 * (to - from).min(4) as f64;
        let launches = us(&sweeps(&times, 3, cost));
        all_close(&launches[4..], &times[4..], 1e-9);
        launches[..4].iter().zip(&times).for_each(|(a, b)| close(*a, b + 0.8, 1e-9));
    }

    #[test]
    fn a_cost_of_the_launch_that_a_pass_ends_with_moves_time_between_neighbours() {
        let times = times(85);
        let ends = |_: usize, to: usize| if to == 30 { 6.0 } else { 4.0 };
        let launches = us(&sweeps(&times, 3, ends));
        close(launches[29], times[29] + 2.0, 1e-9);
        close(launches[30], times[30] - 2.0, 1e-9);
        close(launches.iter().sum(), times.iter().sum(), 1e-9);
    }

    #[test]
    fn noise_is_no_more_than_noise_in_the_result_and_a_drifting_clock_is_none() {
        let (times, mut random, mut drift) = (times(85), Random(1), 0.0);
        // Half a microsecond either way, one run in eight far too long, and a device that slows down all the time.
        let noise = |_: usize, _: usize| {
            drift += 0.02;
            4.4 + drift + random.next() - 0.5 + if random.next() < 0.125 { 20.0 } else { 0.0 }
        };
        let sweeps = sweeps(&times, 20, noise);
        let launches = us(&sweeps);
        all_close(&launches, &times, 1.0);
        let sum: f64 = launches.iter().sum();
        close(sum / times.iter().sum::<f64>(), 1.0, 0.02);
        let within = |launch: &Middle, time: f64| (launch.us - time).abs() < launch.error_us.unwrap();
        let known =
            sweeps.launches().iter().zip(&times).filter(|(launch, time)| within(launch, **time)).count();
        assert!((25..=65).contains(&known), "about half of 85 lie within their error, not {known}");
        let parts = sweeps.parts(&launches);
        assert!(parts.iter().all(|part| part.off_us() < 0.05 * part.us), "{parts:?}");
    }

    #[test]
    fn a_device_that_slows_down_is_told() {
        let times = times(85);
        let total: f64 = times.iter().sum();
        let mut runs = 0;
        // Twice as slow in the last half of twelve sweeps: 86 passes from the start, 9 from cuts on, 9 whole ones.
        let slow = |from: usize, to: usize| {
            runs += 1;
            if runs > 6 * 104 { times[from..to].iter().sum() } else { 0.0 }
        };
        close(sweeps(&times, 12, slow).slowdown(), 1.0, 1e-9);
        close(sweeps(&times, 12, |_, _| total).slowdown(), 0.0, 1e-9);
        close(sweeps(&times, 1, |_, _| 4.4).slowdown(), 0.0, 1e-9);
    }

    #[test]
    fn one_sweep_of_one_launch_is_enough_and_has_no_error() {
        let sweeps = sweeps(&[7.0], 1, |_, _| 2.0);
        assert_eq!(sweeps.launches(), [Middle { us: 7.0, error_us: None }]);
        assert_eq!((sweeps.pass_us(), sweeps.empty_us(), sweeps.count()), (9.0, 2.0, 1));
        assert_eq!(sweeps.parts(&[7.0]), [Part { first: 0, launches: 1, us: 7.0, from_end_us: 7.0 }]);
    }

    #[test]
    fn an_error_is_half_the_distance_between_quartiles_over_the_root_of_the_count() {
        let mut times = [7.0, 1.0, 100.0, 3.0, 5.0, 9.0, 11.0, -50.0, 2.0];
        let error_us = Some((9.0 - 2.0) / 2.0 / 3.0);
        assert_eq!(Middle::of(&mut times), Middle { us: 5.0, error_us });
        assert_eq!(Middle::of(&mut [4.0, 1.0]).us, 2.5, "halfway between two in the middle");
    }

    #[test]
    fn sweeps_end_when_the_next_one_would_take_too_long_but_not_before_there_are_some() {
        let seconds = Duration::from_secs;
        assert!(again(0, 1, seconds(0)) && !again(1, 1, seconds(0)));
        assert!(again(2, 10, seconds(500)) && !again(3, 10, seconds(500)));
        assert!(again(5, 10, seconds(25)) && !again(5, 10, seconds(26)));
        assert!(!again(2, 2, seconds(0)));
    }
}
