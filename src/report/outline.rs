//! The outlines of text in any script, the same on every machine: from the fonts beside this file, shaped by harfrust.
//! Letters join, marks sit on their letters, and right-to-left text runs so.

use std::fmt::Write;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use harfrust::{Direction, GlyphBuffer, ShapeOptions, ShaperData, UnicodeBuffer};
use skrifa::outline::{DrawSettings, OutlinePen};
use skrifa::prelude::{FontRef, GlyphId, LocationRef, MetadataProvider, Size};
use unicode_bidi::BidiInfo;
use unicode_segmentation::UnicodeSegmentation;

/// Latin, Greek and Cyrillic.
pub const ROBOTO: &[u8] = include_bytes!("fonts/Roboto.ttf");

/// Roboto, then the fonts for what it lacks, in the order in which they are asked for a letter.
static FONTS: LazyLock<Vec<FontRef<'static>>> = LazyLock::new(|| {
    let mut archive = tar::Archive::new(GzDecoder::new(&include_bytes!("fonts/fallback.tar.gz")[..]));
    let read = |entry: std::io::Result<tar::Entry<_>>| {
        let mut bytes = vec![];
        entry.and_then(|mut entry| entry.read_to_end(&mut bytes)).expect("an archive of ours");
        &*bytes.leak()
    };
    let fallback: Vec<&[u8]> = archive.entries().expect("an archive of ours").map(read).collect();
    std::iter::once(ROBOTO).chain(fallback).map(|bytes| FontRef::new(bytes).expect("a font of ours")).collect()
});

/// Pixels of an outline's unit: a seventh of a pixel of the PNG.
pub const UNIT: f64 = 0.05;

/// Whether Roboto has it all.
pub fn is_plain(text: &str) -> bool {
    static LETTERS: LazyLock<FontRef> = LazyLock::new(|| FontRef::new(ROBOTO).expect("a font of ours"));
    text.chars().all(|c| LETTERS.charmap().map(c).is_some())
}

/// SVG path data of the outlines in [`UNIT`]s, from 0 on the baseline, and the width in pixels.
pub fn outline(text: &str, size: f64) -> (String, f64) {
    let (mut path, mut x) = (String::new(), 0.0);
    for piece in pieces(text) {
        piece.draw(size, x, &mut path);
        x += piece.width(size);
    }
    (path, x)
}

/// In pixels.
pub fn advance(text: &str, size: f64) -> f64 {
    pieces(text).iter().map(|piece| piece.width(size)).sum()
}

/// Part of a line in one font and one direction, shaped.
struct Piece {
    font: &'static FontRef<'static>,
    glyphs: GlyphBuffer,
}

impl Piece {
    fn new(font: usize, text: &str, direction: Direction) -> Piece {
        let font = &FONTS[font];
        let mut buffer = UnicodeBuffer::new();
        buffer.push_str(text);
        buffer.set_direction(direction);
        buffer.guess_segment_properties();
        let data = ShaperData::new(font);
        let glyphs = data.shaper(font).build().shape(buffer, ShapeOptions::new());
        Piece { font, glyphs }
    }

    /// Pixels per unit of the font.
    fn scale(&self, size: f64) -> f64 {
        let metrics = self.font.metrics(Size::unscaled(), LocationRef::default());
        size / f64::from(metrics.units_per_em)
    }

    fn width(&self, size: f64) -> f64 {
        let units: i64 = self.glyphs.glyph_positions().iter().map(|glyph| i64::from(glyph.x_advance)).sum();
        units as f64 * self.scale(size)
    }

    fn draw(&self, size: f64, x: f64, path: &mut String) {
        let (scale, outlines) = (self.scale(size), self.font.outline_glyphs());
        let mut pen = Pen { path, scale: scale / UNIT, x: x / scale, y: 0.0, last: [0, 0], command: 'z' };
        for (glyph, at) in self.glyphs.glyph_infos().iter().zip(self.glyphs.glyph_positions()) {
            let (x, [dx, dy]) = (pen.x, [at.x_offset, at.y_offset].map(f64::from));
            (pen.x, pen.y) = (x + dx, dy);
            if let Some(outline) = outlines.get(GlyphId::new(glyph.glyph_id)) {
                let settings = DrawSettings::unhinted(Size::unscaled(), LocationRef::default());
                outline.draw(settings, &mut pen).expect("a font of ours");
            }
            pen.x = x + f64::from(at.x_advance);
        }
    }
}

/// The line from left to right, in fonts that have its letters; a letter that none has as its code point: "[U+1FAE8]".
fn pieces(line: &str) -> Vec<Piece> {
    if is_plain(line) {
        return if line.is_empty() { vec![] } else { vec![Piece::new(0, line, Direction::LeftToRight)] };
    }
    let bidi = BidiInfo::new(line, None);
    let mut pieces = vec![];
    for paragraph in &bidi.paragraphs {
        let (levels, runs) = bidi.visual_runs(paragraph, paragraph.range.clone());
        for run in runs {
            let is_rtl = levels[run.start].is_rtl();
            let direction = if is_rtl { Direction::RightToLeft } else { Direction::LeftToRight };
            let mut parts: Vec<(usize, String, Direction)> = vec![];
            let mut push = |font: usize, text: &str, direction: Direction| match parts.last_mut() {
                Some(last) if (last.0, last.2) == (font, direction) => last.1.push_str(text),
                _ => parts.push((font, text.to_owned(), direction)),
            };
            for cluster in line[run].graphemes(true) {
                // A mark stays with its letter if one font has both.
                if let Some(font) = font_of(cluster) {
                    push(font, cluster, direction);
                    continue;
                }
                for c in cluster.chars() {
                    match font_of(c.encode_utf8(&mut [0; 4])) {
                        Some(font) => push(font, c.encode_utf8(&mut [0; 4]), direction),
                        None => push(0, &format!("[U+{:04X}]", u32::from(c)), Direction::LeftToRight),
                    }
                }
            }
            if is_rtl {
                parts.reverse();
            }
            pieces.extend(parts.iter().map(|(font, text, direction)| Piece::new(*font, text, *direction)));
        }
    }
    pieces
}

/// The first font that has all that is seen of `text`.
fn font_of(text: &str) -> Option<usize> {
    let has = |font: &FontRef| text.chars().all(|c| is_ignorable(c) || font.charmap().map(c).is_some());
    FONTS.iter().position(has)
}

/// Joiners, directions, variation selectors and tags: they change their neighbours and are not seen themselves.
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Writes outlines as path data, y downwards, moved by `x` and `y` units of the font. A page may have thousands of
/// names: points are relative to the one before, and nothing stands between numbers that a sign separates.
struct Pen<'a> {
    path: &'a mut String,
    scale: f64,
    x: f64,
    y: f64,
    /// Where the last command has ended, and its letter.
    last: [i64; 2],
    command: char,
}

impl Pen<'_> {
    fn point(&self, [x, y]: [f32; 2]) -> [i64; 2] {
        [self.x + f64::from(x), -(self.y + f64::from(y))].map(|units| (units * self.scale).round() as i64)
    }

    fn push<const N: usize>(&mut self, command: char, points: [[f32; 2]; N]) {
        let mut separator = if self.command == command { " " } else { "" };
        if self.command != command {
            self.path.push(command);
        }
        let mut end = self.last;
        for point in points {
            end = self.point(point);
            for (at, last) in end.into_iter().zip(self.last) {
                let _ = write!(self.path, "{}{}", if at < last { "" } else { separator }, at - last);
                separator = " ";
            }
        }
        (self.last, self.command) = (end, command);
    }
}

impl OutlinePen for Pen<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        let [x, y] = self.point([x, y]);
        let _ = write!(self.path, "M{x} {y}");
        (self.last, self.command) = ([x, y], 'M');
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.push('l', [[x, y]]);
    }

    fn quad_to(&mut self, cx: f32, cy: f32, x: f32, y: f32) {
        self.push('q', [[cx, cy], [x, y]]);
    }

    fn curve_to(&mut self, cx: f32, cy: f32, dx: f32, dy: f32, x: f32, y: f32) {
        self.push('c', [[cx, cy], [dx, dy], [x, y]]);
    }

    fn close(&mut self) {
        self.path.push('z');
        self.command = 'z';
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// "cat" and the like. Where letters stand on each other or join, there are other glyphs than letters.
    pub const NAMES: [&str; 18] = [
        "кот",
        "γάτα",
        "mačka ṽ",
        "猫",
        "ねこ カメラ",
        "고양이",
        "قطة",
        "גָּמָל",
        "बिल्ली",
        "แมวน้ำ",
        "বিড়াল",
        "பூனை",
        "ဆင်",
        "🦊⚡👩‍🚀",
        "cat 猫 (قطة)",
        "x̂⃗",
        "ᏪᏌ",
        "𐌲𐌰𐍄",
    ];

    #[test]
    fn every_letter_has_a_glyph_with_an_outline() {
        for name in NAMES {
            for piece in pieces(name) {
                for info in piece.glyphs.glyph_infos() {
                    assert_ne!(info.glyph_id, 0, "{name}: a letter of which the font has nothing");
                }
            }
            let (outline, width) = outline(name, 10.0);
            // An em has 10 pixels; no letter here is broader than one and a half, none narrower than a fifth.
            let letters = name.graphemes(true).count() as f64;
            assert!(outline.len() > 50 && width > 2.0 * letters && width < 30.0 * letters, "{name}: {width} {outline}");
        }
    }

    #[test]
    fn letters_join_and_run_in_their_direction() {
        let glyphs = |text: &str| -> Vec<u32> {
            pieces(text).iter().flat_map(|piece| piece.glyphs.glyph_infos().iter().map(|info| info.glyph_id)).collect()
        };
        // The middle form of a letter is not the one that it has alone; the first letter stands last.
        let [beh, two] = [glyphs("ب"), glyphs("ببب")];
        assert!(two.len() == 3 && !two[..2].contains(&beh[0]) && two[0] != two[2], "{beh:?} {two:?}");
        assert_eq!(glyphs("אב"), [glyphs("ב"), glyphs("א")].concat());
        // A conjunct: ksha is one glyph of three characters.
        assert_eq!(glyphs("क्ष").len(), 1);
        // Between two words of the other direction a Latin one stands where it is read.
        assert_eq!(glyphs("א x ב"), [glyphs("ב"), glyphs(" "), glyphs("x"), glyphs(" "), glyphs("א")].concat());
    }

    #[test]
    fn a_letter_that_no_font_has_shows_its_code_point() {
        // For private use.
        assert_eq!(outline("\u{f8ff}", 12.0), outline("[U+F8FF]", 12.0));
        assert_eq!(outline("a\u{10fffd}", 12.0), outline("a[U+10FFFD]", 12.0));
    }
}
