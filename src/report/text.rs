//! Text in figures: text where Roboto has its letters, so that it can be selected and any sans-serif font will do, and
//! outlines where a reader's fonts may lack them.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_segmentation::UnicodeSegmentation;

use super::outline::{UNIT, advance, is_plain, outline};
use super::svg::{INK, escape};
use crate::text::visible;

/// How much wider than in Roboto a text may be where a browser has only Arial or Helvetica.
const SLACK: f64 = 1.06;
const ELLIPSIS: &str = "…";

/// Where and how a line of text stands.
#[derive(Clone, Copy)]
pub struct Label {
    /// Of the baseline, at its start, middle or end as `anchor` says.
    pub at: [f64; 2],
    pub anchor: &'static str,
    pub size: f64,
    /// Clockwise around `at`, in degrees.
    pub turn: f64,
    /// A longer text is cut short, and has its whole in a `<title>`.
    pub room: f64,
}

impl Label {
    pub fn at(x: f64, y: f64) -> Label {
        Label { at: [x, y], anchor: "start", size: 12.0, turn: 0.0, room: f64::INFINITY }
    }

    /// Adds the text to a drawing.
    pub fn write(self, out: &mut String, text: &str) {
        let Label { at: [x, y], anchor, size, turn, room } = self;
        let text = &*visible(text);
        let shown = fitted(text, size, room);
        let title = if shown == text { String::new() } else { format!("<title>{}</title>", escape(text)) };
        let shown = &*shown;
        let attributes = format!("class=\"ink\" fill=\"{INK}\"");
        let _ = if is_plain(shown) {
            let turn = if turn == 0.0 { String::new() } else { format!(" transform=\"rotate({turn} {x:.1} {y:.1})\"") };
            let size = if size == 12.0 { String::new() } else { format!(" font-size=\"{size}\"") };
            writeln!(
                out,
                "<text {attributes} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{size}{turn}>{title}{}</text>",
                escape(shown)
            )
        } else {
            let (outline, width) = outline(shown, size);
            let left = width * ["start", "middle", "end"].iter().position(|a| *a == anchor).unwrap_or(0) as f64 / 2.0;
            let turn = if turn == 0.0 { String::new() } else { format!(" rotate({turn})") };
            writeln!(
                out,
                "<path {attributes} role=\"img\" aria-label=\"{}\" transform=\"translate({x:.1} {y:.1}){turn} \
                 translate(-{left:.1} 0) scale({UNIT})\" d=\"{outline}\">{title}</path>",
                escape(text)
            )
        };
    }
}

/// In pixels, as far as a reader's font is known.
pub fn width(text: &str, size: f64) -> f64 {
    let text = &*visible(text);
    let slack = if is_plain(text) { SLACK } else { 1.0 };
    advance(text, size) * slack
}

/// The text, or as much of its beginning as has `room` before an ellipsis.
pub fn fitted(text: &str, size: f64, room: f64) -> Cow<'_, str> {
    if width(text, size) <= room {
        return text.into();
    }
    let ends: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).collect();
    let short = |end: usize| format!("{}{ELLIPSIS}", text[..end].trim_end());
    let fits = ends.partition_point(|&end| width(&short(end), size) <= room);
    short(ends[fits.saturating_sub(1)]).into()
}

#[cfg(test)]
mod tests {
    use super::super::outline::tests::NAMES;
    use super::*;

    #[test]
    fn roboto_alone_leaves_text_as_it_is() {
        let drawn = |text: &str| {
            let mut out = String::new();
            Label { anchor: "middle", room: 60.0, ..Label::at(5.0, 7.0) }.write(&mut out, text);
            out
        };
        assert_eq!(
            drawn("Müller & Söhne's cat"),
            "<text class=\"ink\" fill=\"#222222\" x=\"5.0\" y=\"7.0\" text-anchor=\"middle\"><title>Müller &amp; Söhne's \
             cat</title>Müller &amp;…</text>\n"
        );
        assert!(
            drawn("猫\u{7}").starts_with("<path class=\"ink\" fill=\"#222222\" role=\"img\" aria-label=\"猫\\u{7}\"")
        );
    }

    #[test]
    fn what_is_cut_short_has_room() {
        for name in NAMES.map(|name| name.repeat(20)) {
            let shown = fitted(&name, 9.5, 64.0);
            assert!(width(&shown, 9.5) <= 64.0 && shown.ends_with('…'), "{name}: {shown}");
            assert!(width(&shown, 9.5) > 40.0, "{name}: as much as fits, {shown}");
        }
        assert_eq!(fitted("cat", 9.5, 64.0), "cat");
    }

    /// Advances of R, o, b and t in units of Roboto, 2048 an em: `hmtx` as fonttools prints it. Kerning takes a little.
    #[test]
    fn a_width_is_the_sum_of_the_advances() {
        let units = f64::from(1262 + 1168 + 1150 + 1168 + 670 + 1168);
        let found = width("Roboto", 2048.0) / SLACK;
        assert!((found - units).abs() < 40.0, "{found} for {units}");
    }
}
