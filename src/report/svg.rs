//! Figures drawn as SVG: for a page, whose style sheet may recolour the classes, and for a paper. Curves are drawn by
//! [`super::chart`], all others here.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::chart::{chart, chart_with_legend};
use super::figure::{EXTENT, Figure, Matrix, Picture, Pictures, Plot, Scatter};
use super::raster;

/// Ten colours that colour-blind readers can tell apart (Petroff, "Accessible color sequences for data visualization",
/// 2021).
pub const COLORS: [&str; 10] =
    ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];
pub const INK: &str = "#222222";
pub const FAINT: &str = "#c8c8c8";

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

/// Text as it may stand in XML and HTML; U+FFFD for a character that XML 1.0 forbids, as most of control.
pub fn escape(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let text = text.replace(|c| !allowed(c), "\u{fffd}");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A line of text.
pub fn text(out: &mut String, [x, y]: [f64; 2], anchor: &str, extra: &str, content: &str) {
    let content = escape(content);
    let _ = writeln!(
        out,
        "<text class=\"ink\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{INK}\"{extra}>{content}</text>"
    );
}

/// About as wide as Roboto at 12 pixels, a little more.
pub fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.6
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
                "<g><title>{}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell}\" \
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_cannot_leave_its_place() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(escape("a\0\x07\x1b\u{ffff}\tb é 猫 😀"), "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\tb é 猫 😀");
    }
}
