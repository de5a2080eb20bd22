//! SimSiam's view: crop, flip, colour jitter, grayscale.

use super::crop::{CropBox, resized_crop};
use super::{color, geometry, hue};
use crate::rng::Stream;

/// One adjustment of the jitter: a factor, 1 for no change; for hue a share of the circle, 0 for no change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adjustment {
    /// 0 would be black.
    Brightness(f32),
    /// 0 would be gray, of the image's mean luma.
    Contrast(f32),
    /// 0 would be gray, of each pixel's luma.
    Saturation(f32),
    /// Red towards green where it is positive.
    Hue(f32),
}

impl Adjustment {
    fn apply(self, image: &mut [u8]) {
        match self {
            Adjustment::Brightness(factor) => color::brightness(image, factor),
            Adjustment::Contrast(factor) => color::contrast(image, factor),
            Adjustment::Saturation(factor) => color::saturation(image, factor),
            Adjustment::Hue(shift) => hue::hue(image, shift),
        }
    }
}

/// The four adjustments in the order in which they are applied.
pub type Jitter = [Adjustment; 4];

/// With probability 0.8 brightness, contrast and saturation by factors of 1 ± 0.4 · `strength` and hue by ± 0.1 · `strength`, in
/// random order; at most 2.
pub(super) fn draw_jitter(stream: &mut Stream, strength: f32) -> Option<Jitter> {
    stream.chance(0.8).then(|| {
        let (factor, shift) = (0.4 * strength, 0.1 * strength);
        let mut jitter = [
            Adjustment::Brightness(stream.uniform(1.0 - factor, 1.0 + factor)),
            Adjustment::Contrast(stream.uniform(1.0 - factor, 1.0 + factor)),
            Adjustment::Saturation(stream.uniform(1.0 - factor, 1.0 + factor)),
            Adjustment::Hue(stream.uniform(-shift, shift)),
        ];
        stream.shuffle(&mut jitter);
        jitter
    })
}

/// The adjustments, if any, in their order. `image` is [3, side, side].
pub fn jitter(image: &mut [u8], jitter: Option<&Jitter>) {
    jitter.into_iter().flatten().for_each(|adjustment| adjustment.apply(image));
}

/// All that is done to an image for one view of it.
///
/// ```
/// use fewlabel::augment::View;
/// use fewlabel::rng::{Purpose, Stream};
///
/// let data = fewlabel::data::synthetic(10, 10, 0);
/// // The first view of image 3 in the first epoch, with seed 0: always this one.
/// let view = View::draw(&mut Stream::new(0, Purpose::View1, 0, 3), data.train.side);
/// let mut pixels = vec![0; data.train.image_len()];
/// view.apply(data.train.image(3), &mut pixels);
/// # assert_eq!(view, View::draw(&mut Stream::new(0, Purpose::View1, 0, 3), 32));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The box that is cropped and resized to the whole image.
    pub crop: CropBox,
    /// Whether it is flipped horizontally.
    pub flip: bool,
    /// The colour jitter, if any.
    pub jitter: Option<Jitter>,
    /// Whether it is turned gray at the end.
    pub gray: bool,
}

impl View {
    /// The study's distribution, which is Chen and He's (2021, appendix A) without the blur, as on CIFAR-10
    /// (appendix D): crop of 0.2 to 1 of the area, flip with probability 0.5, with 0.8 a jitter of brightness, contrast
    /// and saturation 0.4 and hue 0.1 in random order, grayscale with 0.2. Of an image of `side` × `side` pixels.
    pub fn draw(stream: &mut Stream, side: usize) -> View {
        let crop = CropBox::draw(stream, side);
        let flip = stream.chance(0.5);
        let jitter = draw_jitter(stream, 1.0);
        View { crop, flip, jitter, gray: stream.chance(0.2) }
    }

    /// The view of `image`, both [3, side, side].
    pub fn apply(&self, image: &[u8], out: &mut [u8]) {
        resized_crop(image, self.crop, out);
        if self.flip {
            geometry::flip(out);
        }
        jitter(out, self.jitter.as_ref());
        if self.gray {
            color::grayscale(out);
        }
    }
}
