//! How a file becomes what the networks get: formats, transparency, size, and what is refused.

use image::{ColorType, ImageBuffer, ImageFormat, Luma, LumaA, Rgba, RgbaImage};

use super::*;
use crate::data::IMAGE;
use crate::data::folder::decode::{BYTES, PIXELS, cost, decode};

/// [3, 32, 32].
fn decoded(path: &Path, background: &str) -> Vec<u8> {
    decoded_to(path, background, SIDE)
}

/// [3, side, side].
fn decoded_to(path: &Path, background: &str, side: usize) -> Vec<u8> {
    let mut image = vec![0; 3 * side * side];
    decode(path, background.parse().unwrap(), side, &mut image).unwrap();
    image
}

/// What is wrong with the file.
fn fault(path: &Path) -> String {
    decode(path, Background::default(), SIDE, &mut [0; IMAGE]).unwrap_err()
}

/// A PNG from its chunks (PNG, 5.3 and 11.2.1): size, bits a channel, kind of colour, then name and contents of the others.
fn png(side: u32, depth: u8, color: u8, chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[depth, color, 0, 0, 0]].concat();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, contents) in [(b"IHDR", &header[..])].iter().chain(chunks).chain(&[(b"IEND", &[][..])]) {
        let named = [&name[..], contents].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&named);
        out.extend([&(contents.len() as u32).to_be_bytes()[..], &named, &crc.sum().to_be_bytes()].concat());
    }
    out
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// A 32 × 32 image is taken as it is; of a wide one the middle, each pixel the mean of what it covers.
#[test]
fn the_square_in_the_middle_is_resized() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train/a/wide.png");
    save(&path, 128, 64, |x, _| if (32..96).contains(&x) { [90, 90, 90] } else { [255, 0, 0] });
    assert!(decoded(&path, "white").iter().all(|&level| level == 90), "nothing of the margins");
    let path = folder.path().join("train/a/same.png");
    save(&path, 32, 32, |x, y| [(x * 8) as u8, (y * 8) as u8, 7]);
    let image = decoded(&path, "white");
    assert_eq!([image[5], image[1024 + 64], image[2048 + 9]], [40, 16, 7]);
}

/// Of a colour c with alpha a over g the nearest whole number to (c·a + g·(255 − a)) / 255, for all c and a; 16 bits to
/// the nearest of 65,535 and then of 255.
#[test]
fn transparent_pixels_are_composited_to_the_nearest_level() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    for (background, ground) in [("white", [255; 3]), ("black", [0; 3]), ("#c8641e", [200, 100, 30])] {
        for (first_color, first_alpha) in (0..8).flat_map(|a| (0..8).map(move |c| (c * 32, a * 32))) {
            let pixel =
                |x: u32, y: u32| Rgba([(first_color + x) as u8, (first_color + x) as u8, 77, (first_alpha + y) as u8]);
            save_image(&path, RgbaImage::from_fn(32, 32, pixel).into());
            let image = decoded(&path, background);
            for (at, &level) in image.iter().enumerate() {
                let (channel, x, y) = (at / 1024, at % 32, at % 1024 / 32);
                let Rgba(pixel) = pixel(x as u32, y as u32);
                let [color, alpha, ground, level] = [pixel[channel], pixel[3], ground[channel], level].map(i64::from);
                let exact = color * alpha + ground * (255 - alpha);
                assert!(2 * (255 * level - exact).abs() <= 255, "{color} at {alpha} over {ground}: {level}");
            }
        }
    }
    let deep = |x: u32, y: u32| LumaA([(x * 2111) as u16, (y * 2111) as u16]);
    save_image(&path, DynamicImage::ImageLumaA16(ImageBuffer::from_fn(32, 32, deep)));
    for (at, &level) in decoded(&path, "#c8641e").iter().enumerate() {
        let LumaA([color, alpha]) = deep((at % 32) as u32, (at % 1024 / 32) as u32);
        let (ground, alpha) = ([200, 100, 30][at / 1024] * 257, u64::from(alpha));
        let sixteen = (u64::from(color) * alpha + ground * (65_535 - alpha) + 32_767) / 65_535;
        assert_eq!(u64::from(level), (sixteen + 128) / 257);
    }
}

/// A black image, the left half of which is transparent, in every way in which files say so; the hidden colour is red or
/// black.
#[test]
fn every_mode_that_carries_transparency_is_composited() {
    let folder = tempfile::tempdir().unwrap();
    let half = |x: u32| if x < 16 { 0 } else { 255 };
    let deep = |x: u32| u16::from(half(x)) * 257;
    let images: [(&str, DynamicImage); 8] = [
        ("la8.png", ImageBuffer::from_fn(32, 32, |x, _| LumaA([0u8, half(x)])).into()),
        ("la16.png", ImageBuffer::from_fn(32, 32, |x, _| LumaA([0u16, deep(x)])).into()),
        ("rgba8.png", ImageBuffer::from_fn(32, 32, |x, _| Rgba([255 - half(x), 0u8, 0, half(x)])).into()),
        ("rgba16.png", ImageBuffer::from_fn(32, 32, |x, _| Rgba([65_535 - deep(x), 0u16, 0, deep(x)])).into()),
        ("index.gif", ImageBuffer::from_fn(32, 32, |x, _| Rgba([255 - half(x), 0u8, 0, half(x)])).into()),
        ("lossless.webp", ImageBuffer::from_fn(32, 32, |x, _| Rgba([255 - half(x), 0u8, 0, half(x)])).into()),
        ("rgba8.tiff", ImageBuffer::from_fn(32, 32, |x, _| Rgba([255 - half(x), 0u8, 0, half(x)])).into()),
        ("rgba8.pam", ImageBuffer::from_fn(32, 32, |x, _| Rgba([255 - half(x), 0u8, 0, half(x)])).into()),
    ];
    let mut paths = vec![];
    for (name, image) in images {
        paths.push(folder.path().join(name));
        save_image(paths.last().unwrap(), image);
    }
    // A palette of red and black, the first of which is transparent; grey and colour, of which one is transparent (PNG,
    // 11.3.1.1 tRNS). Each row of pixels begins with its filter, none.
    let rows = |row: &[u8]| deflated(&[&[0], row].concat().repeat(32));
    let black = [vec![9; 16], vec![0; 16]].concat();
    let colored = [[9, 0, 0].repeat(16), vec![0; 48]].concat();
    for (name, color, row, chunks) in [
        (
            "palette.png",
            3,
            [vec![0; 16], vec![1; 16]].concat(),
            &[(b"PLTE", &[255, 0, 0, 0, 0, 0][..]), (b"tRNS", &[0])][..],
        ),
        ("grey.png", 0, black, &[(b"tRNS", &[0, 9][..])]),
        ("color.png", 2, colored, &[(b"tRNS", &[0, 9, 0, 0, 0, 0][..])]),
    ] {
        paths.push(folder.path().join(name));
        let rows = rows(&row);
        let chunks = [chunks, &[(b"IDAT", &rows[..])]].concat();
        fs::write(paths.last().unwrap(), png(32, 8, color, &chunks)).unwrap();
    }
    for path in paths {
        for (background, ground) in [("white", [255; 3]), ("#0a141e", [10, 20, 30])] {
            let image = decoded(&path, background);
            for (channel, plane) in image.chunks_exact(1024).enumerate() {
                let row = [vec![ground[channel]; 16], vec![0; 16]].concat();
                assert_eq!(plane, row.repeat(32), "{} over {background}", path.display());
            }
        }
    }
}

/// What is hidden leaks into no neighbour: a black line on transparent green, shrunk, is grey where it is not white.
#[test]
fn compositing_comes_before_resizing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    let pixel = |x, _| if x == 50 { Rgba([0, 0, 0, 255]) } else { Rgba([0, 255, 0, 0]) };
    save_image(&path, RgbaImage::from_fn(100, 70, pixel).into());
    let image = decoded(&path, "white");
    assert!(image[..1024] == image[1024..2048] && image[..1024] == image[2048..], "grey");
    assert!(image.iter().any(|&level| level < 255) && image[0] == 255);
}

/// The bytes of an opaque image are those of its plain conversion to 8 bits, over any background.
#[test]
fn an_opaque_image_is_the_same_over_any_background() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    let level = |x: u32, y: u32, channel: u32| (x * 2003 + y * 977 + channel * 21_011) as u16;
    let byte = |x, y, channel| (level(x, y, channel) >> 8) as u8;
    let all = |x, y| [0, 1, 2].map(|channel| level(x, y, channel));
    let images: [DynamicImage; 8] = [
        ImageBuffer::from_fn(45, 40, |x, y| Luma([byte(x, y, 0)])).into(),
        ImageBuffer::from_fn(45, 40, |x, y| LumaA([byte(x, y, 0), 255])).into(),
        ImageBuffer::from_fn(45, 40, |x, y| Rgb([0, 1, 2].map(|channel| byte(x, y, channel)))).into(),
        ImageBuffer::from_fn(45, 40, |x, y| Rgba([byte(x, y, 0), byte(x, y, 1), byte(x, y, 2), 255])).into(),
        ImageBuffer::from_fn(45, 40, |x, y| Luma([level(x, y, 0)])).into(),
        ImageBuffer::from_fn(45, 40, |x, y| LumaA([level(x, y, 0), 65_535])).into(),
        ImageBuffer::from_fn(45, 40, |x, y| Rgb(all(x, y))).into(),
        ImageBuffer::from_fn(45, 40, |x, y| Rgba([level(x, y, 0), level(x, y, 1), level(x, y, 2), 65_535])).into(),
    ];
    for image in images {
        let mode = image.color();
        save_image(&path, image.clone());
        let square = image.crop_imm(2, 0, 40, 40).into_rgb8();
        for (side, background) in
            [(32, "white"), (32, "black"), (32, "#123456"), (16, "white"), (50, "white"), (128, "black")]
        {
            let small = image::imageops::resize(&square, side, side, image::imageops::FilterType::Triangle);
            let planes: Vec<u8> =
                (0..3).flat_map(|channel| small.pixels().map(move |pixel| pixel.0[channel])).collect();
            assert_eq!(decoded_to(&path, background, side as usize), planes, "{mode:?} over {background}, {side}");
        }
    }
}

#[test]
fn a_background_is_a_name_or_six_digits() {
    for (text, rgb) in [("white", [255; 3]), ("black", [0; 3]), ("#0a141e", [10, 20, 30])] {
        assert_eq!(text.parse(), Ok(Background(rgb)));
        assert_eq!(Background(rgb).to_string(), text);
    }
    assert_eq!(
        ["#FFFFFF", "#Ff8000"].map(|text| text.parse::<Background>().unwrap().to_string()),
        ["white", "#ff8000"]
    );
    for text in ["", "#", "red", "ffffff", "#fffff", "#fffffff", "#+fffff", "#ggffff", "# 12345", "#12345é"] {
        assert!(text.parse::<Background>().unwrap_err().contains("#rrggbb"), "{text}");
    }
}

/// By content, whatever the ending says; and a file that is cut off is not taken for a whole one.
#[test]
fn other_formats_are_read_and_must_be_whole() {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    let noise = |x: u32, y: u32| {
        Rgb([0, 1, 2].map(|channel: u32| if (x * x + y * 3 + channel * x) % 7 < 3 { 250 } else { 20 }))
    };
    let whole = RgbImage::from_fn(32, 32, noise);
    for format in [Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP] {
        whole.save_with_format(&path, format).unwrap();
        let image = decoded(&path, "white");
        let apart = |(at, &level): (usize, &u8)| {
            level.abs_diff(noise((at % 32) as u32, (at % 1024 / 32) as u32).0[at / 1024])
                > if format == Jpeg { 90 } else { 0 }
        };
        assert!(!image.iter().enumerate().any(apart), "{format:?}");
        let bytes = fs::read(&path).unwrap();
        for length in [bytes.len() / 2, bytes.len() * 9 / 10] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                decode(&path, Background::default(), SIDE, &mut [0; IMAGE]).is_err(),
                "{length} bytes of {format:?}"
            );
        }
    }
    fs::write(&path, "").unwrap();
    assert_eq!(fault(&path), "is empty");
}

/// A number in a floating-point TIFF has no white.
#[test]
fn floating_point_pixels_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tiff");
    save_image(&path, DynamicImage::ImageRgb32F(ImageBuffer::from_pixel(32, 32, Rgb([200.0, 100.0, 0.0]))));
    assert!(fault(&path).contains("floating-point"), "{}", fault(&path));
}

#[test]
fn of_an_animation_the_first_frame_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.gif");
    let mut encoder = image::codecs::gif::GifEncoder::new(fs::File::create(&path).unwrap());
    for level in [10, 200] {
        encoder
            .encode_frame(image::Frame::new(RgbaImage::from_pixel(32, 32, Rgba([level, level, level, 255]))))
            .unwrap();
    }
    drop(encoder);
    assert!(decoded(&path, "white").iter().all(|&level| level == 10));
}

/// A camera that was held on its side: the upper half of what is stored is red, and belongs on the right.
#[test]
fn an_image_is_turned_upright_and_must_be_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.jpg");
    save(&path, 64, 64, |_, y| if y < 32 { [250, 0, 0] } else { [0, 0, 250] });
    let jpeg = fs::read(&path).unwrap();
    // EXIF 2.3: an APP1 segment with one entry, tag 0x0112 (orientation), of type SHORT, 6.
    let entry = [1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
    let exif = [&b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0"[..], &entry].concat();
    let turned = [&jpeg[..2], &exif, &jpeg[2..]].concat();
    fs::write(&path, &turned).unwrap();
    let image = decoded(&path, "white");
    let red = &image[..SIDE * SIDE];
    assert!(red[..8].iter().all(|&x| x < 20) && red[24..32].iter().all(|&x| x > 230), "{:?}", &red[..32]);
    for length in [turned.len() - 2, turned.len() - 9, turned.len() / 2] {
        fs::write(&path, &turned[..length]).unwrap();
        assert_eq!(fault(&path), "is cut off", "{length} bytes of {}", turned.len());
    }
    // What a camera puts after the end does no harm, whatever it looks like; nor does a whole preview inside.
    for after in [&[0; 20][..], &[0xFF, 0xDA, 0, 8, 7, 7, 7], &jpeg[..jpeg.len() / 2]] {
        fs::write(&path, [&turned[..], after].concat()).unwrap();
        decoded(&path, "white");
    }
    let length = (jpeg.len() as u16 + 2).to_be_bytes();
    let preview = [&jpeg[..2], &[0xFF, 0xEF], &length, &jpeg, &jpeg[2..]].concat();
    fs::write(&path, &preview).unwrap();
    decoded(&path, "white");
    fs::write(&path, &preview[..preview.len() - 2]).unwrap();
    assert_eq!(fault(&path), "is cut off", "the preview's end is not the image's");
}

/// A few hundred kilobytes of PNG that are 20,000 × 20,000 grey pixels, 1.6 GB while they become colours; and others that are
/// refused by their size before they are decoded.
#[test]
fn a_picture_that_would_fill_the_memory_is_refused_by_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.png");
    let rows = deflated(&vec![0; 20_000 * (1 + 20_000 / 8)]);
    let huge = png(20_000, 1, 0, &[(b"IDAT", &rows)]);
    assert!(huge.len() < 300_000, "{} bytes", huge.len());
    fs::write(&path, huge).unwrap();
    let side = "65535 on a side: make it smaller";
    assert_eq!(fault(&path), format!("has 20000 × 20000 pixels; at most 200 million are read, {side}"));
    fs::write(&path, png(10_001, 16, 6, &[(b"IDAT", &deflated(&[0]))])).unwrap();
    let deep = "has 10001 × 10001 pixels of 16 bits a channel; at most 100 million are read";
    assert_eq!(fault(&path), format!("{deep}, {side}"));
    for (size, color, takes) in [
        // A phone of 200 megapixels, a camera of 100 with 16 bits, a panorama.
        ((16_320, 12_240), ColorType::Rgb8, Some(199_756_800)),
        ((11_664, 8_750), ColorType::L8, Some(102_060_000)),
        ((11_600, 8_600), ColorType::Rgb16, Some(199_520_000)),
        ((65_535, 3_000), ColorType::La8, Some(196_605_000)),
        ((65_536, 1), ColorType::L8, None),
        ((u32::MAX, u32::MAX), ColorType::Rgba16, None),
    ] {
        assert_eq!(cost(size, color).ok(), takes, "{size:?}");
    }
}

/// What does not fit beside the pictures in work is not even begun, on however many threads.
#[test]
fn pictures_are_decoded_within_one_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    save(&path, 32, 32, |_, _| [7; 3]);
    for budget in [&BYTES, &PIXELS] {
        let everything = budget.take(budget.all);
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let path = &path;
            scope.spawn(move || done.send(decoded(path, "white")).unwrap());
            let before = is_done.recv_timeout(std::time::Duration::from_millis(100));
            assert!(before.is_err(), "decoded beside everything");
            drop(everything);
            assert_eq!(is_done.recv().unwrap(), [7; IMAGE]);
        });
    }
}

/// The canvas is one pixel, and its only frame 100 million: nobody has accounted for that.
#[test]
fn a_frame_larger_than_its_picture_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.gif");
    // GIF89a: header and screen of 1 × 1, an image descriptor of 10,000 × 10,000 with a palette of two, no pixels.
    let size = 10_000u16.to_le_bytes();
    let frame = [&[0x2C, 0, 0, 0, 0][..], &size, &size, &[0x80, 0, 0, 0, 255, 255, 255, 2, 1, 0, 0, 0x3B]].concat();
    fs::write(&path, [&b"GIF89a\x01\0\x01\0\0\0\0"[..], &frame].concat()).unwrap();
    assert!(fault(&path).ends_with("Memory limit exceeded"), "{}", fault(&path));
}

/// Refused before it is read, or waited for.
#[cfg(unix)]
#[test]
fn a_file_of_gigabytes_and_a_pipe_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    fs::File::create(&path).unwrap().set_len(3 << 30).unwrap();
    assert_eq!(fault(&path), "cannot be read: it has 3221225472 bytes, and 1073741824 are the most");
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(fault(&path), "cannot be read: it is a pipe or a device, not a file");
}
