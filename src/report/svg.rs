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
use crate::text::visible;

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

/// What a drawing begins with, but for its size.
const HEAD: [&str; 2] = [
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ",
    "font-family=\"Roboto, Helvetica, Arial, sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"",
];

fn wrap(figure: &Figure, [width, height]: [f64; 2], body: &str) -> String {
    format!(
        "{}{width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" {}{}\">\n{body}</svg>\n",
        HEAD[0],
        HEAD[1],
        escape(&figure.title)
    )
}

/// Width and height of a drawing; none for what begins otherwise.
pub fn size(svg: &[u8]) -> Option<[f32; 2]> {
    let line = svg.split(|&byte| byte == b'\n').next()?;
    let (size, rest) = std::str::from_utf8(line).ok()?.strip_prefix(HEAD[0])?.split_once('"')?;
    let (width, height) = size.split_once(' ')?;
    let named = format!(" width=\"{width}\" height=\"{height}\" {}", HEAD[1]);
    rest.starts_with(&named).then_some([width.parse().ok()?, height.parse().ok()?])
}

/// Text as it may stand on a line of XML and HTML: [`visible`], with U+FFFD for what else XML 1.0 forbids.
pub fn escape(text: &str) -> String {
    let text = visible(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
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
    use super::super::figure::{Pictures, Plot};
    use super::*;

    #[test]
    fn a_drawing_and_its_picture_tell_their_size() {
        let picture = Picture { side: 2, rgb: vec![0; 12], caption: String::new(), right: None };
        let plot = Plot::Pictures(Pictures { columns: vec![], rows: vec![vec![picture; 3]], size: 20 });
        let [id, title, caption] = [""; 3].map(str::to_owned);
        let svg = document(&Figure { id, title, caption, plot });
        // Three pictures of 20 and 8 between, before and after them; 8, 20, 8 and 4 from top to bottom.
        assert_eq!(size(svg.as_bytes()), Some([92.0, 40.0]));
        let pixels = raster::size_of([92.0, 40.0]);
        assert_eq!(pixels, Some([276, 120]));
        assert_eq!(raster::png_size(&raster::render(&svg)), pixels);
        for other in [svg.replace("Roboto", "Arial"), svg.replacen("92", "91", 1), format!(" {svg}"), String::new()] {
            assert_eq!(size(other.as_bytes()), None);
        }
        assert_eq!(raster::png_size(b"GIF89a"), None);
    }

    #[test]
    fn what_people_wrote_cannot_leave_its_place() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(escape("a\0\x07\u{ffff}\tb é 猫 😀"), "a\\u{0}\\u{7}\u{fffd}\\tb é 猫 😀");
        assert_eq!(escape("a\u{202e}b\n</title>"), r"a\u{202e}b\n&lt;/title&gt;");
    }
}
