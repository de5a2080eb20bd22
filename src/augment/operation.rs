//! RandAugment's operations as FixMatch draws them.

use super::affine::{affine, rotation, shear_along_x, shear_along_y, translation};
use super::levels::{autocontrast, equalize, posterize, sharpness, solarize};
use super::{color, with_image};
use crate::rng::Stream;

/// One operation of Sohn et al., "FixMatch" (2020), table 12, with its strength; what it does to a pixel is Pillow's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Operation {
    /// No change.
    #[default]
    Identity,
    /// [`autocontrast`].
    AutoContrast,
    /// [`equalize`].
    Equalize,
    /// [`brightness`](color::brightness), a factor.
    Brightness(f32),
    /// [`contrast`](color::contrast), a factor.
    Contrast(f32),
    /// [`saturation`](color::saturation), a factor.
    Saturation(f32),
    /// [`sharpness`], a factor.
    Sharpness(f32),
    /// [`posterize`], bits.
    Posterize(u8),
    /// [`solarize`], a level.
    Solarize(u16),
    /// Counter-clockwise, in degrees.
    Rotate(f32),
    /// Pixels along x per pixel along y.
    ShearX(f32),
    /// Pixels along y per pixel along x.
    ShearY(f32),
    /// Pixels to the right.
    TranslateX(i32),
    /// Pixels down.
    TranslateY(i32),
}

impl Operation {
    /// Each of the fourteen with equal probability, its strength uniform in the paper's range. Of an image of `side` × `side`
    /// pixels.
    pub fn draw(stream: &mut Stream, side: usize) -> Operation {
        use Operation::*;
        let kind = stream.below(14);
        let mut factor = || stream.uniform(0.05, 0.95);
        match kind {
            0 => Identity,
            1 => AutoContrast,
            2 => Equalize,
            3 => Brightness(factor()),
            4 => Contrast(factor()),
            5 => Saturation(factor()),
            6 => Sharpness(factor()),
            7 => Posterize(4 + stream.below(5) as u8),
            8 => Solarize(stream.below(257) as u16),
            9 => Rotate(stream.uniform(-30.0, 30.0)),
            10 => ShearX(stream.uniform(-0.3, 0.3)),
            11 => ShearY(stream.uniform(-0.3, 0.3)),
            _ => {
                let pixels = (stream.uniform(-0.3, 0.3) * side as f32).round() as i32;
                if kind == 12 { TranslateX(pixels) } else { TranslateY(pixels) }
            }
        }
    }

    /// Changes `image`, [3, side, side].
    pub fn apply(self, image: &mut [u8]) {
        use Operation::*;
        let side = super::side_of(image);
        let matrix = match self {
            Identity => return,
            AutoContrast => return autocontrast(image),
            Equalize => return equalize(image),
            Brightness(factor) => return color::brightness(image, factor),
            Contrast(factor) => return color::contrast(image, factor),
            Saturation(factor) => return color::saturation(image, factor),
            Sharpness(factor) => return sharpness(image, factor),
            Posterize(bits) => return posterize(image, bits),
            Solarize(threshold) => return solarize(image, threshold),
            Rotate(degrees) => rotation(degrees.into(), side),
            ShearX(shear) => shear_along_x(shear.into()),
            ShearY(shear) => shear_along_y(shear.into()),
            TranslateX(pixels) => translation(pixels, 0),
            TranslateY(pixels) => translation(0, pixels),
        };
        with_image(image.len(), |from| {
            from.copy_from_slice(image);
            affine(from, matrix, image);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn every_operation_is_drawn_within_its_range_about_equally_often() {
        let mut stream = Stream::new(1, Purpose::Init, 0, 0);
        let (mut counts, n) = (std::collections::BTreeMap::<String, u32>::new(), 14_000);
        let (mut bits, mut moved) = ([0; 9], [i32::MAX, i32::MIN]);
        for _ in 0..n {
            let operation = Operation::draw(&mut stream, 32);
            use Operation::*;
            let inside = match operation {
                Identity | AutoContrast | Equalize => true,
                Brightness(v) | Contrast(v) | Saturation(v) | Sharpness(v) => (0.05..=0.95).contains(&v),
                Posterize(v) => {
                    bits[usize::from(v)] += 1;
                    (4..=8).contains(&v)
                }
                Solarize(v) => v <= 256,
                Rotate(v) => (-30.0..=30.0).contains(&v),
                ShearX(v) | ShearY(v) => (-0.3..=0.3).contains(&v),
                TranslateX(v) | TranslateY(v) => {
                    moved = [moved[0].min(v), moved[1].max(v)];
                    true
                }
            };
            assert!(inside, "{operation:?}");
            let name = format!("{operation:?}");
            *counts.entry(name.split('(').next().unwrap().to_owned()).or_default() += 1;
        }
        // Binomial(14000, 1/14): standard deviation 30.5, so 5 of them.
        assert!(counts.len() == 14 && counts.values().all(|count| count.abs_diff(1000) < 153), "{counts:?}");
        assert_eq!(moved, [-10, 10]);
        assert!(bits[4..].iter().all(|&count| count > 100), "{bits:?}");
    }
}
