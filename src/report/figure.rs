//! Figures as data: [`super::svg`] draws them, and the page's script makes them interactive.

use serde::{Serialize, Serializer};

/// One figure of a report.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name of its files, and its anchor in the page.
    pub id: String,
    pub title: String,
    /// A sentence or two.
    pub caption: String,
    pub plot: Plot,
}

/// Serialized for the page's script where that makes it interactive.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Plot {
    Lines(Lines),
    Matrix(Matrix),
    Scatter(Scatter),
    #[serde(skip)]
    Pictures(Pictures),
}

/// Curves over one axis.
#[derive(Clone, Debug, Serialize)]
pub struct Lines {
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// A level to compare with, and its name.
    pub level: Option<(f64, String)>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Axis {
    pub label: String,
    /// Ticks at the values themselves, evenly by their logarithm.
    pub log: bool,
    /// Where no value can be below, and above.
    #[serde(skip)]
    pub limits: [f64; 2],
    /// A value that is shown whether or not a curve comes near.
    #[serde(skip)]
    pub shows: Option<f64>,
}

/// A value beyond ± this is drawn at it: the difference of two that are drawn is finite.
pub const LARGEST: f64 = 1e300;

impl Axis {
    pub fn new(label: &str) -> Axis {
        Axis { label: label.to_owned(), log: false, limits: [-LARGEST, LARGEST], shows: None }
    }

    /// Of shares in per cent.
    pub fn percent(label: &str) -> Axis {
        Axis { limits: [0.0, 100.0], ..Axis::new(&format!("{label} (%)")) }
    }
}

/// One curve.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Its entry in the legend; the curves of several seeds share one.
    pub name: String,
    /// On the training images during the epoch, instead of on other images after it: drawn dashed.
    pub train: bool,
    pub points: Vec<(f64, f64)>,
    /// Half the 95 % interval at each point, where several seeds give one; empty where no point can have any.
    pub half_widths: Vec<Option<f64>>,
}

/// How often each class (row) was predicted as each (column).
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    pub classes: Vec<String>,
    #[serde(serialize_with = "sparse")]
    pub counts: Vec<Vec<u32>>,
}

/// Of each row the columns that are not 0, with their counts.
fn sparse<S: Serializer>(counts: &[Vec<u32>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(counts.iter().map(|row| {
        let entries = row.iter().enumerate().filter(|(_, count)| **count > 0);
        entries.map(|(column, count)| [column as u32, *count]).collect::<Vec<_>>()
    }))
}

/// Points in the plane, coloured by class.
#[derive(Clone, Debug, Serialize)]
pub struct Scatter {
    pub classes: Vec<String>,
    /// From 0 to [`EXTENT`], y downwards.
    pub points: Vec<[u16; 2]>,
    pub labels: Vec<u16>,
    /// Of the points' images among the test images; empty where they are all of them, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<u32>,
    /// The id of the page's sheet, which has the images in the points' order.
    pub sheet: String,
}

/// Width and height of a [`Scatter`].
pub const EXTENT: u16 = 10_000;

/// Small pictures in rows.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Above the columns: title and how many columns it spans.
    pub columns: Vec<(String, usize)>,
    pub rows: Vec<Vec<Picture>>,
    /// Of a picture as it is drawn, in pixels.
    pub size: usize,
}

#[derive(Clone, Debug)]
pub struct Picture {
    pub side: usize,
    /// [side, side, 3]
    pub rgb: Vec<u8>,
    pub caption: String,
    /// Whether it is of the class asked for; none where no class is.
    pub right: Option<bool>,
}

impl Picture {
    /// Of an image of a data set, [3, side, side].
    pub fn of_planes(planes: &[u8], caption: impl Into<String>) -> Picture {
        let pixels = planes.len() / 3;
        let rgb = (0..pixels).flat_map(|i| [planes[i], planes[pixels + i], planes[2 * pixels + i]]).collect();
        Picture { side: pixels.isqrt(), rgb, caption: caption.into(), right: None }
    }
}
