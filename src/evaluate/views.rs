//! Views at test time: a network's answers for an image, mirrored and moved, as one answer.

use serde::{Deserialize, Serialize};

use crate::data::CHANNELS;
use crate::engine::Inference;
use crate::error::Result;

/// Of which views of a test image the logits are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestViews {
    /// The image, and the mirrored one.
    Flip,
    /// Both as they are, weighing half, and both moved by a pixel up and to the left, and down and to the right, with reflection,
    /// weighing a quarter each (Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, §3.5).
    FlipShift,
}

/// Mirrored or not, moved down and to the right by so many pixels, and its weight.
type View = (bool, isize, f32);

impl TestViews {
    fn all(self) -> &'static [View] {
        match self {
            TestViews::Flip => &[(false, 0, 0.5), (true, 0, 0.5)],
            TestViews::FlipShift => &[
                (false, 0, 0.25),
                (true, 0, 0.25),
                (false, -1, 0.125),
                (true, -1, 0.125),
                (false, 1, 0.125),
                (true, 1, 0.125),
            ],
        }
    }

    /// How many passes an image takes; of no views it is one.
    pub fn passes(views: Option<TestViews>) -> usize {
        views.map_or(1, |views| views.all().len())
    }

    /// The outputs for `images`, [n, 3, side, side], in eval mode: the weighted mean over the views, added in their order.
    ///
    /// # Errors
    /// The engine's.
    pub fn infer(
        views: Option<TestViews>,
        model: &mut dyn Inference,
        images: &[f32],
        side: usize,
        outputs: &[&str],
    ) -> Result<Vec<Vec<f32>>> {
        let Some(views) = views else { return Ok(model.infer(images, outputs)?.to_vec()) };
        let mut sums: Vec<Vec<f32>> = vec![];
        let mut viewed = vec![0.0; images.len()];
        for &(flip, by, weight) in views.all() {
            view(images, side, flip, by, &mut viewed);
            let found = model.infer(&viewed, outputs)?;
            sums.resize_with(found.len(), Vec::new);
            for (sum, found) in sums.iter_mut().zip(found) {
                sum.resize(found.len(), 0.0);
                sum.iter_mut().zip(found).for_each(|(sum, value)| *sum += weight * value);
            }
        }
        Ok(sums)
    }
}

/// Moves images, [n, 3, side, side], down and to the right `by` pixels, with reflection, and mirrors them then.
fn view(images: &[f32], side: usize, flip: bool, by: isize, out: &mut [f32]) {
    debug_assert!(images.len().is_multiple_of(CHANNELS * side * side));
    let last = side as isize - 1;
    let from = |at: usize| {
        let at = (at as isize - by).abs();
        (if at > last { 2 * last - at } else { at }) as usize
    };
    for (plane, out) in images.chunks_exact(side * side).zip(out.chunks_exact_mut(side * side)) {
        for (y, out) in out.chunks_exact_mut(side).enumerate() {
            let row = &plane[from(y) * side..][..side];
            out.iter_mut().enumerate().for_each(|(x, out)| *out = row[from(if flip { side - 1 - x } else { x })]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment;
    use crate::rng::{Purpose, Stream};

    /// An engine whose outputs are the images.
    struct Echo(Vec<Vec<f32>>);

    impl Inference for Echo {
        fn infer(&mut self, values: &[f32], _: &[&str]) -> Result<&[Vec<f32>]> {
            self.0 = vec![values.to_vec()];
            Ok(&self.0)
        }
    }

    /// On whole levels, so that sums are exact.
    #[test]
    fn views_are_the_augmentations_and_their_mean_is_weighted() {
        const SIDE: usize = 16;
        let mut stream = Stream::new(0, Purpose::Init, 0, 0);
        let images: Vec<Vec<u8>> =
            (0..2).map(|_| (0..CHANNELS * SIDE * SIDE).map(|_| stream.bits() as u8).collect()).collect();
        let of = |flip: bool, by: i32| -> Vec<f32> {
            let viewed = images.iter().flat_map(|image| {
                let mut out = vec![0; image.len()];
                augment::shift(image, by, by, &mut out);
                if flip {
                    augment::flip(&mut out);
                }
                out
            });
            viewed.map(f32::from).collect()
        };
        let plain = of(false, 0);
        let found = |views| TestViews::infer(views, &mut Echo(vec![]), &plain, SIDE, &["x"]).unwrap().remove(0);
        assert_eq!(found(None), plain);
        let six = [
            (false, 0, 0.25),
            (true, 0, 0.25),
            (false, -1, 0.125),
            (true, -1, 0.125),
            (false, 1, 0.125),
            (true, 1, 0.125),
        ];
        assert_eq!(six.iter().map(|view| view.2).sum::<f32>(), 1.0);
        for (views, all) in
            [(TestViews::Flip, &[(false, 0, 0.5), (true, 0, 0.5)][..]), (TestViews::FlipShift, &six[..])]
        {
            assert_eq!(TestViews::passes(Some(views)), all.len());
            let expected: Vec<Vec<f32>> = all.iter().map(|&(flip, by, _)| of(flip, by)).collect();
            for (at, found) in found(Some(views)).into_iter().enumerate() {
                let mean: f32 = all.iter().zip(&expected).map(|(view, values)| view.2 * values[at]).sum();
                assert_eq!(found, mean, "{views:?}");
            }
        }
    }
}
