//! Properties of every image and every draw, and plain transcriptions of Pillow's loops, on images of any side.

use fewlabel::augment::{self, CropBox, GRAY, Operation, Pretext, SHEARS, Square, View};
use fewlabel::data::{Dataset, SIDE};
use fewlabel::rng::{Purpose, Stream};
use proptest::prelude::*;

/// Noise of any even side from 16 to 128.
fn image() -> impl Strategy<Value = Vec<u8>> {
    let side = prop_oneof![Just(16), Just(18), Just(32), Just(64), Just(128), (8usize..=64).prop_map(|half| 2 * half)];
    (side, any::<u64>()).prop_map(|(side, seed)| noise(side, seed))
}

fn noise(side: usize, seed: u64) -> Vec<u8> {
    let mut stream = Stream::new(seed, Purpose::Init, 0, 0);
    (0..3 * side * side).map(|_| stream.bits() as u8).collect()
}

fn side_of(image: &[u8]) -> usize {
    (image.len() / 3).isqrt()
}

fn filled(len: usize, apply: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut out = vec![7; len];
    apply(&mut out);
    out
}

fn changed(image: &[u8], apply: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut out = image.to_vec();
    apply(&mut out);
    out
}

fn turned(image: &[u8], turns: u8) -> Vec<u8> {
    filled(image.len(), |out| augment::quarter_turns(image, turns, out))
}

fn sorted(image: &[u8]) -> Vec<u8> {
    let mut values = image.to_vec();
    values.sort_unstable();
    values
}

/// Pillow's `affine_fixed` in its `Geometry.c`, for (1, shear, 0, 0, 1, 0), pixel by pixel.
fn pillow_shear(image: &[u8], shear: f64) -> Vec<u8> {
    let side = side_of(image);
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let mut out = vec![0; image.len()];
    for (plane, out) in image.chunks(side * side).zip(out.chunks_mut(side * side)) {
        let mut start = fixed(0.5 + shear * 0.5);
        for y in 0..side {
            let mut at = start;
            for x in 0..side {
                if (0..side as i64).contains(&(at >> 16)) {
                    out[y * side + x] = plane[y * side + (at >> 16) as usize];
                }
                at += 65536;
            }
            start += fixed(shear);
        }
    }
    out
}

/// Pillow's `ImagingResample` with its bilinear filter from `from` values to `to`: `precompute_coeffs`,
/// `normalize_coeffs_8bpc` and the loop over them.
fn pillow_resample(values: &[u8], to: usize) -> Vec<u8> {
    let scale = values.len() as f64 / to as f64;
    let support = scale.max(1.0);
    let one = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let first = ((center - support + 0.5) as i64).max(0) as usize;
        let end = ((center + support + 0.5) as usize).min(values.len());
        let triangle = |x: f64| if x.abs() < 1.0 { 1.0 - x.abs() } else { 0.0 };
        let weights: Vec<f64> = (first..end).map(|k| triangle((k as f64 - center + 0.5) / support)).collect();
        let sum: f64 = weights.iter().sum();
        let whole = weights.iter().map(|weight| (0.5 + weight / sum * f64::from(1 << 22)) as i64);
        let total: i64 = whole.zip(&values[first..end]).map(|(weight, value)| weight * i64::from(*value)).sum();
        ((total + (1 << 21)) >> 22).clamp(0, 255) as u8
    };
    (0..to).map(one).collect()
}

/// The box of the image, resized to all of it: along x, then along y.
fn pillow_crop(image: &[u8], CropBox { top, left, height, width }: CropBox) -> Vec<u8> {
    let side = side_of(image);
    let plane = |plane: &[u8]| {
        let rows: Vec<Vec<u8>> =
            plane.chunks(side).skip(top).take(height).map(|row| pillow_resample(&row[left..][..width], side)).collect();
        let column = |x: usize| pillow_resample(&rows.iter().map(|row| row[x]).collect::<Vec<u8>>(), side);
        let columns: Vec<Vec<u8>> = (0..side).map(column).collect();
        (0..side * side).map(|i| columns[i % side][i / side]).collect::<Vec<u8>>()
    };
    image.chunks(side * side).flat_map(plane).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn quarter_turns_form_a_cycle_of_four(image in image(), a in 0u8..4, b in 0u8..4) {
        prop_assert_eq!(turned(&turned(&image, a), b), turned(&image, (a + b) % 4));
        prop_assert_eq!(turned(&image, 0), image.clone());
        prop_assert_eq!(sorted(&turned(&image, a)), sorted(&image));
        // Counter-clockwise: the right edge becomes the top.
        let side = side_of(&image);
        prop_assert!((0..side).all(|x| turned(&image, 1)[x] == image[x * side + side - 1]));
    }

    #[test]
    fn a_flip_is_its_own_inverse_and_keeps_rows(image in image()) {
        let flipped = changed(&image, augment::flip);
        prop_assert_eq!(changed(&flipped, augment::flip), image.clone());
        let side = side_of(&image);
        for (ours, row) in flipped.chunks(side).zip(image.chunks(side)) {
            prop_assert!(ours.iter().eq(row.iter().rev()));
        }
    }

    #[test]
    fn grayscale_is_idempotent_with_equal_channels(image in image()) {
        let gray = changed(&image, augment::grayscale);
        let plane = image.len() / 3;
        prop_assert_eq!(&gray[..plane], &gray[plane..2 * plane]);
        prop_assert_eq!(&gray[..plane], &gray[2 * plane..]);
        prop_assert_eq!(changed(&gray, augment::grayscale), gray.clone());
        // A gray level is between the pixel's channels.
        for i in 0..plane {
            let channels = [image[i], image[plane + i], image[2 * plane + i]];
            prop_assert!((*channels.iter().min().unwrap()..=*channels.iter().max().unwrap()).contains(&gray[i]));
        }
    }

    #[test]
    fn inversion_is_an_involution(image in image()) {
        let inverted = changed(&image, augment::invert);
        prop_assert_eq!(changed(&inverted, augment::invert), image.clone());
        prop_assert!(inverted.iter().zip(&image).all(|(a, b)| u16::from(*a) + u16::from(*b) == 255));
    }

    #[test]
    fn a_factor_of_one_and_a_hue_of_zero_change_nothing_much(image in image()) {
        prop_assert_eq!(changed(&image, |i| augment::brightness(i, 1.0)), image.clone());
        prop_assert_eq!(changed(&image, |i| augment::contrast(i, 1.0)), image.clone());
        prop_assert_eq!(changed(&image, |i| augment::saturation(i, 1.0)), image.clone());
        // Hue passes through 8-bit HSV, which keeps the largest channel exactly.
        let same = changed(&image, |i| augment::hue(i, 0.0));
        let plane = image.len() / 3;
        for i in 0..plane {
            let max = |image: &[u8]| image[i].max(image[plane + i]).max(image[2 * plane + i]);
            prop_assert_eq!(max(&same), max(&image));
        }
    }

    #[test]
    fn a_factor_of_zero_leaves_the_degenerate_image(image in image()) {
        prop_assert!(changed(&image, |i| augment::brightness(i, 0.0)).iter().all(|&v| v == 0));
        let flat = changed(&image, |i| augment::contrast(i, 0.0));
        let gray = changed(&image, augment::grayscale);
        let mean = gray.iter().map(|&v| f64::from(v)).sum::<f64>() / gray.len() as f64;
        prop_assert!(flat.iter().all(|&v| v == (mean + 0.5) as u8));
        prop_assert_eq!(changed(&image, |i| augment::saturation(i, 0.0)), changed(&image, augment::grayscale));
    }

    #[test]
    fn gray_images_have_no_hue_to_turn(image in image(), shift in -0.5f32..0.5) {
        let gray = changed(&image, augment::grayscale);
        prop_assert_eq!(changed(&gray, |i| augment::hue(i, shift)), gray.clone());
    }

    #[test]
    fn shear_moves_rows_and_keeps_the_first(image in image(), which in 0usize..3) {
        let side = side_of(&image);
        let sheared = filled(image.len(), |out| augment::shear_x(&image, SHEARS[which], out));
        // Row 0 moves by shear / 2 pixels, which rounds to 0.
        prop_assert_eq!(&sheared[..side], &image[..side]);
        for (y, (ours, row)) in sheared.chunks(side).zip(image.chunks(side)).enumerate() {
            // The nearest pixel; where two are equally near, 16.16 fixed point decides.
            let exact = SHEARS[which] * ((y % side) as f64 + 0.5) + 0.5;
            let near = [exact - 1e-3, exact + 1e-3].map(|v| v.floor() as usize);
            let by = |moved: usize| ours[..side - moved] == row[moved..] && ours[side - moved..].iter().all(|&v| v == 0);
            prop_assert!(by(near[0]) || by(near[1]));
        }
    }

    #[test]
    fn any_shear_is_pillow_s(image in image(), shear in -4.0..4.0) {
        let ours = filled(image.len(), |out| augment::shear_x(&image, shear, out));
        prop_assert_eq!(ours, pillow_shear(&image, shear));
        let far = filled(image.len(), |out| augment::shear_x(&image, 1e3 * shear, out));
        prop_assert_eq!(far, pillow_shear(&image, 1e3 * shear));
    }

    #[test]
    fn any_box_is_resized_as_pillow_does(image in image(), seed in any::<u64>()) {
        let side = side_of(&image);
        let mut stream = Stream::new(seed, Purpose::Init, 0, 1);
        let [height, width] = [0; 2].map(|_| 1 + stream.below(side as u32) as usize);
        let [top, left] = [height, width].map(|size| stream.below((side - size + 1) as u32) as usize);
        for area in [CropBox { top, left, height, width }, CropBox::draw(&mut stream, side), CropBox::whole(side)] {
            let ours = filled(image.len(), |out| augment::resized_crop(&image, area, out));
            prop_assert_eq!(&ours, &pillow_crop(&image, area), "{:?} of {}", area, side);
            prop_assert!(area != CropBox::whole(side) || ours == image);
        }
    }

    /// A pixel's new colour is its own affair: that of an image of CIFAR in which it stands.
    #[test]
    fn colours_of_any_side_are_those_of_32(image in image(), factor in 0.0f32..2.0, shift in -0.5f32..0.5) {
        type Apply<'a> = &'a dyn Fn(&mut [u8]);
        let apply: [Apply; 4] = [
            &augment::grayscale,
            &|image| augment::saturation(image, factor),
            &|image| augment::brightness(image, factor),
            &|image| augment::hue(image, shift),
        ];
        let plane = image.len() / 3;
        for apply in apply {
            let ours = changed(&image, apply);
            for first in (0..plane).step_by(SIDE * SIDE) {
                let at = |i: usize| i / (SIDE * SIDE) * plane + (first + i % (SIDE * SIDE)) % plane;
                let of = |image: &[u8]| (0..3 * SIDE * SIDE).map(|i| image[at(i)]).collect::<Vec<u8>>();
                prop_assert_eq!(changed(&of(&image), apply), of(&ours));
            }
        }
    }

    #[test]
    fn drawn_boxes_stay_inside_with_the_areas_asked_for(seed in any::<u64>(), index in any::<u32>(), half in 8usize..=64) {
        let side = 2 * half;
        let CropBox { top, left, height, width } = CropBox::draw(&mut Stream::new(seed, Purpose::View1, 0, index), side);
        prop_assert!(height >= 1 && width >= 1 && top + height <= side && left + width <= side);
        // 0.2 to 1 of the image and ratio 3/4 to 4/3, each side rounded by at most half a pixel.
        let [h, w] = [height, width].map(|v| v as f64);
        prop_assert!((h + 0.5) * (w + 0.5) >= 0.2 * (side * side) as f64);
        prop_assert!((w - 0.5) / (h + 0.5) <= 4.0 / 3.0 && (w + 0.5) / (h - 0.5) >= 0.75);
    }

    #[test]
    fn any_shift_is_a_window_of_the_reflected_image(image in image(), down in -15i32..=15, right in -15i32..=15) {
        let side = side_of(&image) as i32;
        let ours = filled(image.len(), |out| augment::shift(&image, down, right, out));
        let reflected = |at: i32| if at < 0 { -at } else if at >= side { 2 * (side - 1) - at } else { at };
        for (at, &pixel) in ours.iter().enumerate() {
            let (plane, y, x) = (at as i32 / (side * side), at as i32 / side % side, at as i32 % side);
            let from = plane * side * side + reflected(y - down) * side + reflected(x - right);
            prop_assert_eq!(pixel, image[from as usize]);
        }
    }

    #[test]
    fn cutout_fills_a_square_and_nothing_else(image in image(), y in 0usize..128, x in 0usize..128, length in 0usize..40) {
        let side = side_of(&image);
        let (y, x) = (y % side, x % side);
        let ours = changed(&image, |i| augment::cutout(i, Square { y, x, side: length }));
        for (at, (&ours, &before)) in ours.iter().zip(&image).enumerate() {
            let (row, column) = (at / side % side + length / 2, at % side + length / 2);
            let inside = (y..y + length).contains(&row) && (x..x + length).contains(&column);
            prop_assert_eq!(ours, if inside { GRAY } else { before });
        }
    }

    /// Of planes of one level each; rotation and shear only bring in black.
    #[test]
    fn operations_of_any_side_keep_even_planes_even(image in image(), seed in any::<u64>()) {
        let (side, mut stream) = (side_of(&image), Stream::new(seed, Purpose::Init, 0, 0));
        let even: Vec<u8> = (0..3).flat_map(|c| vec![image[c].max(1); side * side]).collect();
        let operation = Operation::draw(&mut stream, side);
        let ours = changed(&even, |i| operation.apply(i));
        let middle = side / 2 * side + side / 2;
        for plane in ours.chunks(side * side) {
            prop_assert!(plane.iter().all(|&v| v == plane[middle] || v == 0), "{:?} of {}", operation, side);
        }
    }

    #[test]
    fn levels_of_any_side_are_spread(image in image()) {
        let spread = changed(&image, augment::autocontrast);
        for plane in spread.chunks(image.len() / 3) {
            // Python's rounding may leave the highest a level lower.
            prop_assert!(plane.contains(&0) && plane.iter().any(|&level| level >= 254));
        }
        prop_assert_eq!(changed(&image, |i| augment::posterize(i, 8)), image.clone());
        prop_assert_eq!(changed(&image, |i| augment::solarize(i, 256)), image.clone());
        prop_assert_eq!(changed(&image, |i| augment::sharpness(i, 1.0)), image.clone());
        // The order of levels stays.
        let equal = changed(&image, augment::equalize);
        for (before, after) in image.chunks(image.len() / 3).zip(equal.chunks(image.len() / 3)) {
            let mut pairs: Vec<(u8, u8)> = before.iter().copied().zip(after.iter().copied()).collect();
            pairs.sort_unstable();
            prop_assert!(pairs.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        }
    }

    #[test]
    fn an_empty_or_outside_box_is_a_caller_s_error(image in image(), top in 0usize..140, height in 0usize..140) {
        let side = side_of(&image);
        let area = CropBox { top, height, ..CropBox::whole(side) };
        let len = image.len();
        let result = std::panic::catch_unwind(|| filled(len, |out| augment::resized_crop(&image, area, out)));
        prop_assert_eq!(result.is_ok(), height > 0 && top + height <= side);
    }

    #[test]
    fn the_same_key_gives_the_same_draw_and_another_key_another(seed in any::<u64>(), epoch in 0u32..100) {
        // Two views may be equal by chance: without jitter little is drawn.
        let view = |purpose, epoch, index| {
            let mut stream = Stream::new(seed, purpose, epoch, index);
            [0; 4].map(|_| View::draw(&mut stream, SIDE))
        };
        prop_assert_eq!(view(Purpose::View1, epoch, 5), view(Purpose::View1, epoch, 5));
        prop_assert_ne!(view(Purpose::View1, epoch, 5), view(Purpose::View2, epoch, 5));
        prop_assert_ne!(view(Purpose::View1, epoch, 5), view(Purpose::View1, epoch + 1, 5));
        prop_assert_ne!(view(Purpose::View1, epoch, 5), view(Purpose::View1, epoch, 6));
    }
}

/// The study's distributions over 20,000 draws, within five standard deviations.
#[test]
fn draws_have_the_probabilities_of_the_protocol() {
    let n = 20_000;
    let stream = |i| Stream::new(1, Purpose::View1, 0, i);
    let views: Vec<View> = (0..n).map(|i| View::draw(&mut stream(i), SIDE)).collect();
    let share = |hit: &dyn Fn(&View) -> bool| views.iter().filter(|view| hit(view)).count() as f64 / f64::from(n);
    assert!((share(&|v| v.flip) - 0.5).abs() < 0.018);
    assert!((share(&|v| v.jitter.is_some()) - 0.8).abs() < 0.015);
    assert!((share(&|v| v.gray) - 0.2).abs() < 0.015);
    let hue_first = |v: &View| v.jitter.is_some_and(|j| matches!(j[0], augment::Adjustment::Hue(_)));
    assert!((share(&hue_first) - 0.2).abs() < 0.015, "each adjustment is first in a quarter of the jitters");
    let mut counts = std::collections::BTreeMap::new();
    for i in 0..n {
        *counts.entry(Pretext::draw(&mut stream(i)).labels()).or_insert(0) += 1;
    }
    // Binomial(20000, 1/36): 556 expected, standard deviation 23.
    assert!(counts.len() == 36 && counts.values().all(|c: &i32| c.abs_diff(556) < 116), "{counts:?}");
}

#[test]
fn batches_are_the_same_on_any_number_of_threads() {
    for side in [SIDE, 50] {
        let len = 3 * side * side;
        let images: Vec<u8> = (0..50).flat_map(|seed| noise(side, seed)).collect();
        let data = Dataset { images, labels: vec![0; 50], side };
        let indices: Vec<u32> = (0..50).rev().collect();
        let batches = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let [mut view, mut pretext, mut plain] = [0; 3].map(|_| vec![0.0; 50 * len]);
                let mut draws = vec![];
                augment::view_batch(&data, &indices, 4, Purpose::View1, 2, &mut view);
                augment::pretext_batch(&data, &indices, 4, Purpose::Pretext, 2, &mut pretext, &mut draws);
                augment::plain_batch(&data, &indices, &mut plain);
                (view, (pretext, draws), plain)
            })
        };
        let one = batches(1);
        assert!(one.0.iter().chain(&one.1.0).chain(&one.2).all(|v| (-1.0..=1.0).contains(v)));
        let input =
            filled(len, |out| View::draw(&mut Stream::new(4, Purpose::View1, 2, 49), side).apply(data.image(49), out));
        let mut expected = vec![0.0; len];
        augment::to_input(&input, &mut expected);
        assert_eq!(one.0[..len], expected, "the first of the batch is the last image's view");
        for threads in [2, 3, 8] {
            assert_eq!(batches(threads), one, "{threads} threads");
        }
    }
}
