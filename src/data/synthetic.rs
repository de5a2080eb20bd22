//! The embedded data set: ten shapes, drawn in code from the seed.
//!
//! An image shows one shape (disc, ring, square, triangle, plus, cross, half disc, hexagram, T, L) at a random
//! place, size and tilt, in random colours on a two-coloured background, among strokes and spots, under noise.
//! What tells the classes apart is form alone: colour, place and size say nothing. Few labels then leave room for
//! methods that learn form without them.

use rayon::prelude::*;

use super::{CHANNELS, CLASSES, Data, Dataset, IMAGE, SIDE};
use crate::rng::{Purpose, Stream};

/// `train` and `test` images drawn from `seed`, the classes taking turns.
pub fn synthetic(train: usize, test: usize, seed: u64) -> Data {
    Data { train: draw(train, seed, Purpose::SyntheticTrain), test: draw(test, seed, Purpose::SyntheticTest) }
}

fn draw(n: usize, seed: u64, purpose: Purpose) -> Dataset {
    let labels: Vec<u8> = (0..n).map(|i| (i % CLASSES) as u8).collect();
    let mut images = vec![0; n * IMAGE];
    images.par_chunks_exact_mut(IMAGE).enumerate().for_each(|(i, image)| {
        paint(image, (i % CLASSES) as u8, &mut Stream::new(seed, purpose, 0, i as u32));
    });
    Dataset { images, labels }
}

type Rgb = [f32; CHANNELS];

/// Standard deviation of the noise, in levels.
const NOISE: f32 = 20.0;

fn paint(image: &mut [u8], class: u8, stream: &mut Stream) {
    let color = |stream: &mut Stream| -> Rgb { std::array::from_fn(|_| stream.uniform(0.0, 255.0)) };
    let mut canvas = vec![[0.0; CHANNELS]; SIDE * SIDE];

    let (near, far) = (color(stream), color(stream));
    let (sin, cos) = turn(stream.uniform(0.0, std::f32::consts::TAU));
    fill(&mut canvas, |x, y| ((x * cos + y * sin) / SIDE as f32 + 0.5).clamp(0.0, 1.0), far, near);

    for _ in 0..2 {
        spot(&mut canvas, stream, color);
    }
    stroke(&mut canvas, stream, color);

    let radius = stream.uniform(6.0, 11.0);
    let [cx, cy] = [0; 2].map(|_| stream.uniform(-5.0, 5.0));
    let (sin, cos) = turn(stream.uniform(-0.35, 0.35));
    let ink = color(stream);
    over(&mut canvas, ink, |x, y| {
        let (x, y) = ((x - cx) / radius, (y - cy) / radius);
        radius * shape(class, x * cos + y * sin, y * cos - x * sin)
    });

    stroke(&mut canvas, stream, color);
    for (i, pixel) in canvas.iter().enumerate() {
        for (channel, value) in pixel.iter().enumerate() {
            image[channel * SIDE * SIDE + i] = (value + NOISE * stream.normal() + 0.5) as u8;
        }
    }
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

/// Signed distance, about, from the outline of the class's shape of radius 1; negative inside. y points down.
fn shape(class: u8, x: f32, y: f32) -> f32 {
    let bar = |x: f32, y: f32, w: f32, h: f32| (x.abs() - w).max(y.abs() - h);
    // Pointing up, its centre of mass at 0.
    let triangle = |x: f32, y: f32| (y - 0.5).max(0.866_025_4 * x.abs() - 0.5 * y - 0.5);
    let plus = |x: f32, y: f32| bar(x, y, 0.95, 0.27).min(bar(x, y, 0.27, 0.95));
    const HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
    match class {
        0 => disc(x, y) - 0.85,
        1 => (disc(x, y) - 0.68).abs() - 0.2,
        2 => bar(x, y, 0.75, 0.75),
        3 => triangle(x, y),
        4 => plus(x, y),
        5 => plus(HALF * (x - y), HALF * (x + y)),
        6 => (disc(x, y - 0.4) - 0.95).max(y - 0.4),
        7 => triangle(x, y).min(triangle(x, -y)),
        8 => bar(x, y + 0.6, 0.85, 0.25).min(bar(x, y, 0.25, 0.85)),
        _ => bar(x + 0.5, y, 0.25, 0.85).min(bar(x, y - 0.6, 0.75, 0.25)),
    }
}

fn disc(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

fn turn(angle: f32) -> (f32, f32) {
    (libm::sinf(angle), libm::cosf(angle))
}

/// Mixes from `from` (0) to `to` (1) over the canvas; (0, 0) is the image's centre.
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

/// Pixel `i`'s centre, seen from the image's.
fn centre(i: usize) -> (f32, f32) {
    let at = |i: usize| i as f32 + 0.5 - SIDE as f32 / 2.0;
    (at(i % SIDE), at(i / SIDE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This crate's own first release: the images are part of every result on them.
    #[test]
    fn images_are_stable() {
        let data = synthetic(20, 10, 7);
        let hash = |set: &Dataset| crate::files::sha256(&set.images)[..16].to_owned();
        assert_eq!([hash(&data.train), hash(&data.test)], ["4eb6175c862fae33", "e8d7fe57e586e85a"]);
    }

    #[test]
    fn an_image_depends_on_seed_set_and_index_only() {
        let data = synthetic(30, 30, 1);
        assert_eq!(synthetic(10, 10, 1).train.images, data.train.images[..10 * IMAGE]);
        assert_ne!(data.train.images, data.test.images);
        assert_ne!(data.train.images, synthetic(30, 30, 2).train.images);
        assert_eq!(data.train.labels[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    }

    /// Colour says nothing: a class's mean colour lies within the scatter of the others'.
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
