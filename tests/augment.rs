//! Properties of every image and every draw.

use fewlabel::augment::{self, CropBox, Pretext, SHEARS, View};
use fewlabel::data::{Dataset, IMAGE, SIDE};
use fewlabel::rng::{Purpose, Stream};
use proptest::prelude::*;

const PLANE: usize = SIDE * SIDE;

fn image() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), IMAGE)
}

fn filled(apply: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut out = vec![0; IMAGE];
    apply(&mut out);
    out
}

fn changed(image: &[u8], apply: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut out = image.to_vec();
    apply(&mut out);
    out
}

fn turned(image: &[u8], turns: u8) -> Vec<u8> {
    filled(|out| augment::quarter_turns(image, turns, out))
}

fn sorted(image: &[u8]) -> Vec<u8> {
    let mut values = image.to_vec();
    values.sort_unstable();
    values
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn quarter_turns_form_a_cycle_of_four(image in image(), a in 0u8..4, b in 0u8..4) {
        prop_assert_eq!(turned(&turned(&image, a), b), turned(&image, (a + b) % 4));
        prop_assert_eq!(turned(&image, 0), image.clone());
        prop_assert_eq!(sorted(&turned(&image, a)), sorted(&image));
        // Counter-clockwise: the right edge becomes the top.
        prop_assert_eq!(turned(&image, 1)[0], image[SIDE - 1]);
    }

    #[test]
    fn a_flip_is_its_own_inverse_and_keeps_rows(image in image()) {
        let flipped = changed(&image, augment::flip);
        prop_assert_eq!(changed(&flipped, augment::flip), image.clone());
        for (ours, row) in flipped.chunks(SIDE).zip(image.chunks(SIDE)) {
            prop_assert!(ours.iter().eq(row.iter().rev()));
        }
    }

    #[test]
    fn grayscale_is_idempotent_with_equal_channels(image in image()) {
        let gray = changed(&image, augment::grayscale);
        prop_assert_eq!(&gray[..PLANE], &gray[PLANE..2 * PLANE]);
        prop_assert_eq!(&gray[..PLANE], &gray[2 * PLANE..]);
        prop_assert_eq!(changed(&gray, augment::grayscale), gray.clone());
        // A gray level is between the pixel's channels.
        for i in 0..PLANE {
            let channels = [image[i], image[PLANE + i], image[2 * PLANE + i]];
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
        for i in 0..PLANE {
            let max = |image: &[u8]| image[i].max(image[PLANE + i]).max(image[2 * PLANE + i]);
            prop_assert_eq!(max(&same), max(&image));
        }
    }

    #[test]
    fn a_factor_of_zero_leaves_the_degenerate_image(image in image()) {
        prop_assert!(changed(&image, |i| augment::brightness(i, 0.0)).iter().all(|&v| v == 0));
        let flat = changed(&image, |i| augment::contrast(i, 0.0));
        prop_assert!(flat.iter().all(|&v| v == flat[0]));
        prop_assert_eq!(changed(&image, |i| augment::saturation(i, 0.0)), changed(&image, augment::grayscale));
    }

    #[test]
    fn gray_images_have_no_hue_to_turn(image in image(), shift in -0.5f32..0.5) {
        let gray = changed(&image, augment::grayscale);
        prop_assert_eq!(changed(&gray, |i| augment::hue(i, shift)), gray.clone());
    }

    #[test]
    fn shear_moves_rows_and_keeps_the_first(image in image(), which in 0usize..3) {
        let sheared = filled(|out| augment::shear_x(&image, SHEARS[which], out));
        // Row 0 moves by shear / 2 pixels, which rounds to 0.
        prop_assert_eq!(&sheared[..SIDE], &image[..SIDE]);
        for (y, (ours, row)) in sheared.chunks(SIDE).zip(image.chunks(SIDE)).enumerate() {
            // The nearest pixel; where two are equally near, 16.16 fixed point decides.
            let exact = SHEARS[which] * ((y % SIDE) as f64 + 0.5) + 0.5;
            let near = [exact - 1e-3, exact + 1e-3].map(|v| v.floor() as usize);
            let by = |moved: usize| ours[..SIDE - moved] == row[moved..] && ours[SIDE - moved..].iter().all(|&v| v == 0);
            prop_assert!(by(near[0]) || by(near[1]));
        }
    }

    #[test]
    fn the_whole_box_is_the_identity_and_any_box_stays_in_range(
        image in image(), top in 0usize..32, left in 0usize..32, height in 1usize..33, width in 1usize..33,
    ) {
        let crop = |area: CropBox| filled(|out| augment::resized_crop(&image, area, out));
        prop_assert_eq!(crop(CropBox::WHOLE), image.clone());
        let area = CropBox { top, left, height: height.min(SIDE - top), width: width.min(SIDE - left) };
        for (ours, plane) in crop(area).chunks(PLANE).zip(image.chunks(PLANE)) {
            let rows = plane.chunks(SIDE).skip(area.top).take(area.height);
            let inside: Vec<u8> = rows.flat_map(|row| row[area.left..area.left + area.width].to_vec()).collect();
            let range = *inside.iter().min().unwrap()..=*inside.iter().max().unwrap();
            prop_assert!(ours.iter().all(|v| range.contains(v)));
        }
    }

    #[test]
    fn drawn_boxes_stay_inside_with_the_areas_asked_for(seed in any::<u64>(), index in any::<u32>()) {
        let CropBox { top, left, height, width } = CropBox::draw(&mut Stream::new(seed, Purpose::View1, 0, index));
        prop_assert!(height >= 1 && width >= 1 && top + height <= SIDE && left + width <= SIDE);
        // 0.2 to 1 of the image and ratio 3/4 to 4/3, each side rounded by at most half a pixel.
        let [h, w] = [height, width].map(|v| v as f64);
        prop_assert!((h + 0.5) * (w + 0.5) >= 0.2 * 1024.0);
        prop_assert!((w - 0.5) / (h + 0.5) <= 4.0 / 3.0 && (w + 0.5) / (h - 0.5) >= 0.75);
    }

    #[test]
    fn an_empty_or_outside_box_is_a_caller_s_error(top in 0usize..40, height in 0usize..40) {
        let image = vec![7; IMAGE];
        let area = CropBox { top, height, ..CropBox::WHOLE };
        let result = std::panic::catch_unwind(|| filled(|out| augment::resized_crop(&image, area, out)));
        prop_assert_eq!(result.is_ok(), height > 0 && top + height <= SIDE);
    }

    #[test]
    fn the_same_key_gives_the_same_draw_and_another_key_another(seed in any::<u64>(), epoch in 0u32..100) {
        // Two views may be equal by chance: without jitter little is drawn.
        let view = |purpose, epoch, index| {
            let mut stream = Stream::new(seed, purpose, epoch, index);
            [0; 4].map(|_| View::draw(&mut stream))
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
    let views: Vec<View> = (0..n).map(|i| View::draw(&mut stream(i))).collect();
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
    let mut stream = Stream::new(0, Purpose::Init, 0, 0);
    let images = (0..50 * IMAGE).map(|_| stream.bits() as u8).collect();
    let data = Dataset { images, labels: vec![0; 50] };
    let indices: Vec<u32> = (0..50).rev().collect();
    let batches = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let [mut view, mut pretext, mut plain] = [0; 3].map(|_| vec![0.0; 50 * IMAGE]);
            let mut draws = vec![];
            augment::view_batch(&data, &indices, 4, Purpose::View1, 2, &mut view);
            augment::pretext_batch(&data, &indices, 4, Purpose::Pretext, 2, &mut pretext, &mut draws);
            augment::plain_batch(&data, &indices, &mut plain);
            (view, (pretext, draws), plain)
        })
    };
    let one = batches(1);
    assert!(one.0.iter().chain(&one.1.0).chain(&one.2).all(|v| (-1.0..=1.0).contains(v)));
    for threads in [2, 3, 8] {
        assert_eq!(batches(threads), one, "{threads} threads");
    }
}
