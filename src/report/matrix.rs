//! The confusion matrix: a cell with its count for each pair of a few classes, one picture of many.

use std::fmt::Write;

use super::figure::{Matrix, Picture};
use super::svg::{self, FAINT, INK, escape};
use super::text::{self, Label};

/// More classes than this are drawn without counts, small.
pub const FEW: usize = 20;
/// More classes than this are drawn without names: letters as small as their cells cannot be read.
pub const NAMED: usize = 256;

/// Size of a cell, of the names, and the room that a name has, in pixels.
fn sizes(classes: usize) -> [f64; 3] {
    match classes {
        ..=FEW => [38.0, 12.0, 200.0],
        21..=64 => [13.0, 10.0, 150.0],
        65..=NAMED => [9.0, 8.0, 110.0],
        _ => [2.0, 0.0, 0.0],
    }
}

pub fn matrix(matrix: &Matrix) -> ([f64; 2], String) {
    let n = matrix.classes.len();
    let [cell, size, room] = sizes(n);
    let widths = matrix.classes.iter().filter(|_| n <= NAMED).map(|name| text::width(name, size).min(room));
    let names = widths.fold(0.0, f64::max);
    let (left, top, side) = (names + 30.0, if n <= FEW { 20.0 } else { 8.0 }, n as f64 * cell);
    let mut out = String::new();
    if n <= FEW {
        counts(&mut out, matrix, [left, top], cell)
    } else {
        shares(&mut out, matrix, [left, top], cell)
    }
    let bottom = top + side;
    // The names of columns stand upright where they are too close to lean.
    let (turn, depth) = if n <= FEW { (-45.0, names * 0.75 + 6.0) } else { (-90.0, names) };
    for (i, name) in matrix.classes.iter().enumerate().filter(|_| n <= NAMED) {
        let middle = (i as f64 + 0.5) * cell + size / 3.0;
        let name_at = |at: [f64; 2], turn| Label { anchor: "end", size, room, turn, ..Label::at(at[0], at[1]) };
        name_at([left - 8.0, top + middle], 0.0).write(&mut out, name);
        name_at([left + middle, bottom + if n <= FEW { 10.0 } else { 6.0 }], turn).write(&mut out, name);
    }
    let height = bottom + depth + 30.0;
    let axis = |x, y, turn| Label { anchor: "middle", turn, ..Label::at(x, y) };
    axis(left + side / 2.0, height - 6.0, 0.0).write(&mut out, "predicted class");
    axis(12.0, top + side / 2.0, -90.0).write(&mut out, "class");
    ([left + side + 12.0, height], out)
}

/// "cat, predicted as dog: 3 of 40"
fn counts(out: &mut String, matrix: &Matrix, [left, top]: [f64; 2], cell: f64) {
    for (i, (name, row)) in matrix.classes.iter().zip(&matrix.counts).enumerate() {
        let all: u32 = row.iter().sum();
        let y = top + i as f64 * cell;
        for (j, &count) in row.iter().enumerate() {
            let share = f64::from(count) / f64::from(all.max(1));
            let x = left + j as f64 * cell;
            let [r, g, b] = shade(share);
            let _ = write!(
                out,
                "<g><title>{}, predicted as {}: {count} of {all}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" \
                 width=\"{cell}\" height=\"{cell}\" fill=\"#{r:02x}{g:02x}{b:02x}\"/>",
                escape(name),
                escape(&matrix.classes[j])
            );
            if count > 0 {
                let ink = if share > 0.3 { "#ffffff" } else { INK };
                let _ = write!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"{ink}\">{count}\
                     </text>",
                    x + cell / 2.0,
                    y + cell / 2.0 + 4.0
                );
            }
            *out += "</g>\n";
        }
    }
}

/// A pixel a cell: as elements, those of 256 classes would be megabytes.
fn shares(out: &mut String, matrix: &Matrix, [left, top]: [f64; 2], cell: f64) {
    let n = matrix.classes.len();
    let shades = matrix.counts.iter().flat_map(|row| {
        let all: u32 = row.iter().sum();
        row.iter().flat_map(move |&count| shade(f64::from(count) / f64::from(all.max(1))))
    });
    let picture = Picture { side: n, rgb: shades.collect(), caption: String::new(), right: None };
    let side = n as f64 * cell;
    let _ = writeln!(out, "<g class=\"cells\" data-cells=\"{left:.1} {top:.1} {cell}\">");
    svg::image(out, [left, top], side, &picture);
    let _ = writeln!(
        out,
        "<rect class=\"faint\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side}\" height=\"{side}\" fill=\"none\" \
         stroke=\"{FAINT}\"/>\n</g>"
    );
}

/// From white to dark blue: lightness alone tells the share.
fn shade(share: f64) -> [u8; 3] {
    let mix = |from: f64, to: f64| (from + (to - from) * share.sqrt()) as u8;
    [mix(250.0, 8.0), mix(250.0, 48.0), mix(250.0, 107.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(n: usize) -> (Vec<String>, [f64; 2], String) {
        let classes: Vec<String> = (0..n).map(|class| format!("class {class:03}")).collect();
        let counts = (0..n).map(|row| (0..n).map(|column| (row * column) as u32 % 7 + 1).collect()).collect();
        let (size, drawn) = matrix(&Matrix { classes: classes.clone(), counts });
        (classes, size, drawn)
    }

    #[test]
    fn more_classes_than_can_be_named_are_a_picture() {
        let (_, [width, height], drawn) = drawn(1000);
        assert!(drawn.contains("data-cells=\"30.0 8.0 2\"") && !drawn.contains("class 0"), "{}", &drawn[..200]);
        assert!(width > 2000.0 && height > 2000.0 && width < 2100.0 && height < 2100.0, "{width} × {height}");
        // 3 bytes for each of a million pixels, before they are packed.
        assert!(drawn.len() < 1_500_000, "{} bytes", drawn.len());
    }

    #[test]
    fn many_classes_keep_their_names_and_stay_small() {
        for n in [2, 20, 21, 64, 65, 256] {
            let (classes, [width, height], drawn) = drawn(n);
            for name in &classes {
                assert_eq!(drawn.matches(&format!(">{name}</text>")).count(), 2, "{n}: at both axes");
            }
            // At both axes names do not run into the next.
            let [cell, size, _] = sizes(n);
            assert!(size <= cell && width > n as f64 * cell && height > n as f64 * cell);
            assert!(drawn.len() < 500_000, "{n}: {} bytes", drawn.len());
        }
    }
}
