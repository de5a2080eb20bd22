//! The pretext tasks' transformation: rotated, then sheared, then recoloured. The network must tell each of the three.

use super::{color, geometry, with_image};
use crate::rng::Stream;

/// The shears to choose from: pixels along x per pixel along y.
pub const SHEARS: [f64; 3] = [0.0, 0.2, 0.4];

/// The recolourings to choose from; the order is that of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// As it is.
    Original,
    /// Its luma in every channel.
    Grayscale,
    /// 255 − v.
    Inverted,
}

impl Color {
    /// In the order of the labels.
    pub const ALL: [Color; 3] = [Color::Original, Color::Grayscale, Color::Inverted];
}

/// The transformation of one image; its parts are the labels of the three tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pretext {
    /// Counter-clockwise quarter turns, 0..4.
    pub quarter_turns: u8,
    /// An index into [`SHEARS`].
    pub shear: u8,
    /// The recolouring.
    pub color: Color,
}

impl Pretext {
    /// Each part drawn uniformly.
    pub fn draw(stream: &mut Stream) -> Pretext {
        Pretext {
            quarter_turns: stream.below(4) as u8,
            shear: stream.below(3) as u8,
            color: Color::ALL[stream.below(3) as usize],
        }
    }

    /// The labels of the rotation, shear and colour heads.
    pub fn labels(&self) -> [u16; 3] {
        [self.quarter_turns.into(), self.shear.into(), self.color as u16]
    }

    /// The transformed `image`, both [3, side, side].
    ///
    /// # Panics
    /// If `shear` is no index into [`SHEARS`].
    pub fn apply(&self, image: &[u8], out: &mut [u8]) {
        if self.shear == 0 {
            geometry::quarter_turns(image, self.quarter_turns, out);
        } else {
            with_image(image.len(), |turned| {
                geometry::quarter_turns(image, self.quarter_turns, turned);
                geometry::shear_x(turned, SHEARS[usize::from(self.shear)], out);
            });
        }
        match self.color {
            Color::Original => {}
            Color::Grayscale => color::grayscale(out),
            Color::Inverted => color::invert(out),
        }
    }
}
