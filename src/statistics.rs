//! Statistics over seeds: means with intervals, paired differences, verdicts, equivalence.
//!
//! Accuracies of several seeds are taken as independent and nearly normal, as is usual for repeated training runs.

use std::fmt;

use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean over n values with the half-width of its 95 % confidence interval.
///
/// ```
/// use fewlabel::statistics::{Estimate, Verdict};
///
/// let (probe, baseline) = ([0.66, 0.67, 0.68], [0.64, 0.655, 0.66]);
/// let difference = Estimate::of_differences(&probe, &baseline).unwrap();
/// assert_eq!(difference.verdict(), Verdict::Supported);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// How many values.
    pub n: usize,
    /// In the values' unit, as is the half-width.
    pub mean: f64,
    /// t₀.₉₇₅ with n − 1 degrees of freedom, times s/√n (Student, "The probable error of a mean", 1908); `None` for a
    /// single value, and for equal ones, which do not show how much they vary.
    pub half_width: Option<f64>,
}

impl Estimate {
    /// The mean of `values` and its interval; `None` without values.
    pub fn of(values: &[f64]) -> Option<Estimate> {
        let (n, mean, variance) = moments(values)?;
        let half_width = variance
            .filter(|&variance| variance != 0.0)
            .map(|variance| quantile(0.975, n - 1.0) * (variance / n).sqrt());
        Some(Estimate { n: values.len(), mean, half_width })
    }

    /// Of the paired differences a − b: what both have of a seed (labels, initial weights) cancels out.
    ///
    /// # Panics
    /// If the numbers of values differ.
    pub fn of_differences(a: &[f64], b: &[f64]) -> Option<Estimate> {
        assert_eq!(a.len(), b.len(), "pairs");
        Estimate::of(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
    }

    /// What the interval says about the claim that the mean is above 0.
    pub fn verdict(&self) -> Verdict {
        match self.half_width {
            Some(half) if self.mean - half > 0.0 => Verdict::Supported,
            Some(half) if self.mean + half < 0.0 => Verdict::Refuted,
            _ => Verdict::Undecided,
        }
    }
}

/// Whether the data decide a claim: by the two-sided 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The interval is above 0.
    Supported,
    /// It is below 0.
    Refuted,
    /// It contains 0, or there is none.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Verdict::Supported => "supported",
            Verdict::Refuted => "refuted",
            Verdict::Undecided => "not decided",
        })
    }
}

/// The p value of two one-sided tests that the means of two samples differ by less than `margin`, in the values' unit:
/// the larger one (Schuirmann, "A comparison of the two one-sided tests procedure …", 1987), each a t test for
/// unequal variances (Welch, "The generalization of 'Student's' problem …", 1947). Below 0.05 they count as equivalent.
/// `None` with fewer than two values in a sample, where neither sample varies, or where a variance is not finite.
pub fn equivalence(a: &[f64], b: &[f64], margin: f64) -> Option<f64> {
    let (n_a, mean_a, Some(var_a)) = moments(a)? else { return None };
    let (n_b, mean_b, Some(var_b)) = moments(b)? else { return None };
    let (part_a, part_b) = (var_a / n_a, var_b / n_b);
    let (difference, error) = (mean_a - mean_b, (part_a + part_b).sqrt());
    let freedom =
        (part_a + part_b) * (part_a + part_b) / (part_a * part_a / (n_a - 1.0) + part_b * part_b / (n_b - 1.0));
    if !(error > 0.0 && error.is_finite() && freedom.is_finite() && freedom > 0.0) {
        return None;
    }
    // The probability of a value at most this large if the true difference were at the margin.
    let below = |distance: f64| student(freedom).cdf(distance / error);
    Some(below(difference - margin).max(below(-difference - margin)))
}

/// A variance of accuracies below this is rounding: they are equal.
const ROUNDING: f64 = 1e-20;

/// The number of values, their mean, and their unbiased variance: `None` for a single value, 0 for equal ones.
fn moments(values: &[f64]) -> Option<(f64, f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = (n > 0.0).then(|| values.iter().sum::<f64>() / n)?;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    let variance = (n > 1.0).then(|| squares / (n - 1.0));
    Some((n, mean, variance.map(|variance| if variance < ROUNDING { 0.0 } else { variance })))
}

fn student(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom).expect("a positive number of degrees of freedom")
}

fn quantile(p: f64, freedom: f64) -> f64 {
    student(freedom).inverse_cdf(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 3] = [0.652, 0.661, 0.648];
    const B: [f64; 3] = [0.640, 0.655, 0.645];
    const C: [f64; 4] = [0.663, 0.659, 0.671, 0.655];

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs()
    }

    /// `scipy.stats.t.interval(0.95, n - 1, loc=mean(x), scale=sem(x))`, scipy 1.17.1: half of its width.
    #[test]
    fn intervals_are_those_of_scipy() {
        for (values, mean, half) in [
            (&A[..], 0.6536666666666667, 0.016540203976322276),
            (&B, 0.6466666666666666, 0.018972915167983828),
            (&C, 0.662, 0.010870123535184018),
        ] {
            let estimate = Estimate::of(values).unwrap();
            assert!(close(estimate.mean, mean) && close(estimate.half_width.unwrap(), half), "{estimate:?}");
        }
        let paired = Estimate::of_differences(&A, &B).unwrap();
        assert!(
            close(paired.mean, 0.007000000000000006) && close(paired.half_width.unwrap(), 0.011383749100790288),
            "{paired:?}"
        );
        // scipy.stats.t.ppf(0.975, n)
        for (freedom, expected) in [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (4.0, 2.7764451051977934),
            (9.0, 2.262157162798205),
            (29.0, 2.045229642132703),
        ] {
            assert!(close(quantile(0.975, freedom), expected), "{freedom}: {}", quantile(0.975, freedom));
        }
    }

    /// The larger p value of `scipy.stats.ttest_ind(a + margin, b, equal_var=False, alternative="greater")` and
    /// `ttest_ind(a - margin, b, equal_var=False, alternative="less")`, scipy 1.17.1.
    #[test]
    fn equivalence_is_that_of_scipy() {
        for (a, b, margin, p) in [
            (&A[..], &C[..], 0.02, 0.03906590053463939),
            (&A, &C, 0.005, 0.7258521401262461),
            (&A, &B, 0.03, 0.008847351084398233),
        ] {
            let found = equivalence(a, b, margin).unwrap();
            assert!(close(found, p), "{found} is not {p}");
            assert!(close(equivalence(b, a, margin).unwrap(), p), "it has no direction");
        }
        assert_eq!(equivalence(&[0.5, 0.5], &[0.51, 0.51], 0.02), None, "nothing varies");
        assert_eq!(equivalence(&[0.5], &[0.53, 0.53], 0.02), None);
        assert_eq!(equivalence(&[1e308, 0.5], &[1e308, 0.6], 0.02), None, "no accuracies");
    }

    #[test]
    fn a_verdict_needs_an_interval_away_from_zero() {
        let of = |values: &[f64]| Estimate::of(values).unwrap().verdict();
        assert_eq!(of(&[0.02, 0.021, 0.019]), Verdict::Supported);
        assert_eq!(of(&[-0.02, -0.021, -0.019]), Verdict::Refuted);
        assert_eq!(of(&[0.02, -0.01, 0.03]), Verdict::Undecided);
        assert_eq!(of(&[0.5]), Verdict::Undecided, "one seed decides nothing");
        // 0.1 + 0.1 + 0.1 rounds: their mean is another number.
        assert_eq!(of(&[0.1; 3]), Verdict::Undecided, "equal differences do not say how much they vary");
        assert!(Estimate::of(&[]).is_none());
    }
}
