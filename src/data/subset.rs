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
}

/// The indices of `count` labelled training images, in ascending order. Stratified: as many of each of `classes`.
///
/// # Errors
/// [`Error::Usage`] if there are not so many images, or not so many of a class, or a stratified `count` is no multiple
/// of the number of classes.
///
/// # Panics
/// If a label is none of `classes` (stratified).
pub fn labelled(train: &Dataset, classes: &[String], choose: Choose, count: usize, seed: u64) -> Result<Vec<u32>> {
    let too_few = |what: String| Error::Usage(format!("labels: {count} images: {what}; ask for fewer"));
    let chosen: Vec<u32> = match choose {
        Choose::First => (0..count.min(train.len()) as u32).collect(),
        Choose::Stratified => {
            let mut shuffled: Vec<u32> = (0..train.len() as u32).collect();
            Stream::new(seed, Purpose::Labels, 0, 0).shuffle(&mut shuffled);
            let of_class = count / classes.len();
            let mut room = vec![of_class; classes.len()];
            shuffled.retain(|&index| {
                let room = &mut room[usize::from(train.labels[index as usize])];
                let taken = *room > 0;
                *room -= usize::from(taken);
                taken
            });
            if let Some(class) = room.iter().position(|&room| room > 0) {
                let class = &classes[class];
                return Err(too_few(format!("class {class} has fewer than {of_class} of the training images")));
            }
            shuffled.sort_unstable();
            shuffled
        }
    };
    if chosen.len() < count {
        let have = chosen.len();
        return Err(too_few(format!("{have} of {} training images can be chosen so", train.len())));
    }
    Ok(chosen)
}

/// The `share` of `count`, rounded down. A share is a decimal fraction that lies as much as 6e-8 of itself beside what
/// was written: a tenth of 50 must be 5.
pub(crate) fn share_of(count: usize, share: f32) -> usize {
    (count as f64 * f64::from(share) * (1.0 + 1e-7)) as usize
}

/// Takes a validation part out of the labelled images: of every class the `share` of its images, rounded down, drawn
/// from the seed. What is left, and the part, each in ascending order.
pub fn validation(train: &Dataset, labelled: &[u32], share: f32, seed: u64) -> [Vec<u32>; 2] {
    let class = |index: u32| usize::from(train.labels[index as usize]);
    let mut room = [0; MAX_CLASSES];
    labelled.iter().for_each(|&index| room[class(index)] += 1);
    let mut room = room.map(|count| share_of(count, share));
    let mut shuffled = labelled.to_vec();
    Stream::new(seed, Purpose::Validation, 0, 0).shuffle(&mut shuffled);
    let (mut part, mut rest): (Vec<u32>, Vec<u32>) = shuffled.into_iter().partition(|&index| {
        let room = &mut room[class(index)];
        let taken = *room > 0;
        *room -= usize::from(taken);
        taken
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset() -> Dataset {
        let labels: Vec<u8> = (0..400).map(|i| (i * i % 10) as u8).chain((0..400).map(|i| (i % 10) as u8)).collect();
        Dataset { images: vec![], labels }
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
        assert!(draw(790, 1).unwrap_err().to_string().contains("class"), "no class has 79");
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
