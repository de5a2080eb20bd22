//! Matrix products with one fixed order of every sum.
//!
//! Each element is a sum over k in blocks of [`BLOCK`]: a chain of fused multiply-adds from +0 in order of k inside a
//! block, block sums added in order. `rten-gemm` computes a block; it was chosen because its kernels (AVX-512,
//! AVX2 with FMA, NEON) all give just these bits.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;
use rten_tensor::prelude::*;

/// Terms in one chain. `rten-gemm` itself starts a new chain after 256; shorter ones round less, and SimSiam's z
/// needs that to stay within 1e-5 of PyTorch's.
pub const BLOCK: usize = 64;

thread_local! {
    /// Picks its kernel when made; cannot be shared between threads.
    static EXECUTOR: GemmExecutor = GemmExecutor::new();
}

/// A view [rows, cols] of a row-major matrix or of its transpose.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `values` is [rows, cols], row by row.
    pub fn new(values: &'a [f32], rows: usize, cols: usize) -> Matrix<'a> {
        assert_eq!(values.len(), rows * cols);
        Matrix { values, rows, cols, transposed: false }
    }

    /// The transpose.
    pub fn t(self) -> Matrix<'a> {
        Matrix { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    fn view(self) -> NdTensorView<'a, f32, 2> {
        if self.transposed {
            let mut view = NdTensorView::from_data([self.cols, self.rows], self.values);
            view.transpose();
            view
        } else {
            NdTensorView::from_data([self.rows, self.cols], self.values)
        }
    }
}

/// `out` = `a`·`b`, or `out` + `a`·`b` with `accumulate`; `out` is [a.rows, b.cols], row by row.
pub fn product(out: &mut [f32], a: Matrix, b: Matrix, accumulate: bool) {
    assert_eq!(a.cols, b.rows);
    EXECUTOR.with(|executor| {
        let (a, b) = (a.view(), b.view());
        let k = a.size(1);
        for start in (0..k).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(k);
            let beta = if start > 0 || accumulate { 1.0 } else { 0.0 };
            let options = GemmOptions { beta, ..GemmOptions::default() };
            let (a, b) = (a.slice((.., block.clone())), GemmInputB::Unpacked(b.slice((block, ..))));
            // With one row and nothing packed `rten-gemm` takes a vector path that adds in another order.
            let done = match a.size(0) {
                1 => executor.gemm(out, GemmInputA::Packed(&executor.prepack_a(a)), b, options),
                _ => executor.gemm(out, GemmInputA::Unpacked(a), b, options),
            };
            done.expect("the shapes agree");
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::{Purpose, Stream};

    fn oracle(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], init: &[f32]) -> Vec<f32> {
        let element = |i: usize, j: usize| {
            let mut sum = None;
            for block in (0..k).collect::<Vec<_>>().chunks(BLOCK) {
                let chain = block.iter().fold(0.0f32, |acc, &p| a[i * k + p].mul_add(b[p * n + j], acc));
                sum = Some(sum.map_or(chain, |sum: f32| sum + chain));
            }
            let start = init.get(i * n + j);
            match (start, sum) {
                // Accumulating, the blocks are added to what is there one by one.
                (Some(&start), _) => (0..k).collect::<Vec<_>>().chunks(BLOCK).fold(start, |sum, block| {
                    sum + block.iter().fold(0.0f32, |acc, &p| a[i * k + p].mul_add(b[p * n + j], acc))
                }),
                (None, sum) => sum.unwrap_or(0.0),
            }
        };
        (0..m * n).map(|at| element(at / n, at % n)).collect()
    }

    fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols).map(|at| values[at % rows * cols + at / rows]).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    fn check(m: usize, k: usize, n: usize) {
        let mut stream = Stream::new(0, Purpose::Init, k as u32, (m * 1000 + n) as u32);
        let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| stream.normal()).collect() };
        let (a, b, init) = (draw(m * k), draw(k * n), draw(m * n));
        let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
        let forms = [
            (Matrix::new(&a, m, k), Matrix::new(&b, k, n)),
            (Matrix::new(&at, k, m).t(), Matrix::new(&b, k, n)),
            (Matrix::new(&a, m, k), Matrix::new(&bt, n, k).t()),
            (Matrix::new(&at, k, m).t(), Matrix::new(&bt, n, k).t()),
        ];
        for (form, (left, right)) in forms.into_iter().enumerate() {
            let mut out = vec![f32::NAN; m * n];
            product(&mut out, left, right, false);
            assert_eq!(bits(&out), bits(&oracle(&a, &b, [m, k, n], &[])), "{m}×{k}×{n}, form {form}");
            let mut out = init.clone();
            product(&mut out, left, right, true);
            assert_eq!(bits(&out), bits(&oracle(&a, &b, [m, k, n], &init)), "{m}×{k}×{n}, form {form}, accumulated");
        }
    }

    #[test]
    fn the_order_of_sums_is_the_contract_at_its_edges() {
        for m in [1, 2, 7, 65] {
            for n in [1, 3, 33] {
                for k in [1, 2, 63, 64, 65, 256, 257, 513] {
                    check(m, k, n);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_order_of_sums_is_the_contract(m in 1usize..80, k in 1usize..600, n in 1usize..120) {
            check(m, k, n);
        }
    }
}
