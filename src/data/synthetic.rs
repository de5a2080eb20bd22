//! The embedded data set: ten shapes, drawn in code from the seed.
//!
//! An image shows one shape (drop, open ring, house, triangle, latin cross, Y, half disc, arrow, T, L) at a random
//! place, size and tilt, in random colours on a two-coloured background, with a stroke and a spot, under noise. Only
//! form tells the classes apart, not colour, place or size. Every shape has an upright position, so that its rotation
//! can be told. Few labels then leave room for methods that learn form without them.

use rayon::prelude::*;

use super::{CHANNELS, CLASSES, Data, Dataset, IMAGE, SIDE};
use crate::rng::{Purpose, Stream};

/// `train` and `test` images drawn from `seed`, cycling through the classes.
pub fn synthetic(train: usize, test: usize, seed: u64) -> Data {
    Data {
        train: draw(train, seed, Purpose::SyntheticTrain),
        test: draw(test, seed, Purpose::SyntheticTest),
        classes: CLASS_NAMES.map(str::to_owned).to_vec(),
    }
}

/// By label.
const CLASS_NAMES: [&str; CLASSES] =
    ["drop", "ring", "house", "triangle", "cross", "Y", "half disc", "arrow", "T", "L"];

fn draw(n: usize, seed: u64, purpose: Purpose) -> Dataset {
    let labels: Vec<u16> = (0..n).map(|i| (i % CLASSES) as u16).collect();
    let mut images = vec![0; n * IMAGE];
    images.par_chunks_exact_mut(IMAGE).enumerate().for_each(|(i, image)| {
        paint(image, (i % CLASSES) as u8, &mut Stream::new(seed, purpose, 0, i as u32));
    });
    Dataset { images, labels, side: SIDE }
}

type Rgb = [f32; CHANNELS];

/// Standard deviation of the noise, in levels.
const NOISE: f32 = 8.0;
/// Sum over the channels of the difference between shape and background, in levels.
const CONTRAST: f32 = 180.0;

fn paint(image: &mut [u8], class: u8, stream: &mut Stream) {
    let color = |stream: &mut Stream| -> Rgb { std::array::from_fn(|_| stream.uniform(0.0, 255.0)) };
    let mut canvas = vec![[0.0; CHANNELS]; SIDE * SIDE];

    let (near, far) = (color(stream), color(stream));
    let (sin, cos) = turn(stream.uniform(0.0, std::f32::consts::TAU));
    fill(&mut canvas, |x, y| ((x * cos + y * sin) / SIDE as f32 + 0.5).clamp(0.0, 1.0), far, near);

    stroke(&mut canvas, stream, color);

    let radius = stream.uniform(8.0, 12.0);
    let [cx, cy] = [0; 2].map(|_| stream.uniform(-3.0, 3.0));
    let (sin, cos) = turn(stream.uniform(-0.25, 0.25));
    let ink = contrasting(stream, [near, far], color);
    over(&mut canvas, ink, |x, y| {
        let (x, y) = ((x - cx) / radius, (y - cy) / radius);
        radius * shape(class, x * cos + y * sin, y * cos - x * sin)
    });

    spot(&mut canvas, stream, color);
    for (i, pixel) in canvas.iter().enumerate() {
        for (channel, value) in pixel.iter().enumerate() {
            image[channel * SIDE * SIDE + i] = (value + NOISE * stream.normal() + 0.5) as u8;
        }
    }
}

/// A colour that differs from both background colours by [`CONTRAST`] in sum, if one of eight draws does.
fn contrasting(stream: &mut Stream, background: [Rgb; 2], color: impl Fn(&mut Stream) -> Rgb) -> Rgb {
    let far_enough =
        |ink: &Rgb| background.iter().all(|b| ink.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() >= CONTRAST);
    let mut ink = color(stream);
    for _ in 1..8 {
        if far_enough(&ink) {
            break;
        }
        ink = color(stream);
    }
    ink
}

/// A small disc somewhere.
fn spot(canvas: &mut [Rgb], stream: &mut Stream, color: impl Fn(&mut Stream) -> Rgb) {
    let [cx, cy] = [0; 2].map(|_| stream.uniform(-16.0, 16.0));
    let radius = stream.uniform(1.5, 3.5);
    let ink = color(stream);
    over(canvas, ink, |x, y| disc(x - cx, y - cy) - radius);
}

/// A thin line across the image.
fn stroke(canvas: &mut [Rgb], stream: &mut Stream, color: impl Fn(&mut Stream) -> Rgb) {
    let (sin, cos) = turn(stream.uniform(0.0, std::f32::consts::TAU));
    let offset = stream.uniform(-12.0, 12.0);
    let half_width = stream.uniform(0.4, 1.0);
    let ink = color(stream);
    over(canvas, ink, |x, y| (x * cos + y * sin - offset).abs() - half_width);
}

/// Approximate signed distance from the outline of the class's shape of radius 1, negative inside. y points down.
fn shape(class: u8, x: f32, y: f32) -> f32 {
    let bar = |x: f32, y: f32, w: f32, h: f32| (x.abs() - w).max(y.abs() - h);
    // Pointing up, its centre of mass at 0.
    let triangle = |x: f32, y: f32| (y - 0.5).max(0.866_025_4 * x.abs() - 0.5 * y - 0.5);
    // A bar from the centre outwards, in the direction (u, v), turned around the centre.
    let arm = |u: f32, v: f32| bar(x * v - y * u, x * u + y * v - 0.45, 0.22, 0.5);
    const S: f32 = 0.707_106_77;
    match class {
        0 => (disc(x, y - 0.3) - 0.6).min((y - 0.3).max(x.abs() - 0.36 * (y + 1.1))),
        1 => ((disc(x, y) - 0.68).abs() - 0.22).max(0.4 - x.abs().max(-y)),
        2 => bar(x, y - 0.35, 0.65, 0.55).min((y + 0.1).max(0.7 * (x.abs() - y - 1.05))),
        3 => triangle(x, y - 0.2),
        4 => bar(x, y + 0.3, 0.7, 0.2).min(bar(x, y, 0.2, 0.95)),
        5 => arm(0.0, 1.0).min(arm(S, -S)).min(arm(-S, -S)),
        6 => (disc(x, y - 0.4) - 0.95).max(y - 0.4),
        7 => bar(x, y - 0.3, 0.2, 0.65).min((y + 0.1).max(0.7 * (x.abs() - y - 0.95))),
        8 => bar(x, y + 0.65, 0.85, 0.22).min(bar(x, y, 0.22, 0.87)),
        _ => bar(x + 0.5, y, 0.22, 0.87).min(bar(x, y - 0.65, 0.72, 0.22)),
    }
}

fn disc(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

fn turn(angle: f32) -> (f32, f32) {
    (libm::sinf(angle), libm::cosf(angle))
}

/// Fills the canvas with a gradient from `from` (share 0) to `to` (1); (0, 0) is the image's centre.
fn fill(canvas: &mut [Rgb], share: impl Fn(f32, f32) -> f32, from: Rgb, to: Rgb) {
    for (i, pixel) in canvas.iter_mut().enumerate() {
        let (x, y) = centre(i);
        let share = share(x, y);
        *pixel = std::array::from_fn(|c| from[c] + share * (to[c] - from[c]));
    }
}

/// Paints where the distance, in pixels, is negative, with a soft edge of one pixel.
fn over(canvas: &mut [Rgb], ink: Rgb, distance: impl Fn(f32, f32) -> f32) {
    for (i, pixel) in canvas.iter_mut().enumerate() {
        let (x, y) = centre(i);
        let share = (0.5 - distance(x, y)).clamp(0.0, 1.0);
        *pixel = std::array::from_fn(|c| pixel[c] + share * (ink[c] - pixel[c]));
    }
}

/// Pixel `i`'s centre, relative to the image's.
fn centre(i: usize) -> (f32, f32) {
    let at = |i: usize| i as f32 + 0.5 - SIDE as f32 / 2.0;
    (at(i % SIDE), at(i / SIDE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of this crate's first release: the images are part of every result on them.
    #[test]
    fn images_are_stable() {
        let data = synthetic(20, 10, 7);
        let hash = |set: &Dataset| crate::files::sha256(&set.images)[..16].to_owned();
        assert_eq!([hash(&data.train), hash(&data.test)], ["1ffc4d4526bd6fdd", "e636e5a3521be0c5"]);
    }

    #[test]
    fn an_image_depends_on_seed_set_and_index_only() {
        let data = synthetic(30, 30, 1);
        assert_eq!(synthetic(10, 10, 1).train.images, data.train.images[..10 * IMAGE]);
        assert_ne!(data.train.images, data.test.images);
        assert_ne!(data.train.images, synthetic(30, 30, 2).train.images);
        assert_eq!(data.train.labels[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    }

    /// Colour does not tell classes apart: mean colours differ no more than by chance.
    #[test]
    fn classes_share_their_colours() {
        let data = synthetic(2000, 1, 0).train;
        let mut means = [0.0; CLASSES];
        for (i, &label) in data.labels.iter().enumerate() {
            let image = data.image(i);
            let mean = image.iter().map(|&v| f64::from(v)).sum::<f64>() / IMAGE as f64;
            means[usize::from(label)] += mean / 200.0;
        }
        let spread = means.iter().fold(f64::MIN, |a, &b| a.max(b)) - means.iter().fold(f64::MAX, |a, &b| a.min(b));
        // The mean of 200 images has a standard deviation of about 2.5 levels.
        assert!(spread < 15.0, "{means:?}");
    }
}
