//! Figures drawn as SVG: for a page, whose style sheet may recolour the classes, and for a paper.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::figure::{EXTENT, Figure, Lines, Matrix, Picture, Pictures, Plot, Scatter};
use super::raster;

/// Ten colours that colour-blind readers can tell apart (Petroff, "Accessible color sequences for data visualization",
/// 2021).
pub const COLORS: [&str; 10] =
    ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];
/// Dashes of the curves beyond the tenth, and of those beyond the twentieth.
const DASHES: [&str; 3] = ["", "1 3", "8 3 1 3"];
const INK: &str = "#222222";
const FAINT: &str = "#c8c8c8";

/// Left, top, right and bottom edge of the area inside the axes.
const AREA: [f64; 4] = [66.0, 14.0, 520.0, 296.0];

/// The figure as a document of its own, with its legend.
pub fn document(figure: &Figure) -> String {
    let (size, body) = drawing(&figure.plot);
    wrap(figure, size, &body)
}

/// The figure for the page, which makes legends of buttons.
pub fn inline(figure: &Figure) -> String {
    let (size, body) = match &figure.plot {
        Plot::Lines(lines) => chart(lines),
        plot => drawing(plot),
    };
    wrap(figure, size, &body)
}

fn drawing(plot: &Plot) -> ([f64; 2], String) {
    match plot {
        Plot::Lines(lines) => chart_with_legend(lines),
        Plot::Matrix(matrix) => self::matrix(matrix),
        Plot::Scatter(scatter) => self::scatter(scatter),
        Plot::Pictures(pictures) => self::pictures(pictures),
    }
}

fn wrap(figure: &Figure, [width, height]: [f64; 2], body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"Roboto, Helvetica, Arial, sans-serif\" font-size=\"12\" role=\"img\" \
         aria-label=\"{}\">\n{body}</svg>\n",
        escape(&figure.title)
    )
}

/// Text as it may stand in XML and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn text(out: &mut String, [x, y]: [f64; 2], anchor: &str, extra: &str, content: &str) {
    let content = escape(content);
    let _ = writeln!(
        out,
        "<text class=\"ink\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{INK}\"{extra}>{content}</text>"
    );
}

/// About as wide as Roboto at 12 pixels, a little more.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.6
}

/// The names of the series in order, each once: the legend's entries.
pub fn names(lines: &Lines) -> Vec<&str> {
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

fn chart(lines: &Lines) -> ([f64; 2], String) {
    let names = names(lines);
    let [left, top, right, bottom] = AREA;
    let points = || lines.series.iter().flat_map(|series| &series.points);
    let xs: Vec<f64> = points().map(|point| point.0).collect();
    let spread = |series: &super::figure::Series| -> Vec<f64> {
        let of = |(i, point): (usize, &(f64, f64))| {
            let half = series.half_widths.get(i).copied().unwrap_or(0.0);
            [point.1 - half, point.1 + half]
        };
        series.points.iter().enumerate().flat_map(of).collect()
    };
    let ys = lines.series.iter().flat_map(spread).chain(lines.level.iter().map(|level| level.0)).chain(lines.y.shows);
    let (mut y_ticks, decimals) = ticks(extent(ys));
    y_ticks.retain(|y| (lines.y.limits[0]..=lines.y.limits[1]).contains(y));
    let (x_ticks, x_decimals) = if lines.x.log { (distinct(&xs), 0) } else { whole_ticks(extent(xs.into_iter())) };
    let (x_low, x_high) = if lines.x.log {
        let (low, high) = extent(x_ticks.iter().copied());
        (low / 1.15, high * 1.15)
    } else {
        extent(points().map(|point| point.0))
    };
    let (y_low, y_high) = (y_ticks[0], y_ticks[y_ticks.len() - 1]);
    let scale = |x: f64| if lines.x.log { libm::log(x) } else { x };
    let at_x = |x: f64| left + (scale(x) - scale(x_low)) / (scale(x_high) - scale(x_low)) * (right - left);
    let at_y = |y: f64| bottom - (y - y_low) / (y_high - y_low) * (bottom - top);

    let mut out = format!(
        "<g class=\"area\" data-area=\"{left} {top} {right} {bottom}\" data-x=\"{x_low} {x_high}\" data-y=\"{y_low} \
         {y_high}\" data-log=\"{}\">\n",
        lines.x.log
    );
    for &y in &y_ticks {
        let at = at_y(y);
        let _ = writeln!(
            out,
            "<line class=\"faint\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{FAINT}\" \
             stroke-width=\"0.7\"/>"
        );
        text(&mut out, [left - 8.0, at + 4.0], "end", "", &number(y, decimals));
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
        // A label that would run into the one before it is left out.
        if at - text_width(&label) / 2.0 > free {
            text(&mut out, [at, bottom + 18.0], "middle", "", &label);
            free = at + text_width(&label) / 2.0 + 4.0;
        }
    }
    let _ = writeln!(out, "<path class=\"mark\" d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"{INK}\"/>");
    text(&mut out, [(left + right) / 2.0, bottom + 38.0], "middle", "", &lines.x.label);
    let turned = format!(" transform=\"rotate(-90 16 {:.1})\"", (top + bottom) / 2.0);
    text(&mut out, [16.0, (top + bottom) / 2.0], "middle", &turned, &lines.y.label);
    if let Some((y, what)) = &lines.level {
        let at = at_y(*y);
        let _ = writeln!(
            out,
            "<line class=\"mark\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{INK}\" \
             stroke-dasharray=\"2 3\"/>"
        );
        text(&mut out, [right - 4.0, at - 5.0], "end", "", what);
    }
    for series in &lines.series {
        let index = names.iter().position(|name| *name == series.name).unwrap_or(0);
        let (color, dash) = style(index);
        let dash = if series.train { "5 4" } else { dash };
        let (width, opacity) = if series.train { (1.2, 0.75) } else { (2.0, 1.0) };
        let _ = writeln!(out, "<g data-series=\"{index}\" data-train=\"{}\">", series.train);
        for (point, half) in series.points.iter().zip(&series.half_widths) {
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
        // Few points are measurements of their own, not steps of one curve.
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

fn chart_with_legend(lines: &Lines) -> ([f64; 2], String) {
    let ([width, height], mut out) = chart(lines);
    let names = names(lines);
    let mut entries: Vec<(&str, (&str, &str))> = names.iter().enumerate().map(|(i, name)| (*name, style(i))).collect();
    let is_train = |train: bool| lines.series.iter().any(|series| series.train == train);
    if is_train(true) && is_train(false) {
        entries.extend([("", ("none", "")), ("held out", ("#888888", "")), ("training", ("#888888", "5 4"))]);
    }
    let (x, mut y) = (width + 6.0, AREA[1] + 8.0);
    for (name, (color, dash)) in &entries {
        let dash = if dash.is_empty() { "none" } else { dash };
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {y:.1}h20\" stroke=\"{color}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"/>"
        );
        text(&mut out, [x + 26.0, y + 4.0], "start", "", name);
        y += 18.0;
    }
    let longest = entries.iter().map(|entry| text_width(entry.0)).fold(0.0, f64::max);
    ([x + 30.0 + longest, height.max(y)], out)
}

fn matrix(matrix: &Matrix) -> ([f64; 2], String) {
    let n = matrix.classes.len();
    let cell = if n <= 20 { 38.0 } else { 6.0 };
    let margin = matrix.classes.iter().map(|name| text_width(name)).fold(0.0, f64::max) + 30.0;
    let top = if n <= 20 { 20.0 } else { 8.0 };
    let side = n as f64 * cell;
    let mut out = String::new();
    for (i, (name, row)) in matrix.classes.iter().zip(&matrix.counts).enumerate() {
        let all: u32 = row.iter().sum();
        let y = top + i as f64 * cell;
        if n <= 20 {
            text(&mut out, [margin - 8.0, y + cell / 2.0 + 4.0], "end", "", name);
        }
        for (j, &count) in row.iter().enumerate() {
            let share = f64::from(count) / f64::from(all.max(1));
            let x = margin + j as f64 * cell;
            let title = format!("{name}, taken for {}: {count} of {all}", matrix.classes[j]);
            let _ = write!(
                out,
                "<g class=\"cell\"><title>{}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell}\" \
                 height=\"{cell}\" fill=\"{}\"/>",
                escape(&title),
                shade(share)
            );
            if n <= 20 && count > 0 {
                let ink = if share > 0.3 { "#ffffff" } else { INK };
                let _ = write!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"{ink}\">{count}\
                     </text>",
                    x + cell / 2.0,
                    y + cell / 2.0 + 4.0
                );
            }
            out += "</g>\n";
        }
    }
    let bottom = top + side;
    let mut height = bottom + 30.0;
    if n <= 20 {
        for (j, name) in matrix.classes.iter().enumerate() {
            let (x, y) = (margin + (j as f64 + 0.5) * cell + 4.0, bottom + 10.0);
            text(&mut out, [x, y], "end", &format!(" transform=\"rotate(-45 {x:.1} {y:.1})\""), name);
        }
        height = bottom + (margin - 30.0) * 0.75 + 36.0;
    }
    text(&mut out, [margin + side / 2.0, height - 6.0], "middle", "", "taken for");
    let turned = format!(" transform=\"rotate(-90 12 {:.1})\"", top + side / 2.0);
    text(&mut out, [12.0, top + side / 2.0], "middle", &turned, "class");
    ([margin + side + 12.0, height], out)
}

/// From white to dark blue: lightness alone tells the share.
fn shade(share: f64) -> String {
    let mix = |from: f64, to: f64| (from + (to - from) * share.sqrt()) as u8;
    format!("#{:02x}{:02x}{:02x}", mix(250.0, 8.0), mix(250.0, 48.0), mix(250.0, 107.0))
}

fn scatter(scatter: &Scatter) -> ([f64; 2], String) {
    let (side, margin) = (560.0, 10.0);
    let mut out = String::new();
    let at = |value: u16| margin + f64::from(value) / f64::from(EXTENT) * side;
    let radius = if scatter.points.len() > 3000 { 2.2 } else { 3.6 };
    for (class, _) in scatter.classes.iter().enumerate() {
        let points = scatter.points.iter().zip(&scatter.labels).filter(|(_, label)| usize::from(**label) == class);
        let dots: String = points.map(|(&[x, y], _)| format!("M{:.1} {:.1}h0", at(x), at(y))).collect();
        if !dots.is_empty() {
            let _ = writeln!(
                out,
                "<path d=\"{dots}\" stroke=\"{}\" stroke-width=\"{radius}\" stroke-linecap=\"round\" \
                 stroke-opacity=\"0.7\"/>",
                COLORS[class % COLORS.len()]
            );
        }
    }
    // More classes than colours: a legend would say nothing.
    if scatter.classes.len() > COLORS.len() {
        return ([side + 2.0 * margin; 2], out);
    }
    let legend = scatter.classes.iter().map(|name| text_width(name)).fold(0.0, f64::max);
    for (class, name) in scatter.classes.iter().enumerate() {
        let (x, y) = (side + 2.0 * margin + 16.0, margin + 14.0 + class as f64 * 20.0);
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{}\"/>", COLORS[class]);
        text(&mut out, [x + 12.0, y + 4.0], "start", "", name);
    }
    ([side + 2.0 * margin + 36.0 + legend, side + 2.0 * margin], out)
}

fn pictures(pictures: &Pictures) -> ([f64; 2], String) {
    let side = pictures.rows.iter().flatten().map(|picture| picture.side).max().unwrap_or(0) * pictures.scale;
    let captions = pictures.rows.iter().flatten().any(|picture| !picture.caption.is_empty());
    let (gap, top) = (8.0, if pictures.columns.is_empty() { 8.0 } else { 26.0 });
    let (wide, high) = (side as f64 + gap, side as f64 + gap + if captions { 13.0 } else { 0.0 });
    let mut out = String::new();
    let mut column = 0;
    for (title, span) in &pictures.columns {
        let x = gap + wide * (column as f64 + *span as f64 / 2.0) - gap / 2.0;
        text(&mut out, [x, 16.0], "middle", "", title);
        column += span;
    }
    for (i, row) in pictures.rows.iter().enumerate() {
        for (j, picture) in row.iter().enumerate() {
            let (x, y) = (gap + wide * j as f64, top + high * i as f64);
            image(&mut out, [x, y], side, picture);
            if !picture.caption.is_empty() {
                let middle = [x + side as f64 / 2.0, y + side as f64 + 11.0];
                text(&mut out, middle, "middle", " font-size=\"9.5\"", &picture.caption);
            }
        }
    }
    let columns = pictures.rows.iter().map(Vec::len).max().unwrap_or(0);
    ([gap + wide * columns as f64, top + high * pictures.rows.len() as f64 + gap / 2.0], out)
}

fn image(out: &mut String, [x, y]: [f64; 2], side: usize, picture: &Picture) {
    let png = STANDARD.encode(raster::png(&picture.rgb, picture.side, picture.side));
    let _ = writeln!(
        out,
        "<image x=\"{x:.1}\" y=\"{y:.1}\" width=\"{side}\" height=\"{side}\" style=\"image-rendering:pixelated\" \
         href=\"data:image/png;base64,{png}\"/>"
    );
    // By dash as well as by colour.
    let (color, dash) = match picture.right {
        None => return,
        Some(true) => (COLORS[0], "none"),
        Some(false) => (COLORS[6], "4 3"),
    };
    let _ = writeln!(
        out,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{side}\" height=\"{side}\" fill=\"none\" stroke=\"{color}\" \
         stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"/>",
        x, y
    );
}

/// Smallest and largest, a little apart where they are one.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    if low > high {
        (0.0, 1.0)
    } else if low == high {
        (low - 0.5, high + 0.5)
    } else {
        (low, high)
    }
}

fn distinct(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// Round numbers that enclose the extent, four to eight of them, and their decimals.
fn ticks((low, high): (f64, f64)) -> (Vec<f64>, usize) {
    let (steps, decimals) = step(low, high);
    // A bound that is a round number but for rounding is the first or last itself.
    let [first, last] = [(low / steps + 1e-9).floor(), (high / steps - 1e-9).ceil()];
    ((0..=(last - first) as usize).map(|i| (first + i as f64) * steps).collect(), decimals)
}

/// Whole numbers inside the extent.
fn whole_ticks((low, high): (f64, f64)) -> (Vec<f64>, usize) {
    let steps = step(low, high).0.max(1.0);
    let first = (low / steps).ceil();
    ((0..=((high / steps).floor() - first).max(0.0) as usize).map(|i| (first + i as f64) * steps).collect(), 0)
}

/// 1, 2 or 5 times a power of ten, so that four to eight of it make the extent; and its decimals.
fn step(low: f64, high: f64) -> (f64, usize) {
    let rough = (high - low) / 6.0;
    let power = libm::floor(libm::log10(rough));
    let unit = libm::pow(10.0, power);
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * unit >= rough * 0.999).unwrap_or(10.0);
    let step = factor * unit;
    (step, (-libm::floor(libm::log10(step) + 1e-9)).max(0.0) as usize)
}

fn number(value: f64, decimals: usize) -> String {
    // No "-0".
    format!("{:.decimals$}", value + 0.0).replace('-', "−")
}

/// "50,000"
fn thousands(digits: &str) -> String {
    let whole = digits.chars().all(|c| c.is_ascii_digit());
    match digits.len() {
        n if whole && n > 3 => format!("{},{}", &digits[..n - 3], &digits[n - 3..]),
        _ => digits.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn what_people_wrote_cannot_leave_its_place() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
