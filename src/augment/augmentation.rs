//! What a stage does to the images that it trains on: which augmentations, how strong, and one drawn for an image.

use serde::{Deserialize, Serialize};

use super::place::{Square, cutout, shift};
use super::view::{Jitter, draw_jitter};
use super::{CropBox, Operation, color, flip, jitter, resized_crop, to_input, with_image};
use crate::data::{Dataset, MAX_SIDE};
use crate::rng::{Purpose, Stream};
use crate::settings::{Fault, is_default};

/// The augmentations of a stage, in the order in which they are applied; what is left out is not done.
///
/// ```
/// use fewlabel::augment::{Augmentation, Draws, Flip};
/// use fewlabel::rng::Purpose;
///
/// let data = fewlabel::data::synthetic(10, 10, 0);
/// let weak = Augmentation { flip: Some(Flip::Alternating), shift: 4, ..Augmentation::default() };
/// // Of image 3 in the first epoch, with seed 0: always this one.
/// let draws = Draws { seed: 0, purpose: Purpose::Augment, epoch: 0, image: 3 };
/// let transformation = weak.draw(draws, data.train.side);
/// let mut pixels = vec![0; data.train.image_len()];
/// transformation.apply(data.train.image(3), &mut pixels);
/// # assert_eq!(transformation, weak.draw(draws, 32));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of augmentations: {flip: random, shift: 4}")]
pub struct Augmentation {
    /// A box of so much of the area, from and to, resized to the whole image: [`CropBox::draw_area`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<[f64; 2]>,
    /// Moved by up to so many pixels in both directions, with reflection: [`shift`].
    #[serde(skip_serializing_if = "is_default")]
    pub shift: usize,
    /// Mirrored left and right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<Flip>,
    /// With probability 0.8 brightness, contrast, saturation and hue, in random order: 1 is as strong as SimSiam's
    /// ([`super::View`]).
    #[serde(skip_serializing_if = "is_default")]
    pub jitter: f64,
    /// The probability of turning gray.
    #[serde(skip_serializing_if = "is_default")]
    pub gray: f64,
    /// So many of RandAugment's operations, one after the other: [`Operation`].
    #[serde(skip_serializing_if = "is_default")]
    pub randaugment: usize,
    /// The side of a square that is filled with gray, in pixels, its centre anywhere in the image: [`cutout`].
    #[serde(skip_serializing_if = "is_default")]
    pub cutout: usize,
}

/// Which images are mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flip {
    /// Each with probability 0.5, in every epoch anew.
    Random,
    /// Half of them, drawn once, in the first epoch and every second one after it, and the others between: both are seen equally
    /// often (Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, §3.6).
    Alternating,
}

/// The most operations of RandAugment.
const OPERATIONS: usize = 4;

/// The least share of an image that a crop may have: less is no pixel of a small image, and no such box is ever found.
const LEAST_AREA: f64 = 0.01;

/// For what a transformation is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    /// The experiment's.
    pub seed: u64,
    /// Of the stream.
    pub purpose: Purpose,
    /// The pass through the images, from 0.
    pub epoch: u32,
    /// By index in its data set.
    pub image: u32,
}

/// All that is done to one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transformation {
    /// The box that is cropped and resized to the whole image.
    pub crop: Option<CropBox>,
    /// Down and to the right, in pixels.
    pub shift: [i32; 2],
    /// Whether it is flipped horizontally.
    pub flip: bool,
    /// The colour jitter, if any.
    pub jitter: Option<Jitter>,
    /// Whether it is turned gray.
    pub gray: bool,
    /// One after the other.
    pub operations: [Operation; OPERATIONS],
    /// The square that is filled, if any.
    pub cutout: Option<Square>,
}

impl Augmentation {
    /// Whether it leaves images as they are.
    pub fn is_none(&self) -> bool {
        *self == Augmentation::default()
    }

    /// The transformation of an image of `side` × `side` pixels.
    pub fn draw(&self, draws: Draws, side: usize) -> Transformation {
        let mut stream = Stream::new(draws.seed, draws.purpose, draws.epoch, draws.image);
        let stream = &mut stream;
        let span = self.shift as u32;
        let crop = self.crop.map(|area| CropBox::draw_area(stream, side, area.map(|share| share as f32)));
        let shift = [(); 2].map(|()| if span > 0 { stream.below(2 * span + 1) as i32 - span as i32 } else { 0 });
        let flip = match self.flip {
            None => false,
            Some(Flip::Random) => stream.chance(0.5),
            Some(Flip::Alternating) => {
                Stream::new(draws.seed, Purpose::Flip, draws.purpose as u32, draws.image).chance(0.5)
                    ^ (draws.epoch % 2 == 1)
            }
        };
        let jitter = if self.jitter > 0.0 { draw_jitter(stream, self.jitter as f32) } else { None };
        let gray = self.gray > 0.0 && stream.chance(self.gray as f32);
        let mut operations = [Operation::Identity; OPERATIONS];
        operations[..self.randaugment].iter_mut().for_each(|operation| *operation = Operation::draw(stream, side));
        let cutout = (self.cutout > 0).then(|| {
            let [y, x] = [(); 2].map(|()| stream.below(side as u32) as usize);
            Square { y, x, side: self.cutout }
        });
        Transformation { crop, shift, flip, jitter, gray, operations, cutout }
    }

    /// Writes image `draws.image` of `data`, transformed, as network input into `out`, [3, side, side].
    ///
    /// # Panics
    /// If there is no such image, or `out` is not of its size.
    pub fn input(&self, data: &Dataset, draws: Draws, out: &mut [f32]) {
        let image = data.image(draws.image as usize);
        if self.is_none() {
            return to_input(image, out);
        }
        with_image(image.len(), |pixels| {
            self.draw(draws, data.side).apply(image, pixels);
            to_input(pixels, out);
        });
    }

    /// Refuses values out of range, of the setting called `key`.
    ///
    /// # Errors
    /// The first of them.
    pub(crate) fn check(&self, key: &'static str) -> Result<(), Fault> {
        let number = |name: &str, value: f64, most: f64| match (0.0..=most).contains(&value) {
            true => Ok(()),
            false => Err(Fault::new(key, format!("{key}.{name}: {value} is no number from 0 to {most}"))),
        };
        let whole = |name: &str, value: usize, most: usize| match value <= most {
            true => Ok(()),
            false => Err(Fault::new(key, format!("{key}.{name}: {value} is more than {most}"))),
        };
        if let Some([low, high]) = self.crop.filter(|[low, high]| !(*low >= LEAST_AREA && low <= high && *high <= 1.0))
        {
            let message =
                format!("{key}.crop: {low} to {high} is no share of an image from {LEAST_AREA} to 1: [0.5, 1]");
            return Err(Fault::new(key, message));
        }
        // No image moves by its side, 16 pixels at least.
        whole("shift", self.shift, 15)?;
        number("jitter", self.jitter, 2.0)?;
        number("gray", self.gray, 1.0)?;
        whole("randaugment", self.randaugment, OPERATIONS)?;
        whole("cutout", self.cutout, MAX_SIDE)
    }
}

impl Transformation {
    /// The transformed `image`, both [3, side, side].
    pub fn apply(&self, image: &[u8], out: &mut [u8]) {
        let [down, right] = self.shift;
        match (self.crop, down != 0 || right != 0) {
            (None, false) => out.copy_from_slice(image),
            (None, true) => shift(image, down, right, out),
            (Some(area), false) => resized_crop(image, area, out),
            (Some(area), true) => with_image(image.len(), |cropped| {
                resized_crop(image, area, cropped);
                shift(cropped, down, right, out);
            }),
        }
        if self.flip {
            flip(out);
        }
        jitter(out, self.jitter.as_ref());
        if self.gray {
            color::grayscale(out);
        }
        self.operations.iter().for_each(|operation| operation.apply(out));
        if let Some(square) = self.cutout {
            cutout(out, square);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Adjustment;

    fn drawn(augmentation: Augmentation, purpose: Purpose, epoch: u32, image: u32, side: usize) -> Transformation {
        augmentation.draw(Draws { seed: 3, purpose, epoch, image }, side)
    }

    #[test]
    fn an_alternating_flip_shows_both_sides_in_turn() {
        let alternating = Augmentation { flip: Some(Flip::Alternating), ..Augmentation::default() };
        let flips = |purpose, epoch| -> Vec<bool> {
            (0..1000).map(|image| drawn(alternating, purpose, epoch, image, 32).flip).collect()
        };
        let first = flips(Purpose::Augment, 0);
        // Binomial(1000, 1/2): standard deviation 15.8, so 5 of them.
        assert!(first.iter().filter(|flip| **flip).count().abs_diff(500) < 79);
        assert!(first.iter().zip(flips(Purpose::Augment, 1)).all(|(first, second)| *first != second));
        assert_eq!(first, flips(Purpose::Augment, 2));
        assert_ne!(first, flips(Purpose::Weak, 0), "a weak and a strong view have draws of their own");
    }

    #[test]
    fn parts_are_drawn_in_their_order_and_within_their_ranges() {
        let all = Augmentation {
            crop: Some([0.3, 0.6]),
            shift: 4,
            flip: Some(Flip::Random),
            jitter: 1.0,
            gray: 0.25,
            randaugment: 3,
            cutout: 9,
        };
        let (mut moved, mut gray, mut flipped) = ([0; 9], 0, 0);
        for image in 0..4000 {
            let side = [16, 32, 64, 128][image as usize % 4];
            let of = drawn(all, Purpose::Strong, 7, image, side);
            let area = of.crop.map_or(0, |crop| crop.height * crop.width) as f64 / (side * side) as f64;
            assert!((0.22..0.72).contains(&area), "{area}: whole pixels of {side}");
            of.shift.iter().for_each(|by| moved[(by + 4) as usize] += 1);
            (gray, flipped) = (gray + u32::from(of.gray), flipped + u32::from(of.flip));
            assert_eq!(of.operations[3], Operation::Identity);
            let square = of.cutout.expect("a square");
            assert!(square.x < side && square.y < side && square.side == 9);
            // The last part is drawn last.
            let without = Augmentation { cutout: 0, ..all };
            assert_eq!(drawn(without, Purpose::Strong, 7, image, side), Transformation { cutout: None, ..of });
        }
        // Binomial(8000, 1/9), (4000, 1/4) and (4000, 1/2): standard deviations 28, 27 and 32, so 5 of them.
        assert!(moved.iter().all(|&n: &u32| n.abs_diff(889) < 141), "{moved:?}");
        assert!(gray.abs_diff(1000) < 137 && flipped.abs_diff(2000) < 159, "{gray}, {flipped}");
    }

    #[test]
    fn jitter_is_drawn_as_far_as_its_strength_says() {
        for strength in [0.5, 2.0] {
            let of = Augmentation { jitter: strength, ..Augmentation::default() };
            let drawn: Vec<Jitter> =
                (0..4000).filter_map(|image| drawn(of, Purpose::Strong, 0, image, 32).jitter).collect();
            // Binomial(4000, 4/5): standard deviation 25, so 5 of them.
            assert!(drawn.len().abs_diff(3200) < 127, "{}", drawn.len());
            let (mut factors, mut hues) = (0f32, 0f32);
            for adjustment in drawn.into_iter().flatten() {
                match adjustment {
                    Adjustment::Hue(shift) => hues = hues.max(shift.abs()),
                    Adjustment::Brightness(v) | Adjustment::Contrast(v) | Adjustment::Saturation(v) => {
                        factors = factors.max((v - 1.0).abs());
                    }
                }
            }
            // Of thousands, the farthest is near the end of the range.
            for (farthest, end) in [(factors, 0.4 * strength), (hues, 0.1 * strength)] {
                assert!((0.98..=1.000001).contains(&(f64::from(farthest) / end)), "{farthest} of {end}");
            }
        }
    }
}
