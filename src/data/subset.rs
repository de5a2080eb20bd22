//! Which images are labelled, and in which order an epoch goes through its images.

use serde::{Deserialize, Serialize};

use super::{Dataset, MAX_CLASSES};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// How the labelled images are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choose {
    /// The first ones of the training set, whatever their classes: what the study's code does.
    First,
    /// The same number of every class, drawn from the seed.
    Stratified,
    /// Of every class in proportion to its size ([`proportional`]), drawn from the seed: of classes of one size the
    /// same as [`Choose::Stratified`].
    Proportional,
}

/// The indices of `count` labelled training images, in ascending order.
///
/// # Errors
/// [`Error::Usage`] if there are not so many images or, stratified, not so many of a class, or `count` is no multiple of
/// the number of classes.
///
/// # Panics
/// If a label is none of `classes` (unless the first are chosen).
pub fn labelled(train: &Dataset, classes: &[String], choose: Choose, count: usize, seed: u64) -> Result<Vec<u32>> {
    let n = classes.len();
    if count > train.len() {
        return Err(Error::Usage(format!("{count} of only {} training images", train.len())));
    }
    let of_class = match choose {
        Choose::First => return Ok((0..count as u32).collect()),
        Choose::Proportional => proportional(count, &train.class_sizes(n)),
        Choose::Stratified if !count.is_multiple_of(n) => return Err(Error::Usage(not_stratified(count, n))),
        Choose::Stratified => {
            let sizes = train.class_sizes(n);
            let (each, least) = (count / n, sizes.iter().copied().min().unwrap_or(0));
            if let Some(class) = sizes.iter().position(|&size| size < each) {
                let (name, size) = (&classes[class], sizes[class]);
                let instead = if least > 0 { format!("{} at most, ", least * n) } else { String::new() };
                return Err(Error::Usage(format!(
                    "{count} stratified labels are {each} of each class, but {name} has {size} training images: take {instead}\
                     `choose: proportional`, or `labels: all`"
                )));
            }
            vec![each; n]
        }
    };
    let mut shuffled: Vec<u32> = (0..train.len() as u32).collect();
    Stream::new(seed, Purpose::Labels, 0, 0).shuffle(&mut shuffled);
    let mut chosen = split(&shuffled, train, of_class).0;
    chosen.sort_unstable();
    Ok(chosen)
}

/// Why `count` images cannot be as many of each of `classes`.
pub(crate) fn not_stratified(count: usize, classes: usize) -> String {
    format!(
        "{count} cannot be stratified over {classes} classes: take a multiple of {classes}, or `choose: proportional`"
    )
}

/// The first of `images` until there are `of_class` of each class, and the others; both in their order.
fn split(images: &[u32], train: &Dataset, mut of_class: Vec<usize>) -> (Vec<u32>, Vec<u32>) {
    images.iter().partition(|&&index| {
        let room = &mut of_class[usize::from(train.labels[index as usize])];
        let taken = *room > 0;
        *room -= usize::from(taken);
        taken
    })
}

/// `count` images split over classes of these `sizes`, in proportion: each has its share rounded down, and what is left
/// goes to the largest remainders, of equal ones to the lower label (as scikit-learn's `train_test_split` has it, which
/// draws among equal ones). A class that would be left out then takes one from the class with the most, unless that has
/// only one itself. `count` is at most the sum of the sizes.
pub fn proportional(count: usize, sizes: &[usize]) -> Vec<usize> {
    let all = sizes.iter().sum::<usize>().max(1) as u64;
    let share = |class: usize| count as u64 * sizes[class] as u64;
    let classes = 0..sizes.len();
    let mut parts: Vec<usize> = classes.clone().map(|class| (share(class) / all) as usize).collect();
    let mut by_remainder: Vec<usize> = classes.clone().collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(share(class) % all));
    let left = count - parts.iter().sum::<usize>();
    by_remainder.into_iter().take(left).for_each(|class| parts[class] += 1);
    while let Some(empty) = classes.clone().find(|&class| parts[class] == 0 && sizes[class] > 0) {
        let most = classes.clone().fold(0, |most, class| if parts[class] > parts[most] { class } else { most });
        if parts[most] < 2 {
            break;
        }
        (parts[most], parts[empty]) = (parts[most] - 1, 1);
    }
    parts
}

/// The `share` of `count`, rounded down. A share is a decimal fraction that lies as much as 6e-8 of itself beside what
/// was written: a tenth of 50 must be 5.
pub(crate) fn share_of(count: usize, share: f32) -> usize {
    (count as f64 * f64::from(share) * (1.0 + 1e-7)) as usize
}

/// Takes a validation part out of the labelled images: of every class the `share` of its images, rounded down, drawn
/// from the seed. What is left, and the part, each in ascending order.
pub fn validation(train: &Dataset, labelled: &[u32], share: f32, seed: u64) -> [Vec<u32>; 2] {
    let mut of_class = vec![0; MAX_CLASSES];
    labelled.iter().for_each(|&index| of_class[usize::from(train.labels[index as usize])] += 1);
    let of_class = of_class.into_iter().map(|count| share_of(count, share)).collect();
    let mut shuffled = labelled.to_vec();
    Stream::new(seed, Purpose::Validation, 0, 0).shuffle(&mut shuffled);
    let (mut part, mut rest) = split(&shuffled, train, of_class);
    rest.sort_unstable();
    part.sort_unstable();
    [rest, part]
}

/// `images` in the order of `epoch`: a new permutation for each epoch.
pub fn epoch_order(images: &[u32], seed: u64, epoch: u32) -> Vec<u32> {
    let mut order = images.to_vec();
    Stream::new(seed, Purpose::Order, epoch, 0).shuffle(&mut order);
    order
}

/// `len` of `images` from position `before` on, where one pass through all of them follows another, each in an order of its own.
pub(crate) fn cycled_order(images: &[u32], seed: u64, before: u64, len: usize) -> Vec<u32> {
    let n = images.len() as u64;
    let (first, skipped) = (before / n, (before % n) as usize);
    let passes = first..=(before + len as u64) / n;
    let all = passes.flat_map(|pass| epoch_order(images, seed, pass as u32));
    all.skip(skipped).take(len).collect()
}

/// The order in which `epoch` goes through its images without labels.
pub(crate) fn unlabelled_order(images: &[u32], seed: u64, epoch: u32) -> Vec<u32> {
    let mut order = images.to_vec();
    Stream::new(seed, Purpose::Unlabelled, epoch, 0).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::SIDE;

    fn dataset() -> Dataset {
        let labels: Vec<u16> = (0..400).map(|i| (i * i % 10) as u16).chain((0..400).map(|i| (i % 10) as u16)).collect();
        Dataset { images: vec![], labels, side: SIDE }
    }

    fn classes() -> Vec<String> {
        (0..10).map(|i| format!("c{i}")).collect()
    }

    #[test]
    fn stratified_labels_are_balanced_distinct_and_drawn_from_the_seed() {
        let train = dataset();
        let draw = |count, seed| labelled(&train, &classes(), Choose::Stratified, count, seed);
        let chosen = draw(200, 1).unwrap();
        assert!(chosen.is_sorted_by(|a, b| a < b));
        for class in 0..10 {
            assert_eq!(chosen.iter().filter(|&&i| train.labels[i as usize] == class).count(), 20, "class {class}");
        }
        assert_eq!(chosen, draw(200, 1).unwrap());
        assert_ne!(chosen, draw(200, 2).unwrap());
        // Of the squares of 0 to 399, and 40 others of each class: one in ten ends in 0 or 5, two in each other digit
        // that a square can end in.
        let message = draw(790, 1).unwrap_err().to_string();
        let expected = "790 stratified labels are 79 of each class, but c2 has 40 training images: take 400 at most, ";
        assert!(message.starts_with(expected), "{message}");
        assert!(draw(15, 1).unwrap_err().to_string().contains("take a multiple of 10"));
    }

    /// Shares by hand: of 12 + 6 images 10 are 6.67 + 3.33, and 5 are 3.33 + 1.67.
    #[test]
    fn proportional_labels_are_by_largest_remainders_and_leave_no_class_out() {
        assert_eq!(proportional(18, &[12, 6]), [12, 6]);
        assert_eq!(proportional(10, &[12, 6]), [7, 3]);
        assert_eq!(proportional(5, &[12, 6]), [3, 2]);
        assert_eq!(proportional(3, &[5, 5]), [2, 1], "of equal remainders the lower label's");
        // 10 of 103: 9.7, 0.2 and 0.1, and no class may have none.
        assert_eq!(proportional(10, &[100, 2, 1]), [8, 1, 1]);
        assert_eq!(proportional(2, &[100, 2, 1]), [1, 1, 0], "two images are of two classes");
        assert_eq!(proportional(5, &[8, 0, 2]), [4, 0, 1], "a class without images has none");
        assert!(proportional(0, &[]).is_empty());
    }

    #[test]
    fn proportional_labels_are_drawn_as_stratified_ones() {
        let labels: Vec<u16> = (0..200).map(|i| (i * 7 % 10) as u16).collect();
        let train = Dataset { images: vec![], labels, side: SIDE };
        let draw = |choose, count, seed| labelled(&train, &classes(), choose, count, seed).unwrap();
        for count in [10, 50, 200] {
            assert_eq!(draw(Choose::Proportional, count, 3), draw(Choose::Stratified, count, 3), "{count}");
        }
        let train = dataset();
        let chosen = labelled(&train, &classes(), Choose::Proportional, 100, 1).unwrap();
        let of_class =
            Dataset { images: vec![], labels: chosen.iter().map(|&i| train.labels[i as usize]).collect(), side: SIDE };
        assert_eq!(of_class.class_sizes(10), proportional(100, &train.class_sizes(10)));
        assert!(chosen.is_sorted_by(|a, b| a < b));
        assert_ne!(chosen, labelled(&train, &classes(), Choose::Proportional, 100, 2).unwrap());
    }

    #[test]
    fn the_validation_part_is_the_share_of_every_class() {
        let train = dataset();
        let chosen = labelled(&train, &classes(), Choose::Stratified, 300, 1).unwrap();
        for (share, of_class) in [(0.1, 3), (0.3, 9), (0.7, 21), (0.25, 7), (0.0, 0)] {
            let [rest, part] = validation(&train, &chosen, share, 1);
            for class in 0..10 {
                let of = |images: &[u32]| images.iter().filter(|&&i| train.labels[i as usize] == class).count();
                assert_eq!([of(&rest), of(&part)], [30 - of_class, of_class], "{share} of class {class}");
            }
            let mut both = [rest, part].concat();
            both.sort_unstable();
            assert_eq!(both, chosen);
        }
        assert_ne!(validation(&train, &chosen, 0.1, 1), validation(&train, &chosen, 0.1, 2));
    }

    /// Every two-place decimal of every class size up to CIFAR-10's 5,000.
    #[test]
    fn a_share_is_that_of_the_decimal_fraction() {
        for percent in 0..=100 {
            let share: f32 = format!("{}.{:02}", percent / 100, percent % 100).parse().unwrap();
            for count in 0..=5000 {
                assert_eq!(share_of(count, share), count * percent / 100, "{share} of {count}");
            }
        }
    }

    #[test]
    fn first_labels_are_the_first() {
        assert_eq!(labelled(&dataset(), &classes(), Choose::First, 3, 7).unwrap(), [0, 1, 2]);
        assert!(labelled(&dataset(), &classes(), Choose::First, 801, 7).is_err());
    }

    #[test]
    fn epochs_are_different_permutations_of_the_same_images() {
        let images = [5, 8, 13, 21, 34, 55, 89];
        let orders = [0, 1].map(|epoch| epoch_order(&images, 3, epoch));
        assert_ne!(orders[0], orders[1]);
        for mut order in orders {
            order.sort_unstable();
            assert_eq!(order, images);
        }
    }
}
