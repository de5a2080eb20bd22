//! 3×3 convolution, padding 1, as products with the columns of each image.
//!
//! Let C be the columns of an image: row (c, dy, dx) holds channel c shifted by (dy − 1, dx − 1), 0 outside. Then
//! y = W·C + b, and with g = ∂L/∂y: ∂L/∂W = Σᵢ gᵢ·Cᵢᵀ, ∂L/∂b = Σ g, and ∂L/∂x folds Wᵀ·g back: each row is added where
//! it was read. Images go in parallel; sums over images in groups of [`GROUP`], the groups in order.

use rayon::prelude::*;

use super::product::{Matrix, product};
use super::sums::sum;

/// Images whose weight gradients are added up in one go.
const GROUP: usize = 8;

/// The sizes of one convolution: `inputs` and `outputs` channels on `side` × `side` pixels.
#[derive(Clone, Copy)]
pub struct Conv {
    pub inputs: usize,
    pub outputs: usize,
    pub side: usize,
}

impl Conv {
    fn pixels(self) -> usize {
        self.side * self.side
    }

    fn taps(self) -> usize {
        self.inputs * 9
    }

    /// x [n, inputs, side, side] to [n, outputs, side, side].
    pub fn forward(self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let (input, output) = (self.inputs * self.pixels(), self.outputs * self.pixels());
        let mut y = vec![0.0; x.len() / input * output];
        y.par_chunks_exact_mut(output).zip(x.par_chunks_exact(input)).for_each_init(
            || vec![0.0; self.taps() * self.pixels()],
            |columns, (y, x)| {
                self.unfold(x, columns);
                let weight = Matrix::new(weight, self.outputs, self.taps());
                product(y, weight, Matrix::new(columns, self.taps(), self.pixels()), false);
                for (plane, bias) in y.chunks_exact_mut(self.pixels()).zip(bias) {
                    plane.iter_mut().for_each(|y| *y += bias);
                }
            },
        );
        y
    }

    /// Gradients of weight and bias, and of x where `wanted`.
    pub fn backward(
        self,
        x: &[f32],
        weight: &[f32],
        g: &[f32],
        wanted: bool,
    ) -> (Vec<f32>, Vec<f32>, Option<Vec<f32>>) {
        let (input, output) = (self.inputs * self.pixels(), self.outputs * self.pixels());
        let mut dx = vec![0.0; if wanted { x.len() } else { 0 }];
        let empty: Vec<&mut [f32]> = (0..x.len().div_ceil(input * GROUP)).map(|_| &mut [][..]).collect();
        let dx_groups = if wanted { dx.chunks_mut(input * GROUP).collect() } else { empty };
        let groups = x.par_chunks(input * GROUP).zip(g.par_chunks(output * GROUP)).zip(dx_groups);
        let partials: Vec<(Vec<f32>, Vec<f64>)> = groups
            .map(|((x, g), dx)| {
                let mut columns = vec![0.0; self.taps() * self.pixels()];
                let mut dw = vec![0.0; weight.len()];
                let mut db = vec![0.0; self.outputs];
                for (i, (x, g)) in x.chunks_exact(input).zip(g.chunks_exact(output)).enumerate() {
                    self.unfold(x, &mut columns);
                    let gradient = Matrix::new(g, self.outputs, self.pixels());
                    product(&mut dw, gradient, Matrix::new(&columns, self.taps(), self.pixels()).t(), i > 0);
                    for (db, plane) in db.iter_mut().zip(g.chunks_exact(self.pixels())) {
                        *db += f64::from(sum(plane));
                    }
                    if wanted {
                        let weight = Matrix::new(weight, self.outputs, self.taps()).t();
                        product(&mut columns, weight, gradient, false);
                        self.fold(&columns, &mut dx[i * input..][..input]);
                    }
                }
                (dw, db)
            })
            .collect();
        let mut dw = vec![0.0; weight.len()];
        let mut db = vec![0.0; self.outputs];
        for (partial_w, partial_b) in &partials {
            dw.iter_mut().zip(partial_w).for_each(|(sum, v)| *sum += v);
            db.iter_mut().zip(partial_b).for_each(|(sum, v)| *sum += v);
        }
        (dw, db.into_iter().map(|v| v as f32).collect(), wanted.then_some(dx))
    }

    /// The columns [inputs·9, pixels] of one image.
    fn unfold(self, x: &[f32], columns: &mut [f32]) {
        for (tap, row) in columns.chunks_exact_mut(self.pixels()).enumerate() {
            let plane = &x[tap / 9 * self.pixels()..][..self.pixels()];
            self.shifted(tap % 9, |to, from| match from {
                Some(from) => row[to].copy_from_slice(&plane[from]),
                None => row[to].fill(0.0),
            });
        }
    }

    /// Adds the columns' gradients to the image's.
    fn fold(self, columns: &[f32], dx: &mut [f32]) {
        for (tap, row) in columns.chunks_exact(self.pixels()).enumerate() {
            let plane = &mut dx[tap / 9 * self.pixels()..][..self.pixels()];
            self.shifted(tap % 9, |to, from| {
                if let Some(from) = from {
                    plane[from].iter_mut().zip(&row[to]).for_each(|(sum, v)| *sum += v);
                }
            });
        }
    }

    /// Tap (dy, dx) = (`tap` / 3 − 1, `tap` % 3 − 1): runs of a column's row, with the pixels they come from, or with
    /// `None` for those outside the image.
    fn shifted(self, tap: usize, mut run: impl FnMut(std::ops::Range<usize>, Option<std::ops::Range<usize>>)) {
        let (side, dy, dx) = (self.side, tap / 3, tap % 3);
        for y in 0..side {
            let row = y * side..(y + 1) * side;
            if y + dy == 0 || y + dy > side {
                run(row, None);
                continue;
            }
            let from = (y + dy - 1) * side;
            match dx {
                0 => {
                    run(row.start..row.start + 1, None);
                    run(row.start + 1..row.end, Some(from..from + side - 1));
                }
                1 => run(row, Some(from..from + side)),
                _ => {
                    run(row.start..row.end - 1, Some(from + 1..from + side));
                    run(row.end - 1..row.end, None);
                }
            }
        }
    }
}
