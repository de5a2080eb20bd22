//! Images: convolution → batch norm → residual sum → ReLU → 2×2 max-pooling, and back.

use crate::sums::{Group, Tensors, dot};

/// Some images of [channels, side, side] values each.
#[derive(Clone)]
pub struct Maps {
    pub channels: usize,
    pub side: usize,
    pub images: Vec<Vec<f32>>,
}

impl Maps {
    pub fn zeros(n: usize, channels: usize, side: usize) -> Maps {
        Maps { channels, side, images: vec![vec![0.0; channels * side * side]; n] }
    }

    fn place(&self, c: usize, row: usize, column: usize) -> usize {
        (c * self.side + row) * self.side + column
    }

    fn get(&self, i: usize, c: usize, row: usize, column: usize) -> f32 {
        self.images[i][self.place(c, row, column)]
    }

    fn set(&mut self, i: usize, c: usize, row: usize, column: usize, value: f32) {
        let at = self.place(c, row, column);
        self.images[i][at] = value;
    }

    /// With a border of zeros around it: rows and columns from 0 to side + 1.
    fn bordered(&self, i: usize, c: usize, row: usize, column: usize) -> f32 {
        let inside = 1..=self.side;
        if inside.contains(&row) && inside.contains(&column) { self.get(i, c, row - 1, column - 1) } else { 0.0 }
    }
}

/// Batch norm of one channel for one batch.
#[derive(Clone, Copy)]
struct Norm {
    mean: f32,
    inv_std: f32,
    alpha: f32,
    beta: f32,
    mean_g: f32,
    pull: f32,
}

impl Norm {
    fn apply(&self, x: f32) -> f32 {
        (x - self.mean) * self.alpha + self.beta
    }
}

/// A convolution's kind.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Whether it takes the images that come in.
    pub first: bool,
    pub kernel: usize,
    pub stride: usize,
    pub bias: bool,
    pub relu: bool,
    pub pool: bool,
}

/// The study's.
pub const STUDY: Kind = Kind { first: false, kernel: 3, stride: 1, bias: true, relu: true, pool: true };

/// One convolution with batch norm, and what its backward pass needs.
pub struct Conv {
    kind: Kind,
    name: [String; 2],
    x: Maps,
    y: Maps,
    groups: Vec<Group>,
    /// By group, by channel.
    norms: Vec<Vec<Norm>>,
    /// What is added after the norm.
    added: Option<Maps>,
    pub out: Maps,
}

/// F·x·Fᵀ, columns first.
fn both<const N: usize, const M: usize>(f: fn([f32; N]) -> [f32; M], x: impl Fn(usize, usize) -> f32) -> [[f32; M]; M] {
    let columns: [[f32; M]; N] = std::array::from_fn(|j| f(std::array::from_fn(|i| x(i, j))));
    std::array::from_fn(|i| f(std::array::from_fn(|j| columns[j][i])))
}

// Winograd's maps F(2×2, 3×3), sums in the order written.
fn b_t([a, b, c, d]: [f32; 4]) -> [f32; 4] {
    [a - c, b + c, c - b, b - d]
}
fn b([a, b, c, d]: [f32; 4]) -> [f32; 4] {
    [a, (b - c) + d, (b - a) + c, -d]
}
fn a_t([a, b, c, d]: [f32; 4]) -> [f32; 2] {
    [(a + b) + c, (b - c) - d]
}
fn a([a, b]: [f32; 2]) -> [f32; 4] {
    [a, a + b, a - b, -b]
}
fn g([a, b, c]: [f32; 3]) -> [f32; 4] {
    [a, (a + c) * 0.5 + b * 0.5, (a + c) * 0.5 - b * 0.5, c]
}
fn g_t([a, b, c, d]: [f32; 4]) -> [f32; 3] {
    [a + (b + c) * 0.5, (b - c) * 0.5, (b + c) * 0.5 + d]
}

/// Images in one partial sum of the kernel gradients, and tiles per set of products.
const PARTIAL: usize = 8;
const TILES: usize = 64;
/// Places of a 2×2 window in the order in which they win.
const WINDOW: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

impl Conv {
    /// With the tensors of `conv` and `norm`. Groups in train mode update the running statistics.
    pub fn forward(
        kind: Kind,
        [conv, norm]: [&str; 2],
        x: Maps,
        added: Option<Maps>,
        groups: &[Group],
        weights: &mut Tensors,
    ) -> Conv {
        let kernels = &weights[&format!("{conv}.weight")];
        let outputs = kernels.len() / (x.channels * kind.kernel * kind.kernel);
        let bias = if kind.bias { weights[&format!("{conv}.bias")].clone() } else { vec![0.0; outputs] };
        let y = match kind.way(x.side) {
            Way::Planes => by_rows(kind, &x, kernels, &bias),
            Way::Tiles => by_tiles(&x, kernels, &bias),
            Way::Taps => by_taps(kind, &x, kernels, &bias),
        };
        let (n, side) = (y.images.len(), y.side);
        let moments = |i: usize, c: usize| {
            let pixels = &y.images[i][c * side * side..][..side * side];
            let sum = |f: &dyn Fn(f32) -> f32| {
                pixels.chunks(32).map(|run| run.iter().fold(0.0, |sum, x| sum + f(*x))).fold(0.0, |sum, run| sum + run)
            };
            let total: f32 = sum(&|x| x);
            let mean = total * (1.0 / (side * side) as f32);
            (total, sum(&|x| (x - mean) * (x - mean)))
        };
        let pixels = (side * side) as f64;
        // As they are before the pass.
        let running = ["running_mean", "running_var"].map(|which| weights[&format!("{norm}.{which}")].clone());
        let mut norms = vec![];
        for group in groups {
            let count = (group.examples.len() * side * side) as f64;
            let of_channel = |c: usize| {
                let all: Vec<(f32, f32)> = group.examples.clone().map(|i| moments(i, c)).collect();
                let mean = all.iter().map(|m| f64::from(m.0)).sum::<f64>() / count;
                let apart = |m: &(f32, f32)| f64::from(m.0) / pixels - mean;
                let squares = all.iter().map(|m| f64::from(m.1) + pixels * apart(m) * apart(m)).sum::<f64>();
                let (by, variance) = match group.train {
                    true => (mean as f32, squares / count),
                    false => (running[0][c], running[1][c].into()),
                };
                let inv_std = (1.0 / (variance + 1e-5).sqrt()) as f32;
                let [gamma, beta] = ["weight", "bias"].map(|which| weights[&format!("{norm}.{which}")][c]);
                let of = Norm { mean: by, inv_std, alpha: gamma * inv_std, beta, mean_g: 0.0, pull: 0.0 };
                (of, mean, squares)
            };
            let all: Vec<_> = (0..y.channels).map(of_channel).collect();
            for (c, (_, mean, squares)) in all.iter().enumerate().filter(|_| group.train) {
                for (which, new) in [("running_mean", *mean), ("running_var", squares / (count - 1.0))] {
                    let old = &mut weights.get_mut(&format!("{norm}.{which}")).unwrap()[c];
                    *old = (0.9 * f64::from(*old) + 0.1 * new) as f32;
                }
            }
            norms.push(all.into_iter().map(|(norm, ..)| norm).collect());
        }
        let mut done = Conv {
            kind,
            name: [conv, norm].map(str::to_owned),
            x,
            y,
            groups: groups.to_vec(),
            norms,
            added,
            out: Maps::zeros(0, 0, 0),
        };
        let mut out = Maps::zeros(n, done.y.channels, side / kind.step());
        for i in 0..n {
            for c in 0..out.channels {
                for (row, column) in squares(out.side) {
                    let (x, _) = done.chosen(i, c, row, column);
                    let mut v = done.norm(i, c).apply(x);
                    if let Some(added) = &done.added {
                        v += added.get(i, c, row, column);
                    }
                    out.set(i, c, row, column, if kind.relu && v <= 0.0 { 0.0 } else { v });
                }
            }
        }
        done.out = out;
        done
    }

    fn norm(&self, i: usize, c: usize) -> &Norm {
        let group = self.groups.iter().position(|group| group.examples.contains(&i)).unwrap();
        &self.norms[group][c]
    }

    /// The y whose normalised value is the largest of its window, the first of several; and its place there.
    fn chosen(&self, i: usize, c: usize, row: usize, column: usize) -> (f32, usize) {
        let step = self.kind.step();
        let y = |(r, s): (usize, usize)| self.y.get(i, c, step * row + r, step * column + s);
        let better = |best: usize, at: usize| {
            if self.norm(i, c).apply(y(WINDOW[at])) > self.norm(i, c).apply(y(WINDOW[best])) { at } else { best }
        };
        let best = (1..step * step).fold(0, better);
        (y(WINDOW[best]), best)
    }

    /// The gradient of a residual sum before its ReLU: also that of what was added.
    pub fn released(&self, g: &Maps) -> Maps {
        let images = g.images.iter().zip(&self.out.images);
        let masked = |(g, out): (&f32, &f32)| if self.kind.relu && *out <= 0.0 { 0.0 } else { *g };
        Maps { images: images.map(|(g, out)| g.iter().zip(out).map(masked).collect()).collect(), ..*g }
    }

    /// From g = ∂L/∂out, of a residual sum [`Conv::released`], to the gradients of the tensors, and ∂L/∂x, added to what is there
    /// already, unless x is the network's input.
    pub fn backward(
        mut self,
        g: &Maps,
        there: Option<Maps>,
        weights: &Tensors,
        gradients: &mut Tensors,
    ) -> Option<Maps> {
        let (n, side, channels, step) = (self.y.images.len(), self.y.side, self.y.channels, self.kind.step());
        let masked = |conv: &Conv, i: usize, c: usize, row: usize, column: usize| {
            let (x, place) = conv.chosen(i, c, row, column);
            let is_masked = conv.kind.relu && conv.added.is_none() && conv.norm(i, c).apply(x) <= 0.0;
            (x, place, if is_masked { 0.0 } else { g.get(i, c, row, column) })
        };
        // Batch norm's sums: row by row, image by image, group by group.
        let mut totals = vec![[0.0f64; 2]; channels];
        for (at, group) in self.groups.clone().into_iter().enumerate() {
            for (c, total) in totals.iter_mut().enumerate() {
                let of_image = |i: usize| {
                    let mean = self.norm(i, c).mean;
                    (0..side / step).fold([0.0f32; 2], |sums, row| {
                        let of_row = (0..side / step).fold([0.0f32; 2], |sums, column| {
                            let (x, _, g) = masked(&self, i, c, row, column);
                            [sums[0] + g, sums[1] + g * (x - mean)]
                        });
                        [sums[0] + of_row[0], sums[1] + of_row[1]]
                    })
                };
                let images: Vec<[f32; 2]> = group.examples.clone().map(of_image).collect();
                let norm = &self.norms[at][c];
                let [sum_g, sum_gx] = [0, 1].map(|which| images.iter().map(|sums| f64::from(sums[which])).sum::<f64>());
                let sum_gx = sum_gx * f64::from(norm.inv_std);
                let count = (group.examples.len() * side * side) as f64;
                let (mean_g, pull) = ((sum_g / count) as f32, (sum_gx / count) as f32 * norm.inv_std);
                *total = [total[0] + sum_gx, total[1] + sum_g];
                if group.train {
                    self.norms[at][c] = Norm { mean_g, pull, ..*norm };
                }
            }
        }
        let [conv, norm] = &self.name;
        for (which, name) in ["weight", "bias"].iter().enumerate() {
            gradients.insert(format!("{norm}.{name}"), totals.iter().map(|total| total[which] as f32).collect());
        }
        let mut g_y = Maps::zeros(n, channels, side);
        for i in 0..n {
            for c in 0..channels {
                for (row, column) in squares(side / step) {
                    let (_, place, g) = masked(&self, i, c, row, column);
                    for (at, (r, s)) in WINDOW.into_iter().enumerate().take(step * step) {
                        let (x, norm) = (self.y.get(i, c, step * row + r, step * column + s), self.norm(i, c));
                        let g = if at == place { g } else { 0.0 };
                        let dx = norm.alpha * ((g - norm.mean_g) - (x - norm.mean) * norm.pull);
                        g_y.set(i, c, step * row + r, step * column + s, dx);
                    }
                }
            }
        }
        let (kind, way) = (self.kind, self.kind.way(self.x.side));
        let kernel_gradient = |images: &[usize]| match way {
            Way::Tiles => tiles_gradient(&self.x, &g_y, images),
            Way::Planes | Way::Taps => taps_gradient(kind, &self.x, &g_y, images),
        };
        let images: Vec<usize> = (0..n).collect();
        let parts: Vec<Vec<f32>> = images.chunks(PARTIAL).map(kernel_gradient).collect();
        let sum = |at: usize| parts[1..].iter().fold(parts[0][at], |sum, part| sum + part[at]);
        gradients.insert(format!("{conv}.weight"), (0..parts[0].len()).map(sum).collect());
        let kernels = &weights[&format!("{conv}.weight")];
        let there = there.unwrap_or_else(|| Maps::zeros(n, self.x.channels, self.x.side));
        let dx = || match way {
            Way::Planes => None,
            Way::Tiles => Some(input_gradient(there, &g_y, kernels)),
            Way::Taps => Some(taps_input_gradient(kind, there, &g_y, kernels)),
        };
        if !kind.bias {
            return dx();
        }
        // Batch norm by the batch's own statistics removes any shift.
        let by_running: Vec<usize> = self.groups.iter().filter(|g| !g.train).flat_map(|g| g.examples.clone()).collect();
        let shift = |c: usize| {
            let of_image =
                |i: &usize| g_y.images[*i][c * side * side..][..side * side].iter().fold(0.0f32, |a, b| a + b);
            by_running.iter().map(|i| f64::from(of_image(i))).fold(0.0, |a, b| a + b) as f32
        };
        gradients.insert(format!("{conv}.bias"), (0..channels).map(shift).collect());
        dx()
    }
}

/// How the sums of a convolution are computed.
enum Way {
    Planes,
    Tiles,
    Taps,
}

impl Kind {
    fn way(self, side: usize) -> Way {
        match self {
            Kind { first: true, .. } => Way::Planes,
            Kind { kernel: 3, stride: 1, .. } if side.is_multiple_of(2) => Way::Tiles,
            _ => Way::Taps,
        }
    }

    /// Side of a pooling window.
    fn step(self) -> usize {
        if self.pool { 2 } else { 1 }
    }

    /// The row, or column, under a tap's, counted with the border.
    fn under(self, at: usize, tap: usize) -> usize {
        at * self.stride + tap + 1 - self.kernel / 2
    }
}

/// Rows and columns in order.
fn squares(side: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..side * side).map(move |at| (at / side, at % side))
}

/// The first layer: for each row of taps one product over its values, pixel by pixel, channels together.
fn by_rows(kind: Kind, x: &Maps, kernels: &[f32], bias: &[f32]) -> Maps {
    let (k, terms) = (kind.kernel, 3 * kind.kernel);
    let mut y = Maps::zeros(x.images.len(), bias.len(), x.side.div_ceil(kind.stride));
    for i in 0..x.images.len() {
        for (o, bias) in bias.iter().enumerate() {
            for (row, column) in squares(y.side) {
                let of_taps = |tap: usize| {
                    let value = |at: usize| x.bordered(i, at % 3, kind.under(row, tap), kind.under(column, at / 3));
                    let kernel = |at: usize| kernels[((o * 3 + at % 3) * k + tap) * k + at / 3];
                    dot((0..terms).map(|at| (value(at), kernel(at))), None)
                };
                let sum = (0..k).map(of_taps).reduce(|sum, row| sum + row).unwrap();
                y.set(i, o, row, column, sum + bias);
            }
        }
    }
    y
}

/// The definition: for each tap one product over the channels.
fn by_taps(kind: Kind, x: &Maps, kernels: &[f32], bias: &[f32]) -> Maps {
    let k = kind.kernel;
    let mut y = Maps::zeros(x.images.len(), bias.len(), x.side.div_ceil(kind.stride));
    for i in 0..x.images.len() {
        for (o, bias) in bias.iter().enumerate() {
            for (row, column) in squares(y.side) {
                let of_tap = |sum: Option<f32>, tap: usize| {
                    let value = |c: usize| x.bordered(i, c, kind.under(row, tap / k), kind.under(column, tap % k));
                    let kernel = |c: usize| kernels[(o * x.channels + c) * k * k + tap];
                    Some(dot((0..x.channels).map(|c| (value(c), kernel(c))), sum))
                };
                let sum = (0..k * k).fold(None, of_tap).unwrap();
                y.set(i, o, row, column, sum + bias);
            }
        }
    }
    y
}

/// ∂L/∂W by taps, and of the first layer, for some images: a product over each row's pixels, row by row, image by image.
fn taps_gradient(kind: Kind, x: &Maps, g: &Maps, images: &[usize]) -> Vec<f32> {
    let k = kind.kernel;
    let of = |at: usize| {
        let (o, input, tap) = (at / (k * k) / x.channels, at / (k * k) % x.channels, at % (k * k));
        let lines = images.iter().flat_map(|&i| (0..g.side).map(move |row| (i, row)));
        let product = |(i, row): (usize, usize)| {
            let value = |column: usize| x.bordered(i, input, kind.under(row, tap / k), kind.under(column, tap % k));
            dot((0..g.side).map(|column| (value(column), g.get(i, o, row, column))), None)
        };
        lines.map(product).reduce(|sum, line| sum + line).unwrap()
    };
    (0..g.channels * x.channels * k * k).map(of).collect()
}

/// ∂L/∂x by taps, added row by row and tap by tap to what is there.
fn taps_input_gradient(kind: Kind, there: Maps, g: &Maps, kernels: &[f32]) -> Maps {
    let (mut dx, k) = (there, kind.kernel);
    for i in 0..dx.images.len() {
        for input in 0..dx.channels {
            for row in 0..g.side {
                for tap in 0..k * k {
                    for column in 0..g.side {
                        let (to_row, to_column) = (kind.under(row, tap / k), kind.under(column, tap % k));
                        let inside = 1..=dx.side;
                        if inside.contains(&to_row) && inside.contains(&to_column) {
                            let kernel = |o: usize| kernels[(o * dx.channels + input) * k * k + tap];
                            let terms = (0..g.channels).map(|o| (g.get(i, o, row, column), kernel(o)));
                            let sum = dot(terms, Some(dx.get(i, input, to_row - 1, to_column - 1)));
                            dx.set(i, input, to_row - 1, to_column - 1, sum);
                        }
                    }
                }
            }
        }
    }
    dx
}

/// U of a kernel.
fn transformed(kernels: &[f32], inputs: usize, o: usize, input: usize) -> [[f32; 4]; 4] {
    both(g, |i, j| kernels[(o * inputs + input) * 9 + i * 3 + j])
}

/// V of a tile of the input.
fn tile(x: &Maps, i: usize, c: usize, row: usize, column: usize) -> [[f32; 4]; 4] {
    both(b_t, |r, s| x.bordered(i, c, 2 * row + r, 2 * column + s))
}

fn by_tiles(x: &Maps, kernels: &[f32], bias: &[f32]) -> Maps {
    let mut y = Maps::zeros(x.images.len(), bias.len(), x.side);
    for (o, bias) in bias.iter().enumerate() {
        let u: Vec<_> = (0..x.channels).map(|input| transformed(kernels, x.channels, o, input)).collect();
        for i in 0..x.images.len() {
            for (row, column) in squares(x.side / 2) {
                let v: Vec<_> = (0..x.channels).map(|input| tile(x, i, input, row, column)).collect();
                let m = |r: usize, s: usize| dot(v.iter().zip(&u).map(|(v, u)| (v[r][s], u[r][s])), None);
                let out = both(a_t, m);
                for (r, s) in WINDOW {
                    y.set(i, o, 2 * row + r, 2 * column + s, out[r][s] + bias);
                }
            }
        }
    }
    y
}

/// ∂L/∂W of inner layers: over the tiles of a chunk of images, chunk by chunk.
fn tiles_gradient(x: &Maps, g: &Maps, images: &[usize]) -> Vec<f32> {
    let (half, of_image) = (x.side / 2, x.side / 2 * (x.side / 2));
    let chunk = (TILES / of_image).max(1);
    // Whole images, or whole rows of tiles of one.
    let of_set = if chunk > 1 { chunk * of_image } else { (TILES / half).max(1) * half };
    let mut gradient = vec![0.0; g.channels * x.channels * 9];
    for o in 0..g.channels {
        for input in 0..x.channels {
            let mut du: Option<[[f32; 4]; 4]> = None;
            let tiles = |images: &[usize]| -> Vec<(usize, (usize, usize))> {
                images.iter().flat_map(|&i| squares(half).map(move |at| (i, at))).collect()
            };
            let chunks: Vec<_> = images.chunks(chunk).map(tiles).collect();
            for tiles in chunks.iter().flat_map(|tiles| tiles.chunks(of_set)) {
                let pairs: Vec<_> = tiles
                    .iter()
                    .map(|&(i, (row, column))| {
                        let of_g = both(a, |r, s| g.get(i, o, 2 * row + r, 2 * column + s));
                        (tile(x, i, input, row, column), of_g)
                    })
                    .collect();
                let sum =
                    |r: usize, s: usize| dot(pairs.iter().map(|(v, m)| (v[r][s], m[r][s])), du.map(|du| du[r][s]));
                du = Some(std::array::from_fn(|r| std::array::from_fn(|s| sum(r, s))));
            }
            let du = du.unwrap();
            let dw = both(g_t, |r, s| du[r][s]);
            for tap in 0..9 {
                gradient[(o * x.channels + input) * 9 + tap] = dw[tap / 3][tap % 3];
            }
        }
    }
    gradient
}

/// ∂L/∂x: tiles overlap, and are added in order to what is there.
fn input_gradient(there: Maps, g: &Maps, kernels: &[f32]) -> Maps {
    let mut dx = there;
    let (channels, side) = (dx.channels, dx.side);
    for input in 0..channels {
        let u: Vec<_> = (0..g.channels).map(|o| transformed(kernels, channels, o, input)).collect();
        for i in 0..dx.images.len() {
            for (row, column) in squares(side / 2) {
                let m = |o: usize| both(a, |r, s| g.get(i, o, 2 * row + r, 2 * column + s));
                let m: Vec<_> = (0..g.channels).map(m).collect();
                let v = |r: usize, s: usize| dot(m.iter().zip(&u).map(|(m, u)| (m[r][s], u[r][s])), None);
                let d = both(b, v);
                for (r, s) in squares(4) {
                    let (row, column) = (2 * row + r, 2 * column + s);
                    if (1..=side).contains(&row) && (1..=side).contains(&column) {
                        let old = dx.get(i, input, row - 1, column - 1);
                        dx.set(i, input, row - 1, column - 1, old + d[r][s]);
                    }
                }
            }
        }
    }
    dx
}
