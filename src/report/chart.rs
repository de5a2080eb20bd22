//! Curves over two axes, drawn as SVG: ticks, levels, intervals, legend.

use std::fmt::Write;

use super::figure::{LARGEST, Lines, Series};
use super::svg::{COLORS, FAINT, INK};
use super::text::{self, Label};

/// Dashes of the first ten curves, of the next ten, and so on.
pub const DASHES: [&str; 6] = ["", "1 3", "8 3 1 3", "12 4", "8 3 1 3 1 3", "2 6"];
/// Pixels that a name in the legend may take.
const NAME: f64 = 300.0;

/// Left, top, right and bottom edge of the area inside the axes.
const AREA: [f64; 4] = [66.0, 14.0, 520.0, 296.0];

/// The names of the series in order, each once: the legend's entries.
fn names(lines: &Lines) -> Vec<&str> {
    let mut names: Vec<&str> = vec![];
    for series in &lines.series {
        if !names.contains(&&*series.name) {
            names.push(&series.name);
        }
    }
    names
}

/// The colour and dash of the legend's entry at `index`.
fn style(index: usize) -> (&'static str, &'static str) {
    (COLORS[index % COLORS.len()], DASHES[index / COLORS.len() % DASHES.len()])
}

/// Curves and axes: the size, and what is in it.
pub fn chart(lines: &Lines) -> ([f64; 2], String) {
    let names = names(lines);
    let [left, top, right, bottom] = AREA;
    // What a logarithm takes, or what can be subtracted.
    let least = if lines.x.log { LARGEST.recip() } else { -LARGEST };
    let x_of = |x: f64| x.clamp(least, LARGEST);
    let xs: Vec<f64> = lines.series.iter().flat_map(|series| &series.points).map(|point| x_of(point.0)).collect();
    let spread = |series: &Series| -> Vec<f64> {
        let of = |(i, point): (usize, &(f64, f64))| {
            let half = series.half_widths.get(i).copied().flatten().unwrap_or(0.0);
            [point.1 - half, point.1 + half]
        };
        series.points.iter().enumerate().flat_map(of).collect()
    };
    let ys = lines.series.iter().flat_map(spread).chain(lines.level.iter().map(|level| level.0)).chain(lines.y.shows);
    let [lowest, highest] = lines.y.limits;
    let (mut y_ticks, decimals) = ticks(extent(ys.map(|y| y.clamp(lowest, highest))));
    y_ticks.retain(|y| (lowest..=highest).contains(y));
    let (low, high) = extent(xs.iter().copied());
    let (x_ticks, x_decimals) =
        if lines.x.log { (distinct(&xs), decimals_of(1.0, high)) } else { whole_ticks((low, high)) };
    let (x_low, x_high) = if lines.x.log { (low.max(least) / 1.15, high * 1.15) } else { (low, high) };
    let (y_low, y_high) = (y_ticks[0], y_ticks[y_ticks.len() - 1]);
    let scale = |x: f64| if lines.x.log { libm::log(x) } else { x };
    let at_x = |x: f64| left + (scale(x_of(x)) - scale(x_low)) / (scale(x_high) - scale(x_low)) * (right - left);
    // An interval may reach beyond the possible values: it is drawn up to the end of the axis.
    let at_y = |y: f64| bottom - (y.clamp(lowest, highest) - y_low) / (y_high - y_low) * (bottom - top);

    let mut out =
        format!("<g class=\"area\" data-area=\"{left} {top} {right} {bottom}\" data-x=\"{x_low} {x_high}\">\n");
    for &y in &y_ticks {
        let at = at_y(y);
        let _ = writeln!(
            out,
            "<line class=\"faint\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{FAINT}\" \
             stroke-width=\"0.7\"/>"
        );
        Label { anchor: "end", ..Label::at(left - 8.0, at + 4.0) }.write(&mut out, &number(y, decimals));
    }
    let mut free = f64::MIN;
    for &x in &x_ticks {
        let label = thousands(&number(x, x_decimals));
        let at = at_x(x);
        let _ = writeln!(
            out,
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{:.1}\" stroke=\"{INK}\"/>",
            bottom + 4.0
        );
        // Not a label that would touch the one before.
        let half = text::width(&label, 12.0) / 2.0;
        if at - half > free {
            Label { anchor: "middle", ..Label::at(at, bottom + 18.0) }.write(&mut out, &label);
            free = at + half + 4.0;
        }
    }
    let _ = writeln!(out, "<path class=\"mark\" d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"{INK}\"/>");
    Label { anchor: "middle", ..Label::at((left + right) / 2.0, bottom + 38.0) }.write(&mut out, &lines.x.label);
    let y_label = Label { anchor: "middle", turn: -90.0, ..Label::at(16.0, (top + bottom) / 2.0) };
    y_label.write(&mut out, &lines.y.label);
    if let Some((y, what)) = &lines.level {
        let at = at_y(*y);
        let _ = writeln!(
            out,
            "<line class=\"mark\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{INK}\" \
             stroke-dasharray=\"2 3\"/>"
        );
        Label { anchor: "end", ..Label::at(right - 4.0, at - 5.0) }.write(&mut out, what);
    }
    for series in &lines.series {
        let index = names.iter().position(|name| *name == series.name).unwrap_or(0);
        let (color, dash) = style(index);
        let dash = if series.train { "5 4" } else { dash };
        let (width, opacity) = if series.train { (1.2, 0.75) } else { (2.0, 1.0) };
        let _ = writeln!(out, "<g data-series=\"{index}\">");
        for (point, half) in series.points.iter().zip(&series.half_widths) {
            let Some(half) = half else { continue };
            let (x, low, high) = (at_x(point.0), at_y(point.1 - half), at_y(point.1 + half));
            let _ = writeln!(out, "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{color}\" stroke-width=\"1.2\"/>");
        }
        let path: Vec<String> = series.points.iter().map(|&(x, y)| format!("{:.1} {:.1}", at_x(x), at_y(y))).collect();
        let _ = writeln!(
            out,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" stroke-opacity=\"{opacity}\" \
             stroke-linejoin=\"round\"{}/>",
            path.join("L"),
            if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") }
        );
        // Few points are single measurements rather than a curve.
        if series.points.len() <= 10 {
            for &(x, y) in &series.points {
                let _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"/>", at_x(x), at_y(y));
            }
        }
        out += "</g>\n";
    }
    out += "</g>\n";
    ([right + 16.0, bottom + 48.0], out)
}

/// [`chart`] with its legend beside it.
pub fn chart_with_legend(lines: &Lines) -> ([f64; 2], String) {
    let ([width, height], mut out) = chart(lines);
    let names = names(lines);
    let mut entries: Vec<(&str, (&str, &str))> = names.iter().enumerate().map(|(i, name)| (*name, style(i))).collect();
    let is_train = |train: bool| lines.series.iter().any(|series| series.train == train);
    if is_train(true) && is_train(false) {
        entries.extend([
            ("", ("none", "")),
            ("after the epoch", ("#888888", "")),
            ("during training", ("#888888", "5 4")),
        ]);
    }
    let (x, mut y) = (width + 6.0, AREA[1] + 8.0);
    for (name, (color, dash)) in &entries {
        let dash = if dash.is_empty() { "none" } else { dash };
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {y:.1}h20\" stroke=\"{color}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"/>"
        );
        Label { room: NAME, ..Label::at(x + 26.0, y + 4.0) }.write(&mut out, name);
        y += 18.0;
    }
    let longest = entries.iter().map(|entry| text::width(entry.0, 12.0).min(NAME)).fold(0.0, f64::max);
    ([x + 30.0 + longest, height.max(y)], out)
}

/// Smallest and largest of values up to [`LARGEST`], apart where they are one but for rounding.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    let largest = low.abs().max(high.abs());
    if low > high {
        (0.0, 1.0)
    } else if high - low > (largest * 1e-12).max(LARGEST.recip()) {
        (low, high)
    } else {
        let apart = (largest * 1e-9).max(0.5);
        (low - apart, high + apart)
    }
}

fn distinct(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// Round numbers that enclose the extent, four to eight of them, and their decimals.
fn ticks((low, high): (f64, f64)) -> (Vec<f64>, Option<usize>) {
    let step = step(low, high);
    // A bound that is a round number but for rounding is the first or last itself.
    let [first, last] = [(low / step + 1e-9).floor(), (high / step - 1e-9).ceil()];
    let ticks = (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect();
    (ticks, decimals_of(step, low.abs().max(high.abs())))
}

/// Whole numbers inside the extent.
fn whole_ticks((low, high): (f64, f64)) -> (Vec<f64>, Option<usize>) {
    let step = step(low, high).max(1.0);
    let [first, last] = [(low / step).ceil(), (high / step).floor()];
    let n = if last < first { 0 } else { (last - first) as usize + 1 };
    ((0..n).map(|i| (first + i as f64) * step).collect(), decimals_of(1.0, low.abs().max(high.abs())))
}

/// 1, 2 or 5 times a power of ten, so that four to eight of it make the extent.
fn step(low: f64, high: f64) -> f64 {
    let rough = (high - low) / 6.0;
    let power = libm::floor(libm::log10(rough));
    let unit = libm::pow(10.0, power);
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * unit >= rough * 0.999).unwrap_or(10.0);
    factor * unit
}

/// The decimals of multiples of `step`; none where the largest is too long for an axis, or too small.
fn decimals_of(step: f64, largest: f64) -> Option<usize> {
    (1e-6..1e9).contains(&largest).then(|| (-libm::floor(libm::log10(step) + 1e-9)).max(0.0) as usize)
}

/// With so many decimals; with none given, in powers of ten: "1.5e17".
fn number(value: f64, decimals: Option<usize>) -> String {
    let digits = match decimals {
        // No "-0".
        Some(decimals) => format!("{:.decimals$}", value + 0.0),
        None if value == 0.0 => "0".to_owned(),
        // More digits than two ticks have in common, fewer than rounding leaves.
        None => {
            let exact = format!("{value:.13e}");
            let (digits, power) = exact.split_once('e').unwrap_or((&exact, "0"));
            format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
    };
    digits.replace('-', "−")
}

/// "50,000"
fn thousands(digits: &str) -> String {
    match digits.len() {
        n if n > 3 && digits.chars().all(|c| c.is_ascii_digit()) => {
            format!("{},{}", thousands(&digits[..n - 3]), &digits[n - 3..])
        }
        _ => digits.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::figure::Axis;

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let of = |low: f64, high: f64| {
            let (ticks, decimals) = ticks((low, high));
            ticks.iter().map(|&tick| number(tick, decimals)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(0.0, 0.0221), "0.000 0.005 0.010 0.015 0.020 0.025");
        assert_eq!(of(31.0, 99.2), "20 40 60 80 100");
        assert_eq!(of(-0.73, -0.44), "−0.75 −0.70 −0.65 −0.60 −0.55 −0.50 −0.45 −0.40");
        assert_eq!(of(0.0, 100.0), "0 20 40 60 80 100");
        assert_eq!(of(1.0, 1.0 + 1e-9).split(' ').count(), 6, "{}", of(1.0, 1.0 + 1e-9));
        assert_eq!(whole_ticks((1.0, 5.0)).0, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(whole_ticks((1.0, 50.0)).0, [10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(thousands("1234567"), "1,234,567");
    }

    #[test]
    fn very_large_and_very_small_values_have_short_ticks() {
        let of = |values: &[f64]| {
            let (ticks, decimals) = ticks(extent(values.iter().copied()));
            ticks.iter().map(|&tick| number(tick, decimals)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&[1e17]), "9.99999999e16 9.999999995e16 1e17 1.0000000005e17 1.000000001e17");
        assert_eq!(of(&[0.0, 1e300]), "0 2e299 4e299 6e299 8e299 1e300");
        assert_eq!(of(&[-3e-8, 0.0]), "−3e−8 −2.5e−8 −2e−8 −1.5e−8 −1e−8 −5e−9 0");
        assert_eq!(of(&[5e-324, -5e-324]), of(&[0.0]), "no other than 0");
        assert_eq!(of(&[0.25, 0.25 + 1e-16]), of(&[0.25]));
    }

    /// Every finite number: its bits at random, and the ends of the range often.
    fn finite() -> impl Strategy<Value = f64> {
        let ends = [0.0, -0.0, 1e17, 1e308, -1e308, f64::MAX, f64::MIN, 5e-324, -5e-324, f64::MIN_POSITIVE, 0.5, 100.0];
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
            prop::sample::select(ends.to_vec()),
        ]
    }

    proptest! {
        #[test]
        fn any_finite_values_are_drawn_inside_the_axes(
            points in prop::collection::vec((finite(), finite()), 0..6),
            half in prop::option::of(finite()),
            level in prop::option::of(finite()),
            shows in prop::option::of(finite()),
            [log, percent, equal] in any::<[bool; 3]>(),
        ) {
            let points = if equal { vec![points.first().copied().unwrap_or_default(); points.len()] } else { points };
            let half_widths = vec![half; points.len()];
            let series = vec![Series { name: "a".to_owned(), train: false, points, half_widths }];
            let y = if percent { Axis::percent("y") } else { Axis { shows, ..Axis::new("y") } };
            let x = Axis { log, ..Axis::new("x") };
            let drawn = chart_with_legend(&Lines { x, y, series, level: level.map(|y| (y, "b".to_owned())) }).1;
            prop_assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
            let labels = drawn.matches("text-anchor=\"end\"").count();
            prop_assert!((2..=10).contains(&(labels - usize::from(level.is_some()))), "{drawn}");
            let [left, top, right, bottom] = AREA;
            let paths = drawn.split(" d=\"M").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0));
            // Neither axes, nor a bar, nor the legend.
            for path in paths.filter(|path| !path.contains(['H', 'V', 'h'])) {
                for point in path.split('L').filter(|point| !point.is_empty()) {
                    let (x, y) = point.split_once(' ').unwrap();
                    let [x, y] = [x, y].map(|at| at.parse::<f64>().unwrap());
                    prop_assert!((left - 0.1..=right + 0.1).contains(&x) && (top - 0.1..=bottom + 0.1).contains(&y), "{drawn}");
                }
            }
        }
    }

    /// Two seeds 70 points apart give an interval of ± 445 points.
    #[test]
    fn an_interval_stays_inside_the_axes() {
        let series = Series {
            name: "a".to_owned(),
            train: false,
            points: vec![(250.0, 20.0), (500.0, 55.0)],
            half_widths: vec![None, Some(444.7)],
        };
        let y = Axis::percent("accuracy");
        let drawn = chart(&Lines { x: Axis::new("labels"), y, series: vec![series], level: None }).1;
        assert!(!drawn.contains("NaN") && drawn.contains(">100</text>"), "{drawn}");
        let [_, top, right, bottom] = AREA;
        let bar = format!("<path d=\"M{right:.1} {bottom:.1}V{top:.1}\"");
        assert!(drawn.contains(&bar) && drawn.matches("stroke-width=\"1.2\"").count() == 1, "{drawn}");
    }
}
