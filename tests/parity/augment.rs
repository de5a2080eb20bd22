//! Augmentations with explicit parameters against Pillow and torchvision.

use fewlabel::augment::{self, Adjustment, Color, CropBox, Operation, Pretext, SHEARS, Square, Transformation, View};
use fewlabel::data::IMAGE;

use crate::fixture::Fixture;

/// The largest difference of a pixel, in levels, and the largest mean difference.
struct Tolerance {
    worst: u8,
    mean: f64,
}

const EXACT: Tolerance = Tolerance { worst: 0, mean: 0.0 };
/// For hue, and so for whole views: the shift is truncated to 1/255 of a circle, and rounding the stored factor to
/// `f32` may change it by one. No fixture in the repository has such a factor.
fn of_hue() -> Tolerance {
    if std::env::var_os("PARITY_DIR").is_none() { EXACT } else { Tolerance { worst: 2, mean: 0.1 } }
}

/// Transforms image `i`.
type Apply<'a> = &'a dyn Fn(usize, &[u8], &mut [u8]);

pub fn all(fixture: &Fixture) {
    let images = fixture.u8s("images");
    let [turns, shear, color] = ["quarter_turns", "shear_index", "color_index"].map(|name| fixture.u8s(name));
    let pretext =
        |i: usize| Pretext { quarter_turns: turns[i], shear: shear[i], color: Color::ALL[usize::from(color[i])] };
    let check = |name: &str, tolerance: Tolerance, apply: Apply| {
        compare(fixture, name, &images, tolerance, apply);
    };
    check("rotated", EXACT, &|i, image, out| augment::quarter_turns(image, turns[i], out));
    check("sheared", EXACT, &|i, image, out| augment::shear_x(image, SHEARS[usize::from(shear[i])], out));
    let unmoved = |i| Pretext { quarter_turns: 0, shear: 0, ..pretext(i) };
    check("recolored", EXACT, &|i, image, out| unmoved(i).apply(image, out));
    check("pretext", EXACT, &|i, image, out| pretext(i).apply(image, out));

    let boxes = fixture.u8s("crop_boxes");
    let crop = |i: usize| {
        let [top, left, height, width] = std::array::from_fn(|k| usize::from(boxes[i * 4 + k]));
        CropBox { top, left, height, width }
    };
    check("cropped", EXACT, &|i, image, out| augment::resized_crop(image, crop(i), out));

    let names = ["brightness", "contrast", "saturation", "hue"];
    let factors = names.map(|name| fixture.f32s(&format!("{name}_factor")));
    let adjustment = |kind: usize, i: usize| adjustment(kind, factors[kind][i]);
    type Adjust = fn(&mut [u8], f32);
    let functions: [Adjust; 4] = [augment::brightness, augment::contrast, augment::saturation, augment::hue];
    for (kind, (name, adjust)) in names.into_iter().zip(functions).enumerate() {
        let tolerance = if name == "hue" { of_hue() } else { EXACT };
        check(name, tolerance, &|i, image, out| {
            out.copy_from_slice(image);
            adjust(out, factors[kind][i]);
        });
    }

    let order = fixture.u8s("jitter_order");
    let [flip, jitter, gray] = ["flip", "jitter", "gray"].map(|name| fixture.u8s(name));
    let view = |i: usize| {
        let adjustments = std::array::from_fn(|k| adjustment(usize::from(order[i * 4 + k]), i));
        View { crop: crop(i), flip: flip[i] == 1, jitter: (jitter[i] == 1).then_some(adjustments), gray: gray[i] == 1 }
    };
    check("view_u8", of_hue(), &|i, image, out| view(i).apply(image, out));
    let images = fixture.u8s("view_u8");
    let mut input = vec![0.0; images.len()];
    augment::to_input(&images, &mut input);
    fixture.close("view", &input, &fixture.f32s("view"), 0.0);
}

/// RandAugment's operations, shift, cutout, and whole transformations: to the bit.
pub fn operations(fixture: &Fixture) {
    let images = fixture.u8s("images");
    let whole = |name: &str| fixture.u8s(&format!("{name}_by"));
    let real = |name: &str| fixture.f32s(&format!("{name}_by"));
    let [bits, right, down] = ["posterize", "translate_x", "translate_y"].map(whole);
    let [threshold, sharpness, degrees, shear_x, shear_y] =
        ["solarize", "sharpness", "rotate", "shear_x", "shear_y"].map(real);
    let names = [
        "autocontrast",
        "equalize",
        "posterize",
        "solarize",
        "sharpness",
        "rotate",
        "shear_x",
        "shear_y",
        "translate_x",
        "translate_y",
    ];
    let operation = |which: usize, i: usize| match which {
        0 => Operation::AutoContrast,
        1 => Operation::Equalize,
        2 => Operation::Posterize(bits[i]),
        3 => Operation::Solarize(threshold[i] as u16),
        4 => Operation::Sharpness(sharpness[i]),
        5 => Operation::Rotate(degrees[i]),
        6 => Operation::ShearX(shear_x[i]),
        7 => Operation::ShearY(shear_y[i]),
        8 => Operation::TranslateX(i32::from(right[i]) - 10),
        _ => Operation::TranslateY(i32::from(down[i]) - 10),
    };
    for (which, name) in names.into_iter().enumerate() {
        compare(fixture, name, &images, EXACT, &|i, image, out| {
            out.copy_from_slice(image);
            operation(which, i).apply(out);
        });
    }
    let [shift, order, center] = ["shift_by", "order", "cutout_at"].map(|name| fixture.u8s(name));
    let (flip, pair) = (fixture.u8s("flip"), |values: &[u8], i: usize| [values[2 * i], values[2 * i + 1]]);
    let moved = |i: usize| pair(&shift, i).map(|by| i32::from(by) - 4);
    compare(fixture, "shifted", &images, EXACT, &|i, image, out| augment::shift(image, moved(i)[0], moved(i)[1], out));
    compare(fixture, "transformed", &images, EXACT, &|i, image, out| {
        let [first, second] = pair(&order, i).map(|which| operation(usize::from(which), i));
        let [y, x] = pair(&center, i).map(usize::from);
        let transformation = Transformation {
            crop: None,
            shift: moved(i),
            flip: flip[i] == 1,
            jitter: None,
            gray: false,
            operations: [first, second, Operation::Identity, Operation::Identity],
            cutout: Some(Square { y, x, side: 16 }),
        };
        transformation.apply(image, out);
    });
}

/// By its number in the fixtures.
fn adjustment(kind: usize, factor: f32) -> Adjustment {
    match kind {
        0 => Adjustment::Brightness(factor),
        1 => Adjustment::Contrast(factor),
        2 => Adjustment::Saturation(factor),
        _ => Adjustment::Hue(factor),
    }
}

/// Adjustments of colour in their widest ranges, and transformations of every part.
pub fn wide(fixture: &Fixture) {
    let images = fixture.u8s("images");
    let names = ["brightness", "contrast", "saturation", "hue"];
    let factors = names.map(|name| fixture.f32s(&format!("{name}_by")));
    let operation = |kind: usize, i: usize| match kind {
        0 => Operation::Brightness(factors[0][i]),
        1 => Operation::Contrast(factors[1][i]),
        _ => Operation::Saturation(factors[2][i]),
    };
    for (kind, name) in names.into_iter().enumerate() {
        compare(fixture, name, &images, EXACT, &|i, image, out| {
            out.copy_from_slice(image);
            match name {
                "hue" => augment::hue(out, factors[kind][i]),
                _ => operation(kind, i).apply(out),
            }
        });
    }
    let adjustment = |kind: usize, i: usize| adjustment(kind, factors[kind][i]);
    let [boxes, shift, jitter, order, center, flip, gray] =
        ["crop_boxes", "shift_by", "jitter_order", "order", "cutout_at", "flip", "gray"].map(|name| fixture.u8s(name));
    compare(fixture, "transformed", &images, EXACT, &|i, image, out| {
        let [top, left, height, width] = std::array::from_fn(|k| usize::from(boxes[4 * i + k]));
        let [first, second] = [0, 1].map(|k| operation(usize::from(order[2 * i + k]), (i + 1) % gray.len()));
        let transformation = Transformation {
            crop: Some(CropBox { top, left, height, width }),
            shift: [0, 1].map(|k| i32::from(shift[2 * i + k]) - 4),
            flip: flip[i] == 1,
            jitter: Some(std::array::from_fn(|k| adjustment(usize::from(jitter[4 * i + k]), i))),
            gray: gray[i] == 1,
            operations: [first, second, Operation::Identity, Operation::Identity],
            cutout: Some(Square { y: center[2 * i].into(), x: center[2 * i + 1].into(), side: 8 }),
        };
        transformation.apply(image, out);
    });
}

fn compare(fixture: &Fixture, name: &str, images: &[u8], tolerance: Tolerance, apply: Apply) {
    let mut ours = vec![0; images.len()];
    for (i, (image, out)) in images.chunks_exact(IMAGE).zip(ours.chunks_exact_mut(IMAGE)).enumerate() {
        apply(i, image, out);
    }
    let theirs = fixture.u8s(name);
    assert_eq!(ours.len(), theirs.len());
    let differences: Vec<u8> = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
    let worst = differences.iter().copied().max().unwrap_or(0);
    let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
    println!("{name}: worst {worst}, mean {mean:.5}");
    assert!(worst <= tolerance.worst && mean <= tolerance.mean, "{name}: worst {worst}, mean {mean}");
}
