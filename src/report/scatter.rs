//! Points in the plane, a colour and a marker for each class, and the legend.

use std::fmt::Write;

use super::figure::{EXTENT, Scatter};
use super::matrix::NAMED;
use super::svg::COLORS;
use super::text::{self, Label};

/// Corners of the markers in a circle of radius 1, after the dot of the first ten classes: ten classes a marker.
pub const MARKERS: [&[[f64; 2]]; 12] = [
    &[[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]],
    &[[0.0, -1.0], [1.0, 0.8], [-1.0, 0.8]],
    &[[0.0, -1.1], [1.1, 0.0], [0.0, 1.1], [-1.1, 0.0]],
    &[
        [-0.35, -1.0],
        [0.35, -1.0],
        [0.35, -0.35],
        [1.0, -0.35],
        [1.0, 0.35],
        [0.35, 0.35],
        [0.35, 1.0],
        [-0.35, 1.0],
        [-0.35, 0.35],
        [-1.0, 0.35],
        [-1.0, -0.35],
        [-0.35, -0.35],
    ],
    &[
        [0.0, -0.5],
        [0.6, -1.0],
        [1.0, -0.6],
        [0.5, 0.0],
        [1.0, 0.6],
        [0.6, 1.0],
        [0.0, 0.5],
        [-0.6, 1.0],
        [-1.0, 0.6],
        [-0.5, 0.0],
        [-1.0, -0.6],
        [-0.6, -1.0],
    ],
    &[[0.0, 1.0], [1.0, -0.8], [-1.0, -0.8]],
    &[
        [0.0, -1.1],
        [0.3, -0.35],
        [1.1, -0.35],
        [0.5, 0.15],
        [0.7, 1.0],
        [0.0, 0.5],
        [-0.7, 1.0],
        [-0.5, 0.15],
        [-1.1, -0.35],
        [-0.3, -0.35],
    ],
    &[[-0.3, -1.0], [0.3, -1.0], [0.3, 1.0], [-0.3, 1.0]],
    &[[-1.0, -0.3], [1.0, -0.3], [1.0, 0.3], [-1.0, 0.3]],
    &[[-1.0, 0.0], [0.8, -1.0], [0.8, 1.0]],
    &[[1.0, 0.0], [-0.8, -1.0], [-0.8, 1.0]],
    &[[-1.0, -0.9], [1.0, -0.9], [-1.0, 0.9], [1.0, 0.9]],
];

/// [`COLORS`] at half their lightness, for the classes after those that colours and markers tell apart.
pub const DARK: [&str; 10] =
    ["#20486d", "#805508", "#5f0f01", "#4a5251", "#421a5b", "#55362d", "#743300", "#5d5838", "#393b41", "#496d6e"];

/// The class's colour, and its marker where that is not the dot.
fn style(class: usize) -> (&'static str, Option<&'static [[f64; 2]]>) {
    let (color, marker) = (class % COLORS.len(), class / COLORS.len());
    let palette = if (marker / (MARKERS.len() + 1)).is_multiple_of(2) { COLORS } else { DARK };
    (palette[color], (marker % (MARKERS.len() + 1)).checked_sub(1).map(|marker| MARKERS[marker]))
}

/// Path data of a marker.
fn polygon(corners: &[[f64; 2]], [x, y]: [f64; 2], radius: f64) -> String {
    let corner = |[dx, dy]: &[f64; 2]| format!("{:.1} {:.1}", x + radius * dx, y + radius * dy);
    format!("M{}Z", corners.iter().map(corner).collect::<Vec<_>>().join("L"))
}

pub fn scatter(scatter: &Scatter) -> ([f64; 2], String) {
    let (side, margin) = (560.0, 10.0);
    let mut out = String::new();
    let at = |value: u16| margin + f64::from(value) / f64::from(EXTENT) * side;
    let radius = if scatter.points.len() > 3000 { 1.1 } else { 1.8 };
    for class in 0..scatter.classes.len() {
        let of_class = scatter.points.iter().zip(&scatter.labels).filter(|(_, label)| usize::from(**label) == class);
        let points = of_class.map(|(&[x, y], _)| [at(x), at(y)]);
        let (color, marker) = style(class);
        let _ = match marker {
            _ if scatter.labels.iter().all(|label| usize::from(*label) != class) => Ok(()),
            None => {
                let dots: String = points.map(|[x, y]| format!("M{x:.1} {y:.1}h0")).collect();
                let width = 2.0 * radius;
                writeln!(
                    out,
                    "<path d=\"{dots}\" stroke=\"{color}\" stroke-width=\"{width}\" stroke-linecap=\"round\" \
                     stroke-opacity=\"0.7\"/>"
                )
            }
            // Larger than a dot: a shape takes more pixels to tell.
            Some(corners) => {
                let shapes: String = points.map(|point| polygon(corners, point, radius * 1.4)).collect();
                writeln!(out, "<path d=\"{shapes}\" fill=\"{color}\" fill-opacity=\"0.8\"/>")
            }
        };
    }
    let width = match scatter.classes.len() {
        ..=NAMED => legend(&mut out, &scatter.classes, [side + 2.0 * margin, margin], side),
        _ => 0.0,
    };
    ([side + 2.0 * margin + width, side + 2.0 * margin], out)
}

/// The classes' markers and names in columns of at most `height`; the width that they take.
fn legend(out: &mut String, classes: &[String], [left, top]: [f64; 2], height: f64) -> f64 {
    let (pitch, size, room) = match classes.len() {
        ..=28 => (20.0, 12.0, 240.0),
        29..=80 => (14.0, 10.5, 170.0),
        _ => (11.0, 9.0, 120.0),
    };
    let mut x = left + 16.0;
    for (column, names) in classes.chunks((height / pitch) as usize).enumerate() {
        for (row, name) in names.iter().enumerate() {
            let y = top + pitch * (row as f64 + 0.7);
            let (color, marker) = style(column * (height / pitch) as usize + row);
            let radius = size * 0.42;
            let path = marker.map(|corners| polygon(corners, [x, y], radius));
            let _ = match path {
                None => writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{color}\"/>"),
                Some(path) => writeln!(out, "<path d=\"{path}\" fill=\"{color}\"/>"),
            };
            Label { size, room, ..Label::at(x + size, y + size / 3.0) }.write(out, name);
        }
        let widest = names.iter().map(|name| text::width(name, size).min(room)).fold(0.0, f64::max);
        x += size + widest + 16.0;
    }
    x - left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn as_many_classes_as_a_legend_names_look_different() {
        let styles: BTreeSet<String> = (0..NAMED).map(|class| format!("{:?}", style(class))).collect();
        assert_eq!(styles.len(), NAMED);
    }
}
