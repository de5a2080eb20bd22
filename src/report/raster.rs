//! Pixels: SVG as PNG, and images as PNG or JPEG.

use std::sync::{Arc, LazyLock};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use resvg::tiny_skia::{Color, IntSize, Pixmap, Size, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::outline::ROBOTO;

/// Pixels of a PNG per unit of its SVG: sharp in print at the width of a column.
const SCALE: f32 = 3.0;
/// Pixels that neither side of a PNG exceeds: a large figure has fewer per unit.
const LARGEST: f32 = 4000.0;

/// Nothing of the system's: text is the same on every machine.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(ROBOTO.to_vec());
    Arc::new(fonts)
});

/// A drawing of [`super::svg`] on white.
///
/// # Panics
/// If it is not SVG.
pub fn render(svg: &str) -> Vec<u8> {
    let options = Options { fontdb: FONTS.clone(), font_family: "Roboto".to_owned(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).expect("our own SVG");
    let (scale, size) = scaled(tree.size()).expect("a drawing has a size");
    let mut pixels = Pixmap::new(size.width(), size.height()).expect("a drawing has a size");
    pixels.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    let rgb: Vec<u8> = pixels.data().as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
    png(&rgb, size.width() as usize, size.height() as usize)
}

/// How many pixels it has a unit, and in all.
fn scaled(size: Size) -> Option<(f32, IntSize)> {
    let scale = SCALE.min(LARGEST / size.width().max(size.height()));
    Some((scale, size.to_int_size().scale_by(scale)?))
}

/// Width and height in pixels of a drawing of this size.
pub fn size_of([width, height]: [f32; 2]) -> Option<[u32; 2]> {
    let (_, size) = scaled(Size::from_wh(width, height)?)?;
    Some([size.width(), size.height()])
}

/// Width and height of a PNG of 8-bit colours; none for anything else.
pub fn png_size(bytes: &[u8]) -> Option<[u32; 2]> {
    let [width, height, rest] = [16, 20, 24].map(|at| bytes.get(at..at + 4));
    let number = |bytes: Option<&[u8]>| Some(u32::from_be_bytes(bytes?.try_into().ok()?));
    let is_ours = bytes.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR") && rest? == [8, 2, 0, 0];
    is_ours.then_some([number(width)?, number(height)?])
}

/// `rgb` [height, width, 3] as PNG.
pub fn png(rgb: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
    encoder.write_image(rgb, width as u32, height as u32, ExtendedColorType::Rgb8).expect("into memory");
    bytes
}

/// `rgb` [height, width, 3] as JPEG, of a quality from 1 to 100.
pub fn jpeg(rgb: &[u8], width: usize, height: usize, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    encoder.write_image(rgb, width as u32, height as u32, ExtendedColorType::Rgb8).expect("into memory");
    bytes
}
