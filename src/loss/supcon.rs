//! The loss of row i is the mean of −ln P over its positives, all other rows of its class, with ẑ, s, T and P as of
//! [`mod@super::nt_xent`]. With t the positives' shares, 1/(their number) each, the gradient for s is (P − t)/(N·T) =: G, and from
//! there it is NT-Xent's: an image that is alone in its class has its other view as its one positive.

use super::nt_xent::{NtXent, contrast};

/// The supervised contrastive loss (Khosla et al., "Supervised contrastive learning", 2020, equation 2, L_out): the mean over all N
/// rows of z [N, width], the first view's and then the second's, of −1/|P(i)|·Σ over p in P(i) of
/// ln (exp(ẑᵢ·ẑₚ/T) / Σ over a ≠ i of exp(ẑᵢ·ẑₐ/T)), with P(i) the other rows of row i's class. `labels` are those of the N/2 images.
/// `gradient` becomes its gradient. Where no two images have one class it is [`nt_xent`](super::nt_xent()), to the bit.
///
/// # Panics
/// If there are no labels, or not one for each two rows.
pub fn supcon(z: &[f32], labels: &[u16], temperature: f64, memory: &mut NtXent, gradient: &mut Vec<f32>) -> f64 {
    let label = |row: usize| labels[row % labels.len()];
    contrast(z, 2 * labels.len(), temperature, |i, j| label(i) == label(j), memory, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::nt_xent;
    use crate::rng::Stream;

    const WIDTH: usize = 5;

    fn rows(images: usize) -> Vec<f32> {
        let mut stream = Stream::own(3, 0, 0, 0);
        (0..2 * images * WIDTH).map(|_| stream.normal()).collect()
    }

    fn of(z: &[f32], labels: &[u16], temperature: f64) -> (f64, Vec<f32>) {
        let mut gradient = vec![7.0; 3];
        (supcon(z, labels, temperature, &mut NtXent::default(), &mut gradient), gradient)
    }

    #[test]
    fn images_of_a_class_of_their_own_give_nt_xent() {
        let z = rows(7);
        for temperature in [0.1, 0.5] {
            let mut gradient = vec![];
            let loss = nt_xent(&z, 14, temperature, &mut NtXent::default(), &mut gradient);
            assert_eq!(of(&z, &[3, 0, 6, 1, 9, 2, 5], temperature), (loss, gradient));
        }
    }

    /// N equal rows: each of the N − 1 others is as likely, and nothing pulls.
    #[test]
    fn rows_that_are_all_alike_have_the_loss_of_a_guess() {
        let z = [0.6, 0.8].repeat(10);
        let (loss, gradient) = of(&z, &[0, 1, 1, 0, 2], 0.1);
        assert!((loss - libm::log(9.0)).abs() < 1e-15, "{loss}");
        assert!(gradient.iter().all(|g| g.abs() < 1e-7), "{gradient:?}");
    }

    /// Two classes on opposite sides: of a row's five others of unit vectors three are its own; 3·e^(1/T) + 2·e^(−1/T) in all, wrong
    /// is only what the exponents leave.
    #[test]
    fn classes_apart_leave_the_entropy_of_the_positives() {
        let (apart, labels) = ([1.0, 0.0, 1.0, 0.0, -1.0, 0.0].repeat(2), [4, 4, 8]);
        let t = 0.5;
        let row = |own: f64, other: f64| libm::log(own * libm::exp(1.0 / t) + other * libm::exp(-1.0 / t)) - 1.0 / t;
        // Four rows have three others of their class, two have one.
        let expected = (4.0 * row(3.0, 2.0) + 2.0 * row(1.0, 4.0)) / 6.0;
        let (loss, _) = of(&apart, &labels, t);
        assert!((loss - expected).abs() < 1e-15, "{loss}, not {expected}");
    }

    /// The names of classes are nothing to it, nor is which view comes first: the rows' gradients change places.
    #[test]
    fn other_names_of_classes_and_views_in_turn_give_the_same() {
        let (z, labels) = (rows(6), [0, 1, 0, 2, 1, 0]);
        let (loss, gradient) = of(&z, &labels, 0.1);
        assert_eq!(of(&z, &labels.map(|label| 900 - 3 * label), 0.1), (loss, gradient.clone()));
        let half = z.len() / 2;
        let turned = |of: &[f32]| [&of[half..], &of[..half]].concat();
        let (other, other_gradient) = of(&turned(&z), &labels, 0.1);
        assert!((other - loss).abs() < 1e-14, "sums have another order: {other}, {loss}");
        let apart = |(a, b): (&f32, &f32)| (a - b).abs();
        let worst = turned(&gradient).iter().zip(&other_gradient).map(apart).fold(0.0, f32::max);
        assert!(worst < 1e-7, "{worst}");
    }

    #[test]
    fn its_gradient_is_its_derivative() {
        let (z, labels) = (rows(6), [0, 1, 0, 2, 1, 0]);
        let (_, gradient) = of(&z, &labels, 0.1);
        let largest = gradient.iter().fold(0.0, |largest: f32, g| largest.max(g.abs()));
        for at in 0..z.len() {
            const EPS: f32 = 1.0 / 512.0;
            let loss = |sign: f32| {
                let mut moved = z.clone();
                moved[at] += sign * EPS;
                of(&moved, &labels, 0.1).0
            };
            let numeric = (loss(1.0) - loss(-1.0)) / (2.0 * f64::from(EPS));
            let error = (numeric - f64::from(gradient[at])).abs();
            assert!(error < 1e-3 * f64::from(largest), "[{at}]: {} is not {numeric}", gradient[at]);
        }
    }
}
