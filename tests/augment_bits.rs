//! The augmentations' bits, pinned by SHA-256.
//!
//! The hashes are of the crate's first, scalar and unoptimised code. Another hash is value-breaking: it changes every
//! weight that any experiment trains.

use fewlabel::augment::{self, Augmentation, CropBox, Draws, Flip, Pretext, View};
use fewlabel::data::{Dataset, IMAGE, SIDE};
use fewlabel::files::sha256;
use fewlabel::rng::{Purpose, Stream};

/// Noise and two-dimensional ramps (smooth, with wrap-around edges), alternating.
fn images() -> Vec<Vec<u8>> {
    let mut stream = Stream::new(11, Purpose::Init, 0, 0);
    let noise = |stream: &mut Stream| (0..IMAGE).map(|_| stream.bits() as u8).collect();
    let ramp = |stream: &mut Stream| {
        let slopes: [u32; 9] = std::array::from_fn(|_| stream.below(1 << 11));
        let value = |i: usize| {
            let (c, y, x) = (i / (SIDE * SIDE), (i / SIDE % SIDE) as u32, (i % SIDE) as u32);
            ((slopes[c] * y + slopes[3 + c] * x + slopes[6 + c] * 32) >> 8) as u8
        };
        (0..IMAGE).map(value).collect()
    };
    (0..64).map(|i| if i % 2 == 0 { noise(&mut stream) } else { ramp(&mut stream) }).collect()
}

/// The hash of the outputs of `apply(i, image, out)` for `n` values of i, cycling through the images.
fn hash(n: u32, apply: impl Fn(u32, &[u8], &mut [u8])) -> String {
    let images = images();
    let mut all = vec![0; n as usize * IMAGE];
    for ((i, image), out) in (0..n).zip(images.iter().cycle()).zip(all.chunks_exact_mut(IMAGE)) {
        apply(i, image, out);
    }
    sha256(&all)
}

#[test]
fn views_keep_their_bits() {
    let hash = hash(4_000, |i, image, out| {
        View::draw(&mut Stream::new(0, Purpose::View1, 0, i), SIDE).apply(image, out);
    });
    assert_eq!(hash, "fdb221493c3cfe9363513e2586b7df72c1dcbd67826cc1fd38fb1000a7f9d49f");
}

#[test]
fn pretext_images_keep_their_bits() {
    let hash = hash(4_000, |i, image, out| {
        Pretext::draw(&mut Stream::new(0, Purpose::Pretext, 0, i)).apply(image, out);
    });
    assert_eq!(hash, "645996b1e150fb4ea5a8b40d78ee0dbb991d8a74ce057dd6504c2f35d60840d4");
}

/// Of this crate's first code for them, which meets Pillow's fixtures.
#[test]
fn transformations_keep_their_bits() {
    let all = Augmentation {
        crop: Some([0.4, 1.0]),
        shift: 4,
        flip: Some(Flip::Alternating),
        jitter: 0.5,
        gray: 0.1,
        randaugment: 2,
        cutout: 12,
    };
    let hash = hash(4_000, |i, image, out| {
        let draws = Draws { seed: 0, purpose: Purpose::Augment, epoch: i % 3, image: i };
        all.draw(draws, SIDE).apply(image, out);
    });
    assert_eq!(hash, "859bbbb2e2e33f5beb4cd04ba85f64c0d0061457cf6f7e733fcff1c04154b439");
}

/// Each function by itself, also with parameters that no protocol draws: negative shears, factors outside 0..=2, any
/// box.
#[test]
fn every_function_keeps_its_bits_for_any_parameter() {
    let hash = hash(20_000, |i, image, out| {
        let mut stream = Stream::new(5, Purpose::Init, 0, i);
        let factor = stream.uniform(-0.5, 2.5);
        out.copy_from_slice(image);
        match i % 10 {
            0 => augment::shear_x(image, f64::from(factor) - 0.7, out),
            1 => augment::quarter_turns(image, i as u8, out),
            2 => {
                let [height, width] = [0; 2].map(|_| 1 + stream.below(SIDE as u32) as usize);
                let [top, left] = [height, width].map(|size| stream.below((SIDE - size + 1) as u32) as usize);
                augment::resized_crop(image, CropBox { top, left, height, width }, out);
            }
            3 => augment::brightness(out, factor),
            4 => augment::contrast(out, factor),
            5 => augment::saturation(out, factor),
            6 => augment::hue(out, (factor - 1.0) / 3.0),
            7 => augment::grayscale(out),
            8 => augment::invert(out),
            _ => augment::flip(out),
        }
    });
    assert_eq!(hash, "48ac97ce091ca157cefebe12f7fd60c6a7580b4614033b02ad19a683926ff099");
}

#[test]
fn batches_keep_their_bits_whatever_the_buffers_held() {
    let data = Dataset { images: images().concat(), labels: vec![0; 64], side: SIDE };
    let indices: Vec<u32> = (0..64).rev().collect();
    let mut all = vec![f32::NAN; 3 * 64 * IMAGE];
    let (view, rest) = all.split_at_mut(64 * IMAGE);
    let (pretext, plain) = rest.split_at_mut(64 * IMAGE);
    let mut draws = vec![Pretext { quarter_turns: 9, shear: 9, color: augment::Color::Inverted }; 7];
    augment::view_batch(&data, &indices, 4, Purpose::View1, 2, view);
    augment::pretext_batch(&data, &indices, 4, Purpose::Pretext, 2, pretext, &mut draws);
    augment::plain_batch(&data, &indices, plain);
    let bytes: Vec<u8> = all.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(sha256(&bytes), "fcabf12a033114ec7cfc037c1f334f29d7db1faac7e03480fba0769b1d4e19a4");
    let drawn = |index: &u32| Pretext::draw(&mut Stream::new(4, Purpose::Pretext, 2, *index));
    assert_eq!(draws, indices.iter().map(drawn).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "a batch of 2 images")]
fn a_buffer_of_another_size_is_a_caller_s_error() {
    let data = Dataset { images: images().concat(), labels: vec![0; 64], side: SIDE };
    augment::plain_batch(&data, &[0, 1], &mut vec![0.0; 3 * IMAGE]);
}
