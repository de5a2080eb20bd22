//! The layers as differentiable candle operations, with PyTorch's gradients.
//!
//! candle 0.11's own operations are used where they fit (products, cross-entropy, `detach`). These do not:
//! - max-pooling: its gradient multiplies by the *averaged* mask, a quarter of the true one, and is shared among ties;
//! - ReLU: its gradient at 0 is 1;
//! - convolution: its backward pass is right but slow, a transposed convolution without matrix products.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::engine::{NORM_EPS, NORM_MOMENTUM};

/// What passes are computed in: on the CPU double precision. In single precision SimSiam's z is up to 1.3e-5 from PyTorch's,
/// which is itself up to 7e-6 from the exact value: batch norm over a small batch magnifies both errors. And a value that is 0
/// but for rounding may pass ReLU in one and not in the other, which shows in the gradients of a small batch. GPUs are too slow
/// in double precision.
pub fn precision(device: &Device) -> DType {
    if device.is_cpu() { DType::F64 } else { DType::F32 }
}

/// Convolution with padding k/2: x [n, c, h, w], weight [o, c, k, k], bias \[o\] to [n, o, h/stride, w/stride], rounded up.
///
/// Computed as the weights [o, c·k²] times the columns [n, c·k², pixels] of every output pixel's neighbourhood.
pub fn conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize, taps: &Taps) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let (o, _, k, _) = weight.dims4()?;
    let (border, rows, columns) = (k / 2, h.div_ceil(stride), w.div_ceil(stride));
    let padded = x.pad_with_zeros(2, border, border)?.pad_with_zeros(3, border, border)?.flatten_from(2)?;
    let wide = w + 2 * border;
    let taps = taps.of([k, stride, rows, columns, wide], x.device())?;
    let patches = padded.index_select(&taps, 2)?.reshape((n, c * k * k, rows * columns))?;
    let weight = weight.reshape((1, o, c * k * k))?.expand((n, o, c * k * k))?.contiguous()?;
    let product = weight.matmul(&patches)?.reshape((n, o, rows, columns))?;
    match bias {
        Some(bias) => product.broadcast_add(&bias.reshape((1, o, 1, 1))?),
        None => Ok(product),
    }
}

/// Where the neighbourhoods of a convolution's pixels are in a plane: indices that stay on the device from step to step.
#[derive(Default)]
pub struct Taps(Mutex<BTreeMap<[usize; 5], Tensor>>);

impl Taps {
    /// [k², pixels], for a kernel of k × k, a stride, rows and columns of the output, and the width of the padded input.
    fn of(&self, shape: [usize; 5], device: &Device) -> Result<Tensor> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taps) = known.get(&shape) {
            return Ok(taps.clone());
        }
        let [k, stride, rows, columns, wide] = shape;
        let taps = (0..k * k).flat_map(|tap| {
            let corner = tap / k * wide + tap % k;
            (0..rows * columns).map(move |pixel| (corner + stride * (pixel / columns * wide + pixel % columns)) as u32)
        });
        let taps = Tensor::from_iter(taps, device)?;
        known.insert(shape, taps.clone());
        Ok(taps)
    }
}

/// y = x·Wᵀ + b: x [n, inputs], weight [outputs, inputs].
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)?.broadcast_add(bias)
}

/// Batch norm over dimension 1; training also updates `running` (mean, variance).
///
/// Not candle-nn's, which sums all pixels of a channel in one chain and so loses a digit. Here sums are over the pixels
/// of an image, then over the images.
pub fn batch_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, running: [&Var; 2], train: bool) -> Result<Tensor> {
    let channels = weight.elem_count();
    let per_channel =
        |t: &Tensor| if x.rank() == 4 { t.reshape((1, channels, 1, 1)) } else { t.reshape((1, channels)) };
    let mean = |t: &Tensor| match t.rank() {
        4 => t.flatten_from(2)?.mean(2)?.mean(0),
        _ => t.mean(0),
    };
    let (centred, var) = if train {
        let batch_mean = mean(x)?;
        let centred = x.broadcast_sub(&per_channel(&batch_mean)?)?;
        let var = mean(&centred.sqr()?)?;
        let n = (x.elem_count() / channels) as f64;
        let unbiased = (var.detach() * (n / (n - 1.0)))?;
        for (running, batch) in running.into_iter().zip([batch_mean.detach(), unbiased]) {
            let batch = batch.to_dtype(running.dtype())?;
            running.set(&((running.as_tensor() * (1.0 - NORM_MOMENTUM))? + (batch * NORM_MOMENTUM)?)?)?;
        }
        (centred, var)
    } else {
        let [mean, var] = running.map(|r| r.as_detached_tensor().to_dtype(x.dtype()));
        let (mean, var) = (mean?, var?);
        (x.broadcast_sub(&per_channel(&mean)?)?, var)
    };
    let scale = (weight / (var + NORM_EPS)?.sqrt()?)?;
    centred.broadcast_mul(&per_channel(&scale)?)?.broadcast_add(&per_channel(bias)?)
}

/// max(x, 0), with gradient 0 at 0.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    // Compared this way round, NaN stays NaN.
    x.le(0.0)?.where_cond(&x.zeros_like()?, x)
}

/// 2×2 maximum with stride 2; the gradient goes to the first maximum in row order. An odd last row or column is left out.
pub fn max_pool2(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let (h, w) = (h / 2 * 2, w / 2 * 2);
    let x = x.narrow(2, 0, h)?.narrow(3, 0, w)?.contiguous()?;
    let windows = x.reshape((n, c, h / 2, 2, w / 2, 2))?.permute((0, 1, 2, 4, 3, 5))?.contiguous()?;
    let windows = windows.reshape((n, c, h / 2, w / 2, 4))?;
    let first = windows.detach().argmax_keepdim(4)?;
    windows.gather(&first, 4)?.squeeze(4)
}
