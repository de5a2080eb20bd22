//! Figures drawn as SVG: for the page, whose style sheet may recolour `ink`, `mark` and `faint`, and for a paper.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::chart::{chart, chart_with_legend};
use super::figure::{Figure, Picture, Plot};
use super::matrix::matrix;
use super::pictures::pictures;
use super::raster;
use super::scatter::scatter;

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
        Plot::Matrix(plot) => matrix(plot),
        Plot::Scatter(plot) => scatter(plot),
        Plot::Pictures(plot) => pictures(plot),
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

/// A picture and, where it is right or wrong, its frame.
pub fn image(out: &mut String, [x, y]: [f64; 2], side: f64, picture: &Picture) {
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
