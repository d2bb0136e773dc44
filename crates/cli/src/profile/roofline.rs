//! A roofline picture: each kernel's arithmetic per byte against what it achieves, below what the device can do.

use std::fmt::Write as _;

use super::measurement::Measurement;
use super::table::{Row, rows};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// Kernels that get a label; the others are too short to matter.
const LABELS: usize = 12;

/// Logarithmic axes in powers of ten: operations a byte, and TFLOP/s.
struct Axes {
    x: (i32, i32),
    y: (i32, i32),
}

impl Axes {
    fn of(points: &[Point<'_>], ceilings: &[f64], ridge: f64) -> Self {
        let xs = points.iter().map(|p| p.intensity).chain([ridge]);
        let ys = points.iter().map(|p| p.flops).chain(ceilings.iter().copied());
        Self { x: decades(xs), y: decades(ys) }
    }

    fn at(&self, intensity: f64, flops: f64) -> (f64, f64) {
        let place = |value: f64, (low, high): (i32, i32)| {
            (value.log10() - f64::from(low)) / f64::from(high - low).max(1.0)
        };
        let x = LEFT + place(intensity, self.x) * (WIDTH - LEFT - RIGHT);
        let y = HEIGHT - BOTTOM - place(flops, self.y) * (HEIGHT - TOP - BOTTOM);
        (x, y)
    }
}

/// Powers of ten that hold every value, at least one apart.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (low, high) = values
        .filter(|v| v.is_finite() && *v > 0.0)
        .map(f64::log10)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0, 1);
    }
    let (low, high) = (low.floor() as i32, high.ceil() as i32);
    (low, high.max(low + 1))
}

/// A kernel in the picture.
struct Point<'a> {
    row: &'a Row,
    intensity: f64,
    flops: f64,
    share: f64,
}

/// The picture. Kernels that compute nothing, such as copies, have no place in it and are left out.
pub fn svg(measurement: &Measurement) -> String {
    let limits = &measurement.limits;
    let all = rows(&measurement.kernels.launches);
    let total: f64 = all.iter().map(|row| row.us).sum();
    let drawn = all.iter().filter(|row| row.operations > 0 && row.bytes > 0 && row.us > 0.0);
    let points: Vec<Point<'_>> = drawn
        .map(|row| Point {
            row,
            intensity: row.operations as f64 / row.bytes as f64,
            flops: row.flops(),
            share: row.us / total,
        })
        .collect();
    let mut ceilings = vec![("f32", limits.tflop_per_s)];
    ceilings.extend(limits.matrix_tflop_per_s.map(|m| ("matrices", m)));
    let heights: Vec<f64> = ceilings.iter().map(|c| c.1).collect();
    let axes = Axes::of(&points, &heights, limits.tflop_per_s * 1e3 / limits.gb_per_s);
    let mut text = frame(&axes, &measurement.program);
    for (name, ceiling) in ceilings {
        roof(&mut text, &axes, limits.gb_per_s, ceiling, name);
    }
    for (index, point) in points.iter().enumerate() {
        dot(&mut text, &axes, point, index < LABELS);
    }
    text + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn frame(axes: &Axes, title: &str) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    let bottom = HEIGHT - BOTTOM;
    for power in axes.x.0..=axes.x.1 {
        let (x, _) = axes.at(10f64.powi(power), 1.0);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            10f64.powi(power)
        );
    }
    for power in axes.y.0..=axes.y.1 {
        let (_, y) = axes.at(1.0, 10f64.powi(power));
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            10f64.powi(power)
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">operations a byte</text>\
         <text x=\"18\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 18 {:.1})\">TFLOP/s</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 14.0,
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    text
}

/// Memory up to the ridge, arithmetic from there.
fn roof(text: &mut String, axes: &Axes, gb_per_s: f64, tflop_per_s: f64, name: &str) {
    let ridge = tflop_per_s * 1e3 / gb_per_s;
    let floor = 10f64.powi(axes.y.0);
    let foot = floor * 1e3 / gb_per_s;
    let first = 10f64.powi(axes.x.0).max(foot);
    let (x0, y0) = axes.at(first, first * gb_per_s / 1e3);
    let end = 10f64.powi(axes.x.1).max(ridge);
    let ((x1, y1), (x2, y2)) = (axes.at(ridge, tflop_per_s), axes.at(end, tflop_per_s));
    let _ = writeln!(
        text,
        "<polyline points=\"{x0:.1},{y0:.1} {x1:.1},{y1:.1} {x2:.1},{y2:.1}\" fill=\"none\" stroke=\"#333\" \
         stroke-width=\"1.5\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}: {tflop_per_s:.2} TFLOP/s, \
         {gb_per_s:.0} GB/s</text>",
        x2 - 4.0,
        y2 - 6.0
    );
}

/// A disc whose area is the kernel's share of the time.
fn dot(text: &mut String, axes: &Axes, point: &Point<'_>, labelled: bool) {
    let (x, y) = axes.at(point.intensity, point.flops);
    let radius = 3.0 + 22.0 * point.share.sqrt();
    let colour = if point.row.matrix { "#c05020" } else { "#2060c0" };
    let name = escaped(&point.row.name());
    let _ = writeln!(
        text,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{colour}\" fill-opacity=\"0.5\">\
         <title>{name}: {:.1} us, {:.1} GB/s, {:.3} TFLOP/s</title></circle>",
        point.row.us,
        point.row.bandwidth(),
        point.row.flops()
    );
    if labelled {
        // Beside the disc, on the side where there is room.
        let (anchor, at) =
            if x > 0.7 * WIDTH { ("end", x - radius - 2.0) } else { ("start", x + radius + 2.0) };
        let _ =
            writeln!(text, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{name}</text>", y + 4.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_every_value() {
        assert_eq!(decades([0.5, 20.0].into_iter()), (-1, 2));
        assert_eq!(decades([10.0].into_iter()), (1, 2));
        assert_eq!(decades(std::iter::empty()), (0, 1));
        let axes = Axes { x: (0, 2), y: (-1, 1) };
        assert_eq!(axes.at(1.0, 0.1), (LEFT, HEIGHT - BOTTOM));
        assert_eq!(axes.at(100.0, 10.0), (WIDTH - RIGHT, TOP));
    }
}
