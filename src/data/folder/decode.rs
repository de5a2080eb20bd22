//! A file's image as the networks get it.

use std::fmt::Display;
use std::io::Cursor;
use std::path::Path;
use std::str::FromStr;

use image::imageops::{FilterType, crop_imm, resize};
use image::{ColorType, DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use serde::de::{Deserialize, Deserializer, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use super::budget::Budget;
use crate::files;

/// Pixels that a picture can have, and that all threads together decode at once; one of 16 bits a channel counts as two.
/// A picture takes up to about ten times as many bytes of memory, and a file of a few kilobytes can ask for them. Today's
/// largest cameras have just under so many.
pub(super) static PIXELS: Budget = Budget::new(200_000_000);
/// The longest side, in pixels, as in a JPEG or GIF: decoders hold whole rows.
const MAX_SIDE: u32 = 65_535;
/// Bytes of files that all threads together hold at once, and so of one file.
pub(super) static BYTES: Budget = Budget::new(1 << 30);
/// Bytes that a decoder can take for anything but pixels: colour profiles, remarks, tables.
const BESIDES: u64 = 64 << 20;

/// The colour behind transparent pixels: red, green, blue. White unless given. As text `white`, `black` or `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Background(pub [u8; 3]);

impl Default for Background {
    fn default() -> Background {
        Background([255; 3])
    }
}

impl Background {
    const EXPECTED: &str = "white, black, or \"#rrggbb\" in quotes";
}

impl FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Background, String> {
        let hex = match text {
            "white" => "ffffff",
            "black" => "000000",
            _ => text.strip_prefix('#').unwrap_or_default(),
        };
        let digits = hex.len() == 6 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
        let value = u32::from_str_radix(hex, 16).ok().filter(|_| digits);
        let [_, rgb @ ..] = value.ok_or_else(|| format!("expected {}", Background::EXPECTED))?.to_be_bytes();
        Ok(Background(rgb))
    }
}

impl Display for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.0 {
            [255, 255, 255] => f.write_str("white"),
            [0, 0, 0] => f.write_str("black"),
            [r, g, b] => write!(f, "#{r:02x}{g:02x}{b:02x}"),
        }
    }
}

impl Serialize for Background {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Background {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Background, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Background;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(Background::EXPECTED)
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Background, E> {
                value.parse().map_err(|_| E::invalid_value(Unexpected::Str(value), &self))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// The image in the file as planes, in `out`, [3, side, side]; or what is wrong with it.
pub(super) fn decode(path: &Path, background: Background, side: usize, out: &mut [u8]) -> Result<(), String> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let bad = |e: image::ImageError| format!("is not an image that can be read: {e}");
    let _held = BYTES.take(path.metadata().map_err(unreadable)?.len());
    let bytes = files::read(path, BYTES.all).map_err(unreadable)?;
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(unreadable)?;
    if reader.format() == Some(ImageFormat::Jpeg) && !ends(&bytes) {
        return Err("is cut off".to_owned());
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(BESIDES);
    // Nothing is decoded before the size is known to be bearable, and borne.
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(bad)?;
    let _held = PIXELS.take(cost(decoder.dimensions(), decoder.color_type())?);
    limits.max_alloc = Some(2 * decoder.total_bytes() + BESIDES);
    decoder.set_limits(limits).map_err(bad)?;
    let orientation = decoder.orientation().map_err(bad)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(bad)?;
    image.apply_orientation(orientation);
    let image = composite(image, background);
    let (width, height) = image.dimensions();
    let least = width.min(height);
    let square = crop_imm(&image, (width - least) / 2, (height - least) / 2, least, least);
    let small = resize(&*square, side as u32, side as u32, FilterType::Triangle);
    for (at, pixel) in small.pixels().enumerate() {
        for (channel, value) in pixel.0.into_iter().enumerate() {
            out[channel * side * side + at] = value;
        }
    }
    Ok(())
}

/// What a picture takes of [`PIXELS`]; or why it is not read.
pub(super) fn cost((width, height): (u32, u32), color: ColorType) -> Result<u64, String> {
    let depth: u64 = match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => 1,
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => 2,
        // Nothing says which number is white.
        _ => return Err("has floating-point pixels: save it with 8 or 16 bits a channel".to_owned()),
    };
    let pixels = depth.saturating_mul(u64::from(width) * u64::from(height));
    if pixels > PIXELS.all || width.max(height) > MAX_SIDE {
        let most = PIXELS.all / 1_000_000 / depth;
        let deep = if depth == 2 { " of 16 bits a channel" } else { "" };
        return Err(format!(
            "has {width} × {height} pixels{deep}; at most {most} million are read, {MAX_SIDE} on a side: make it smaller"
        ));
    }
    Ok(pixels)
}

/// Opaque, with 8 bits a channel. With transparency, of 8 or 16 bits, each channel is (colour · alpha + background · (full
/// − alpha)) / full in integers, rounded to the nearest; 16 bits then become 8 as they do in an opaque image. Colours are
/// taken as stored, neither made linear nor multiplied by alpha before.
fn composite(image: DynamicImage, Background(ground): Background) -> RgbImage {
    let over =
        |color: u64, alpha: u64, ground: u64, full: u64| (color * alpha + ground * (full - alpha) + full / 2) / full;
    match image {
        image if !image.color().has_alpha() => image.into_rgb8(),
        DynamicImage::ImageRgba8(_) | DynamicImage::ImageLumaA8(_) => {
            let image = image.into_rgba8();
            RgbImage::from_fn(image.width(), image.height(), |x, y| {
                let [r, g, b, alpha] = image.get_pixel(x, y).0.map(u64::from);
                let [red, green, blue] = ground.map(u64::from);
                Rgb([(r, red), (g, green), (b, blue)].map(|(color, ground)| over(color, alpha, ground, 255) as u8))
            })
        }
        image => {
            let image = image.into_rgba16();
            let opaque = ImageBuffer::from_fn(image.width(), image.height(), |x, y| {
                let [r, g, b, alpha] = image.get_pixel(x, y).0.map(u64::from);
                let [red, green, blue] = ground.map(|level| u64::from(level) * 257);
                Rgb([(r, red), (g, green), (b, blue)].map(|(color, ground)| over(color, alpha, ground, 65_535) as u16))
            });
            DynamicImage::ImageRgb16(opaque).into_rgb8()
        }
    }
}

/// Whether a JPEG has its end: the decoder would fill up with grey what is missing. Goes from marker to marker (ITU-T
/// T.81, B.1.1): what lies in a segment, like a preview, or behind the end is none of its business.
fn ends(bytes: &[u8]) -> bool {
    const END: u8 = 0xD9;
    // The start has no length; nor have, in a scan, an escaped byte and a restart.
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD8 | 0xFF);
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(is_marker) {
        if rest[at + 1] == END {
            return true;
        }
        let segment = &rest[at + 2..];
        let length = segment.first_chunk().map_or(usize::MAX, |length| usize::from(u16::from_be_bytes(*length)));
        rest = segment.get(length..).unwrap_or_default();
    }
    false
}
