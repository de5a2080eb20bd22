//! A 3×3 convolution with its [`tail`]: batch norm, ReLU, pooling.
//!
//! With W the kernels: y = W∗x + b; with g = ∂L/∂y: ∂L/∂W = Σ over pixels of g·(the x that it saw), ∂L/∂b = Σ g, ∂L/∂x
//! = Wᵀ∗g. On images (3 channels) the sums are products with rows of pixels as they lie in memory; a layer inside the
//! network goes by [`winograd`].
//!
//! Images go in parallel, a chunk of them at a time so that all steps of one chunk stay in the cache. Gradients of
//! kernels are added up in groups of [`GROUP`] images, the groups in order: neither depends on the number of threads.

use rayon::prelude::*;

use super::Pass;
use super::lanes::{chunks_or_none, grow, scratch};
use super::norm::Norm;
use super::product::{Left, PANEL, Right, product};
use super::tail::{self, Tail};
use super::update::Sink;
use super::winograd::{self, matrix_len};
use crate::data::{CHANNELS, SIDE};
use crate::network::Array;
use crate::simd::simd;

/// Images whose kernel gradients are added up in one go.
const GROUP: usize = 8;
/// Winograd's tiles that one set of products takes.
const TILES: usize = 64;

/// One convolution with what follows it, its buffers included.
pub struct Conv {
    /// Whether it takes images: planes [3, 32, 32] without a border, and no gradient.
    first: bool,
    inputs: usize,
    outputs: usize,
    side: usize,
    /// Index of the kernels' tensor; the bias is the next.
    tensor: usize,
    /// Index of γ's tensor.
    norm: Option<usize>,
    tail: Tail,
    /// Kernels [9, inputs, outputs padded], and [9, outputs, inputs padded]; then as Winograd's products take them.
    taps: [Vec<f32>; 2],
    kernels: [Vec<f32>; 2],
    bias: Vec<f32>,
    /// y of the batch, and per image: moments, and sums for the tail's gradient.
    y: Vec<f32>,
    moments: Vec<f32>,
    source: Vec<f32>,
    norms: Vec<Norm>,
    /// Channels last with a border of zeros: what comes out, and its gradient.
    pub out: Vec<f32>,
    pub g: Vec<f32>,
    /// ∂L/∂W by groups, [9, inputs, outputs padded] each, and in the tensor's order; ∂L/∂b per image.
    partial: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(PANEL)
}

impl Conv {
    /// `tensor`: the index of its first tensor.
    pub fn new(inputs: usize, outputs: usize, side: usize, tensor: usize, first: bool) -> Conv {
        Conv {
            first,
            inputs,
            outputs,
            side,
            tensor,
            norm: None,
            tail: Tail::default(),
            taps: [vec![], vec![]],
            kernels: [vec![], vec![]],
            bias: vec![0.0; padded(outputs)],
            y: vec![],
            moments: vec![],
            source: vec![],
            norms: vec![],
            out: vec![],
            g: vec![],
            partial: vec![],
            dw: vec![],
            db: vec![],
        }
    }

    /// Adds batch norm with its first tensor.
    pub fn add_norm(&mut self, tensor: usize) -> bool {
        let free = self.norm.is_none() && !self.tail.relu && !self.tail.pool;
        self.norm = Some(tensor);
        free
    }

    pub fn add_relu(&mut self) -> bool {
        !std::mem::replace(&mut self.tail.relu, true) && !self.tail.pool
    }

    pub fn add_pool(&mut self) -> bool {
        self.side.is_multiple_of(2) && !std::mem::replace(&mut self.tail.pool, true)
    }

    /// Channels and side of what comes out.
    pub fn shape(&self) -> (usize, usize) {
        (self.outputs, self.side / self.tail.stride())
    }

    /// Values of one image's result, border included.
    fn out_len(&self) -> usize {
        let side = self.side / self.tail.stride() + 2;
        side * side * padded(self.outputs)
    }

    /// Values of one image's input, border included.
    pub fn in_len(&self) -> usize {
        if self.first { CHANNELS * SIDE * SIDE } else { (self.side + 2) * (self.side + 2) * padded(self.inputs) }
    }

    fn y_len(&self) -> usize {
        self.side * self.side * padded(self.outputs)
    }

    fn source_len(&self) -> usize {
        self.y_len() / (self.tail.stride() * self.tail.stride())
    }

    fn tiles(&self) -> usize {
        self.side / 2 * (self.side / 2)
    }

    /// Images that go through one set of products.
    fn chunk(&self) -> usize {
        if self.first { 1 } else { (TILES / self.tiles()).max(1) }
    }

    /// From x to `out`. In training batch norm takes each of the pass's groups as a batch of its own.
    pub fn forward(&mut self, x: &[f32], pass: &mut Pass) {
        let n = pass.n;
        self.prepare(n, pass.train.is_some(), &pass.weights[self.tensor..self.tensor + 2]);
        let (width, chunk) = (padded(self.outputs), self.chunk());
        let (x_len, y_len, out_len, source_len) = (self.in_len(), self.y_len(), self.out_len(), self.source_len());
        self.norms.resize_with(pass.groups.max(self.norms.len()), Norm::default);
        if pass.train.is_none() {
            self.norms.iter_mut().for_each(|norm| match self.norm {
                Some(tensor) => norm.set_running(width, &pass.weights[tensor..tensor + 4]),
                None => norm.identity(width),
            });
            let (mut out, mut source) = (std::mem::take(&mut self.out), std::mem::take(&mut self.source));
            let results = out[..n * out_len].par_chunks_mut(chunk * out_len);
            let sources = source[..n * source_len].par_chunks_mut(chunk * source_len);
            results.zip(sources).zip(x[..n * x_len].par_chunks(chunk * x_len)).for_each(|((out, source), x)| {
                scratch(chunk * y_len + self.scratch_len(), |memory| {
                    let (y, memory) = memory.split_at_mut(chunk * y_len);
                    self.convolve(x, y, memory);
                    let images = y.chunks_exact(y_len).zip(source.chunks_exact_mut(source_len));
                    for (out, (y, source)) in out.chunks_exact_mut(out_len).zip(images) {
                        tail::forward(self.tail, &self.norms[0], self.side, y, out, source);
                    }
                });
            });
            (self.out, self.source) = (out, source);
            return;
        }
        let (mut y, mut moments) = (std::mem::take(&mut self.y), std::mem::take(&mut self.moments));
        let results = y[..n * y_len].par_chunks_mut(chunk * y_len);
        let sums = moments[..n * 2 * width].par_chunks_mut(chunk * 2 * width);
        results.zip(sums).zip(x[..n * x_len].par_chunks(chunk * x_len)).for_each(|((y, moments), x)| {
            scratch(self.scratch_len(), |memory| self.convolve(x, y, memory));
            if self.norm.is_some() {
                for (y, moments) in y.chunks_exact(y_len).zip(moments.chunks_exact_mut(2 * width)) {
                    tail::moments(y, width, moments);
                }
            }
        });
        (self.y, self.moments) = (y, moments);
        let of_group = n / pass.groups;
        for (norm, moments) in
            self.norms.iter_mut().zip(self.moments[..n * 2 * width].chunks_exact(of_group * 2 * width))
        {
            match self.norm {
                Some(tensor) => {
                    norm.set_batch(moments, width, self.side * self.side, &mut pass.weights[tensor..tensor + 4]);
                }
                None => norm.identity(width),
            }
        }
        let results = self.out[..n * out_len].par_chunks_exact_mut(out_len);
        let sources = self.source[..n * source_len].par_chunks_exact_mut(source_len);
        let images = results.zip(sources).zip(self.y[..n * y_len].par_chunks_exact(y_len)).enumerate();
        images.for_each(|(i, ((out, source), y))| {
            tail::forward(self.tail, &self.norms[i / of_group], self.side, y, out, source);
        });
    }

    /// Sizes the buffers for `n` images, and brings the kernels into the shapes that the products take.
    fn prepare(&mut self, n: usize, train: bool, tensors: &[Array]) {
        let (width, back) = (padded(self.outputs), padded(self.inputs));
        let (y_len, out_len, source_len) = (self.y_len(), self.out_len(), self.source_len());
        grow(&mut self.out, n * out_len);
        grow(&mut self.source, n * source_len);
        if train {
            grow(&mut self.y, n * y_len);
            grow(&mut self.moments, n * 2 * width);
            grow(&mut self.g, n * out_len);
        }
        let [weight, bias] = tensors else { unreachable!("a convolution has two tensors") };
        self.bias[..self.outputs].copy_from_slice(&bias.values);
        let [taps, taps_back] = &mut self.taps;
        grow(taps, 9 * self.inputs * width);
        let (inputs, outputs) = (self.inputs, self.outputs);
        taps.par_chunks_exact_mut(width).enumerate().for_each(|(at, row)| {
            let (tap, input) = (at / inputs, at % inputs);
            for (output, value) in row[..outputs].iter_mut().enumerate() {
                *value = weight.values[(output * inputs + input) * 9 + tap];
            }
        });
        if self.first {
            return;
        }
        let [kernels, kernels_back] = &mut self.kernels;
        grow(kernels, 16 * inputs * width);
        winograd::transform_kernels(taps, inputs, width, kernels);
        if train {
            grow(taps_back, 9 * outputs * back);
            taps_back.par_chunks_exact_mut(back).enumerate().for_each(|(at, row)| {
                let (tap, output) = (at / outputs, at % outputs);
                for (input, value) in row[..inputs].iter_mut().enumerate() {
                    *value = weight.values[(output * inputs + input) * 9 + tap];
                }
            });
            grow(kernels_back, 16 * outputs * back);
            winograd::transform_kernels(taps_back, outputs, back, kernels_back);
        }
    }

    /// Scratch memory that [`Conv::convolve`] takes.
    fn scratch_len(&self) -> usize {
        if self.first {
            CHANNELS * (SIDE + 2) * (SIDE + 2)
        } else {
            let tiles = self.chunk() * self.tiles();
            16 * (matrix_len(tiles, padded(self.inputs)) + matrix_len(tiles, padded(self.outputs)))
        }
    }

    /// y of a chunk of images.
    fn convolve(&self, x: &[f32], y: &mut [f32], memory: &mut [f32]) {
        let (side, from, width) = (self.side, padded(self.inputs), padded(self.outputs));
        if self.first {
            pad_image(x, memory);
            let kernels = Right::rows(&self.taps[0], width);
            for (row, y) in y.chunks_exact_mut(side * width).enumerate() {
                for dy in 0..3 {
                    // The three pixels that one tap row sees are 9 neighbouring values.
                    let a = Left { values: &memory[(row + dy) * (side + 2) * CHANNELS..], row: CHANNELS, col: 1 };
                    let b = Right { values: &kernels.values[dy * 9 * width..], ..kernels };
                    product(y, width, a, b, [side, 9, width], dy > 0);
                }
                add_bias(y, &self.bias);
            }
            return;
        }
        let images = x.len() / self.in_len();
        let (tiles, of_image) = (images * self.tiles(), self.tiles());
        let (v_len, m_len) = (matrix_len(tiles, from), matrix_len(tiles, width));
        let (v, memory) = memory.split_at_mut(16 * v_len);
        let m = &mut memory[..16 * m_len];
        for (i, x) in x.chunks_exact(self.in_len()).enumerate() {
            winograd::transform_input(x, side, from, v, tiles, i * of_image);
        }
        let matrices = v.chunks_exact(v_len).zip(self.kernels[0].chunks_exact(self.inputs * width));
        for (m, (v, u)) in m.chunks_exact_mut(m_len).zip(matrices) {
            let (a, b) = (Left { values: v, row: from, col: 1 }, Right::packed(u, self.inputs));
            product(m, width, a, b, [tiles, self.inputs, width], false);
        }
        for (i, y) in y.chunks_exact_mut(self.y_len()).enumerate().take(images) {
            winograd::transform_output(m, tiles, i * of_image, &self.bias, side, y);
        }
    }

    /// From `g` = ∂L/∂out to the gradients of all tensors, and to ∂L/∂x in `dx` unless it is nobody's. `x` as the
    /// forward pass had it.
    pub fn backward(&mut self, x: &[f32], dx: Option<&mut [f32]>, n: usize, groups: usize, sink: &mut Sink) {
        let width = padded(self.outputs);
        let of_group = n / groups;
        if let Some(tensor) = self.norm {
            self.tail_gradient(n, of_group, tensor, sink);
        }
        let (x_len, y_len, out_len) = (self.in_len(), self.y_len(), self.out_len());
        let kernel_len = 9 * self.inputs * width;
        let parts = n.div_ceil(GROUP);
        grow(&mut self.partial, parts * kernel_len);
        grow(&mut self.db, n * width);
        let (mut partial, mut db) = (std::mem::take(&mut self.partial), std::mem::take(&mut self.db));
        let dx = dx.map_or(&mut [][..], |dx| &mut dx[..n * x_len]);
        let tasks = partial[..parts * kernel_len].par_chunks_exact_mut(kernel_len);
        let tasks = tasks.zip(db[..n * width].par_chunks_mut(GROUP * width)).enumerate();
        tasks.zip(chunks_or_none(dx, GROUP * x_len, parts)).for_each(|((group, (dw, db)), dx)| {
            let first = group * GROUP;
            let images = first..n.min(first + GROUP);
            let x = &x[images.start * x_len..images.end * x_len];
            self.group_backward(x, images, of_group, [y_len, out_len], dw, db, dx);
        });
        (self.partial, self.db) = (partial, db);
        self.sum_groups(parts, kernel_len);
        sink.take(self.tensor, &self.dw[..self.outputs * self.inputs * 9]);
        let bias = &mut self.dw[..self.outputs];
        for (c, bias) in bias.iter_mut().enumerate() {
            let images = self.db[..n * width].chunks_exact(width);
            *bias = if self.norm.is_some() { 0.0 } else { images.map(|db| f64::from(db[c])).sum::<f64>() as f32 };
        }
        sink.take(self.tensor + 1, bias);
    }

    /// Batch norm's gradients, and what [`tail::backward`] needs of them.
    fn tail_gradient(&mut self, n: usize, of_group: usize, tensor: usize, sink: &mut Sink) {
        let (width, out_len, source_len) = (padded(self.outputs), self.out_len(), self.source_len());
        let images = self.source[..n * source_len].par_chunks_exact(source_len);
        let images = images.zip(self.g[..n * out_len].par_chunks_exact(out_len));
        let sums = self.moments[..n * 2 * width].par_chunks_exact_mut(2 * width);
        sums.zip(images).enumerate().for_each(|(i, (sums, (source, g)))| {
            tail::gradient_sums(self.tail, &self.norms[i / of_group], self.side, source, g, sums);
        });
        let sums = self.moments[..n * 2 * width].chunks_exact(of_group * 2 * width);
        for (norm, sums) in self.norms.iter_mut().zip(sums) {
            norm.set_gradient(sums, self.side * self.side);
        }
        self.dw.resize(self.outputs, 0.0);
        for which in 0..2 {
            self.dw
                .iter_mut()
                .enumerate()
                .for_each(|(c, g)| *g = Norm::gradient(&self.norms[..n / of_group], which, c));
            sink.take(tensor + which, &self.dw);
        }
    }

    /// The gradients of one group of images: ∂L/∂W, ∂L/∂b of each, and ∂L/∂x.
    #[allow(clippy::too_many_arguments, reason = "one call, the body of a parallel loop")]
    fn group_backward(
        &self,
        x: &[f32],
        images: std::ops::Range<usize>,
        of_group: usize,
        [y_len, out_len]: [usize; 2],
        dw: &mut [f32],
        db: &mut [f32],
        mut dx: Option<&mut [f32]>,
    ) {
        let (x_len, width, chunk) = (self.in_len(), padded(self.outputs), self.chunk());
        let du_len = if self.first { 0 } else { 16 * self.inputs * width };
        scratch(chunk * y_len + du_len + self.scratch_len(), |memory| {
            let (g_y, memory) = memory.split_at_mut(chunk * y_len);
            let (du, memory) = memory.split_at_mut(du_len);
            for start in images.clone().step_by(chunk) {
                let inside = start - images.start;
                let some = chunk.min(images.end - start);
                for (i, g_y) in (start..start + some).zip(g_y.chunks_exact_mut(y_len)) {
                    let (y, g) = (&self.y[i * y_len..][..y_len], &self.g[i * out_len..][..out_len]);
                    tail::backward(self.tail, &self.norms[i / of_group], self.side, y, g, g_y);
                    if self.norm.is_none() {
                        let db = &mut db[(i - images.start) * width..][..width];
                        db.fill(0.0);
                        sum_pixels(g_y, db);
                    }
                }
                let x = &x[inside * x_len..][..some * x_len];
                if self.first {
                    self.first_backward(x, g_y, dw, inside > 0, memory);
                } else {
                    let dx = dx.as_deref_mut().map(|dx| &mut dx[inside * x_len..][..some * x_len]);
                    self.chunk_backward(x, g_y, du, dx, inside > 0, memory);
                }
            }
            if !self.first {
                winograd::fold_kernels(du, self.inputs, width, dw);
            }
        });
    }

    /// ∂L/∂W of an image by rows of pixels; added to `dw` if `accumulate`.
    fn first_backward(&self, x: &[f32], g_y: &[f32], dw: &mut [f32], accumulate: bool, memory: &mut [f32]) {
        let (side, width) = (self.side, padded(self.outputs));
        pad_image(x, memory);
        for (row, g_y) in g_y.chunks_exact(side * width).enumerate() {
            for (dy, dw) in dw.chunks_exact_mut(9 * width).enumerate() {
                let a = Left { values: &memory[(row + dy) * (side + 2) * CHANNELS..], row: 1, col: CHANNELS };
                product(dw, width, a, Right::rows(g_y, width), [9, side, width], accumulate || row > 0);
            }
        }
    }

    /// ∂L/∂U of a chunk of images, added to `du` if `accumulate`, and their ∂L/∂x.
    fn chunk_backward(
        &self,
        x: &[f32],
        g_y: &[f32],
        du: &mut [f32],
        dx: Option<&mut [f32]>,
        accumulate: bool,
        memory: &mut [f32],
    ) {
        let (side, from, width) = (self.side, padded(self.inputs), padded(self.outputs));
        let (x_len, of_image) = (self.in_len(), self.tiles());
        let tiles = x.len() / x_len * of_image;
        let (v_len, m_len) = (matrix_len(tiles, from), matrix_len(tiles, width));
        let (v, memory) = memory.split_at_mut(16 * v_len);
        let m = &mut memory[..16 * m_len];
        for (i, (x, g_y)) in x.chunks_exact(x_len).zip(g_y.chunks_exact(self.y_len())).enumerate() {
            winograd::transform_input(x, side, from, v, tiles, i * of_image);
            winograd::transform_gradient(g_y, side, width, m, tiles, i * of_image);
        }
        let du = du.chunks_exact_mut(self.inputs * width);
        for (du, (v, m)) in du.zip(v.chunks_exact(v_len).zip(m.chunks_exact(m_len))) {
            let (a, b) = (Left { values: v, row: 1, col: from }, Right::rows(m, width));
            product(du, width, a, b, [self.inputs, tiles, width], accumulate);
        }
        let Some(dx) = dx else { return };
        let kernels = self.kernels[1].chunks_exact(self.outputs * from);
        for (dv, (m, u)) in v.chunks_exact_mut(v_len).zip(m.chunks_exact(m_len).zip(kernels)) {
            let (a, b) = (Left { values: m, row: width, col: 1 }, Right::packed(u, self.outputs));
            product(dv, from, a, b, [tiles, self.outputs, from], false);
        }
        for (i, dx) in dx.chunks_exact_mut(x_len).enumerate() {
            winograd::fold_gradient(v, tiles, i * of_image, side, from, dx);
        }
    }

    /// Adds the groups' ∂L/∂W in order, and puts them into the tensor's order.
    fn sum_groups(&mut self, parts: usize, kernel_len: usize) {
        let (inputs, outputs, width) = (self.inputs, self.outputs, padded(self.outputs));
        let (total, others) = self.partial[..parts * kernel_len].split_at_mut(kernel_len);
        total.par_chunks_mut(width).enumerate().for_each(|(row, total)| {
            for other in others.chunks_exact(kernel_len) {
                total.iter_mut().zip(&other[row * width..]).for_each(|(sum, v)| *sum += v);
            }
        });
        self.dw.resize(outputs * inputs * 9, 0.0);
        for (output, dw) in self.dw.chunks_exact_mut(inputs * 9).enumerate() {
            for (at, dw) in dw.iter_mut().enumerate() {
                *dw = total[(at % 9 * inputs + at / 9) * width + output];
            }
        }
    }
}

simd! {
    /// An image as the network's input has it, planes [3, 32, 32], channels last with a border: [34, 34, 3].
    fn pad_image(x: &[f32], out: &mut [f32]) {
        let wide = (SIDE + 2) * CHANNELS;
        out[..wide * (SIDE + 2)].fill(0.0);
        for (c, plane) in x.chunks_exact(SIDE * SIDE).enumerate() {
            for (row, out) in plane.chunks_exact(SIDE).zip(out[wide..].chunks_exact_mut(wide)) {
                for (x, pixel) in row.iter().zip(out[CHANNELS..].chunks_exact_mut(CHANNELS)) {
                    pixel[c] = *x;
                }
            }
        }
    }

    /// Adds the bias of each channel to every pixel.
    fn add_bias(y: &mut [f32], bias: &[f32]) {
        for pixel in y.chunks_exact_mut(bias.len()) {
            pixel.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }

    /// Adds every pixel's channels to `sums`.
    fn sum_pixels(g: &[f32], sums: &mut [f32]) {
        for pixel in g.chunks_exact(sums.len()) {
            sums.iter_mut().zip(pixel).for_each(|(sum, g)| *sum += g);
        }
    }
}
