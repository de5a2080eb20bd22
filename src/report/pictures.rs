//! Small pictures in rows, captions below them, titles above the columns.

use super::figure::Pictures;
use super::svg::image;
use super::text::Label;

/// Pixels between pictures.
const GAP: f64 = 8.0;

pub fn pictures(pictures: &Pictures) -> ([f64; 2], String) {
    let side = pictures.size as f64;
    let captions = pictures.rows.iter().flatten().any(|picture| !picture.caption.is_empty());
    let top = if pictures.columns.is_empty() { GAP } else { 26.0 };
    let (wide, high) = (side + GAP, side + GAP + if captions { 13.0 } else { 0.0 });
    let mut out = String::new();
    let mut column = 0;
    for (title, span) in &pictures.columns {
        let width = wide * *span as f64 - GAP;
        let label = Label::at(GAP + wide * column as f64 + width / 2.0, 16.0);
        Label { anchor: "middle", room: width, ..label }.write(&mut out, title);
        column += span;
    }
    for (i, row) in pictures.rows.iter().enumerate() {
        for (j, picture) in row.iter().enumerate() {
            let (x, y) = (GAP + wide * j as f64, top + high * i as f64);
            image(&mut out, [x, y], side, picture);
            if !picture.caption.is_empty() {
                let label = Label::at(x + side / 2.0, y + side + 11.0);
                Label { anchor: "middle", size: 9.5, room: side, ..label }.write(&mut out, &picture.caption);
            }
        }
    }
    let columns = pictures.rows.iter().map(Vec::len).max().unwrap_or(0);
    ([GAP + wide * columns as f64, top + high * pictures.rows.len() as f64 + GAP / 2.0], out)
}

#[cfg(test)]
mod tests {
    use super::super::figure::{Figure, Picture, Plot};
    use super::super::{raster, svg};
    use super::*;

    /// Captions of twenty wide letters each, under black pictures of 64 pixels: between two columns the picture stays
    /// white from top to bottom.
    #[test]
    fn captions_and_titles_of_neighbours_never_meet() {
        for name in ["W".repeat(20), "猫".repeat(20), "قطة ".repeat(9), "บ".repeat(20), "🦊".repeat(20)] {
            let picture = Picture { side: 32, rgb: vec![0; 32 * 32 * 3], caption: name.clone(), right: None };
            let plot = Plot::Pictures(Pictures {
                columns: vec![(name.clone(), 1), (name.clone(), 2)],
                rows: vec![vec![picture; 3]; 2],
                size: 64,
            });
            let [id, title, caption] = [""; 3].map(str::to_owned);
            let png = raster::render(&svg::document(&Figure { id, title, caption, plot }));
            let pixels = image::load_from_memory(&png).unwrap().to_luma8();
            let scale = f64::from(pixels.width()) / (GAP + 3.0 * (64.0 + GAP));
            for column in [1.0, 2.0, 3.0] {
                let x = ((GAP / 2.0 + column * (64.0 + GAP)) * scale) as u32;
                // The second title stands above two columns.
                let top = if column == 2.0 { (26.0 * scale) as u32 } else { 0 };
                let dark = (top..pixels.height()).filter(|&y| pixels.get_pixel(x, y).0[0] < 250).count();
                assert_eq!(dark, 0, "{name}: something between the columns at {x}");
            }
            // And the captions are there.
            let band = (26.0 + 64.0 + 2.0) * scale..(26.0 + 64.0 + 14.0) * scale;
            let ink = (band.start as u32..band.end as u32).flat_map(|y| (0..pixels.width()).map(move |x| (x, y)));
            let ink = ink.filter(|&(x, y)| pixels.get_pixel(x, y).0[0] < 128).count();
            assert!(ink > 500, "{name}: {ink}");
        }
    }
}
