//! Counter-based random streams: every draw is a function of (seed, purpose, epoch, index) and of nothing else.
//!
//! A draw does not depend on the thread that asks, nor on how many draws were made elsewhere, so parallel augmentation,
//! resumed runs and reordered stages all see the same values. The generator is Philox-4×32-10 (Salmon, Moraes,
//! Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the seed is its key, and purpose, epoch,
//! index and a running block number are its counter. A stream's values are part of the results: a change of how one is
//! drawn changes weights, and is value-breaking.

/// What a stream is drawn for. The numbers are part of every result; never reuse one. For a method of one's own there is
/// [`Stream::own`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights; index: the tensor's position in its network.
    Init = 1,
    /// The order of the training images in an epoch; index 0.
    Order = 2,
    /// A dropout mask; index: the example's position in the epoch.
    Dropout = 3,
    /// SimSiam's first view; index: the image.
    View1 = 4,
    /// SimSiam's second view; index: the image.
    View2 = 5,
    /// Pretext transformation of a training image; index: the image.
    Pretext = 6,
    /// Pretext transformation of a test or validation image; index: the image in its set.
    PretextTest = 7,
    /// The choice of the labelled images; epoch and index 0.
    Labels = 8,
    /// The synthetic training images; index: the image.
    SyntheticTrain = 9,
    /// The synthetic test images; index: the image.
    SyntheticTest = 10,
    /// Which labelled images are for validation; epoch and index 0.
    Validation = 11,
    /// UMAP's negative samples; epoch: the layout's. Epoch 2³² − 1, with seed 0: the start of the search for principal
    /// components; index: the axis.
    Umap = 12,
    /// The training images among which a report searches nearest neighbours; epoch and index 0.
    Bank = 13,
    /// The augmentation of a labelled training image; epoch: the pass through the labelled images; index: the image.
    Augment = 14,
    /// Which images are mirrored in even epochs ([`crate::augment::Flip::Alternating`]); epoch: the purpose of the
    /// augmentation; index: the image.
    Flip = 15,
    /// The order of the images without labels in an epoch; index 0.
    Unlabelled = 16,
    /// The weak augmentation of an unlabelled image; index: the image.
    Weak = 17,
    /// Its strong augmentation, or the second weak one; index: the image.
    Strong = 18,
}

/// Begins the numbers of users' purposes: far above every [`Purpose`].
const OWN: u32 = 1 << 31;

/// One Philox-4×32-10 block: ten rounds over the counter, the key bumped between them.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let product0 = 0xD251_1F53_u64 * u64::from(counter[0]);
        let product1 = 0xCD9E_8D57_u64 * u64::from(counter[2]);
        counter = [
            (product1 >> 32) as u32 ^ counter[1] ^ key[0],
            product1 as u32,
            (product0 >> 32) as u32 ^ counter[3] ^ key[1],
            product0 as u32,
        ];
    }
    counter
}

/// The values drawn for one (seed, purpose, epoch, index), in order.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream, at its first value.
    pub fn new(seed: u64, purpose: Purpose, epoch: u32, index: u32) -> Stream {
        let key = [seed as u32, (seed >> 32) as u32];
        Stream { key, counter: [0, index, epoch, purpose as u32], block: [0; 4], used: 4 }
    }

    /// A stream for a purpose of one's own, a number for each: no purpose of the library has the same values, whatever the
    /// number.
    pub fn own(seed: u64, purpose: u16, epoch: u32, index: u32) -> Stream {
        let mut stream = Stream::new(seed, Purpose::Init, epoch, index);
        stream.counter[3] = OWN | u32::from(purpose);
        stream
    }

    /// 32 uniform bits.
    ///
    /// # Panics
    /// After 2³⁴ − 4 values.
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].checked_add(1).expect("a stream holds 2^34 values");
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴: exact in `f32`.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform from `low` to `high`, which is reached only by rounding.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// `true` with the given probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Uniform in 0..n without bias (Lemire, "Fast random integer generation in an interval", 2019).
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "nothing is below 0");
        loop {
            let product = u64::from(self.bits()) * u64::from(n);
            // The low half is biased only for the first 2^32 mod n values.
            if product as u32 >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        }
    }

    /// Standard normal (Box and Muller, 1958; the cosine branch only).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * libm::logf(1.0 - self.unit())).sqrt();
        radius * libm::cosf(std::f32::consts::TAU * self.unit())
    }

    /// A uniform permutation in place (Fisher and Yates, from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' Random123 library (`kat_vectors`, philox4x32, 10 rounds).
    #[test]
    fn philox_gives_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let answer = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(pi, [0xa409_3822, 0x299f_31d0]), answer);
    }

    /// The layout of the counter is part of every result.
    #[test]
    fn the_key_fills_the_counter_in_a_fixed_order() {
        let mut stream = Stream::new(0xDEAD_BEEF_0BAD_CAFE, Purpose::Order, 5, 9);
        let block = |number| philox([number, 9, 5, 2], [0x0BAD_CAFE, 0xDEAD_BEEF]);
        let drawn: Vec<u32> = (0..8).map(|_| stream.bits()).collect();
        assert_eq!(drawn, [block(0), block(1)].concat());
    }

    /// Values of this crate's first release, so that a change is noticed.
    #[test]
    fn derived_draws_are_stable() {
        let stream = || Stream::new(7, Purpose::View1, 1, 2);
        let mut items: Vec<u32> = (0..8).collect();
        stream().shuffle(&mut items);
        let small: Vec<u32> = (0..8).scan(stream(), |s, _| Some(s.below(10))).collect();
        let text = format!("{:?} {:?} {:?} {:?}", items, small, stream().unit(), stream().normal());
        insta::assert_snapshot!(text, @"[3, 1, 6, 0, 5, 2, 4, 7] [8, 6, 4, 5, 1, 7, 8, 8] 0.8879014 -1.159054");
    }

    #[test]
    fn below_is_unbiased_at_the_edges_and_covers_its_range() {
        let mut stream = Stream::new(1, Purpose::Order, 0, 0);
        assert!((0..100).all(|_| stream.below(1) == 0));
        let mut seen = [0u32; 3];
        (0..30_000).for_each(|_| seen[stream.below(3) as usize] += 1);
        // Binomial(30000, 1/3): standard deviation 82, so 5 of them.
        assert!(seen.iter().all(|&n| n.abs_diff(10_000) < 410), "{seen:?}");
        // At 3·2^30 a plain multiply-shift would give every third value double weight.
        let low = (0..20_000).filter(|_| stream.below(3 << 30).is_multiple_of(3)).count();
        assert!(low.abs_diff(6_667) < 333, "{low}");
    }

    #[test]
    fn a_chance_is_below_the_probability_and_no_more() {
        let stream = Stream::new(2, Purpose::Order, 0, 0);
        let unit = stream.clone().unit();
        assert!(unit > 0.0 && !stream.clone().chance(unit), "{unit} is not below itself");
        assert!(
            stream.clone().chance(unit + f32::EPSILON) && !stream.clone().chance(0.0) && stream.clone().chance(1.0)
        );
    }

    #[test]
    fn unit_and_normal_have_their_moments() {
        let mut stream = Stream::new(3, Purpose::Init, 0, 0);
        let n = 100_000;
        let units: Vec<f64> = (0..n).map(|_| stream.unit().into()).collect();
        assert!(units.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = units.iter().sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let normals: Vec<f64> = (0..n).map(|_| stream.normal().into()).collect();
        let (sum, squares) = normals.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
        assert!((sum / n as f64).abs() < 0.02 && (squares / n as f64 - 1.0).abs() < 0.03, "{sum} {squares}");
    }

    /// The counter is the whole identity of a stream: no number of a user's purpose is one of the library's.
    #[test]
    fn own_purposes_are_apart_from_all_others() {
        let first = |mut stream: Stream| [(); 4].map(|()| stream.bits());
        let own: Vec<_> = [0, 1, 4, 13, u16::MAX].map(|purpose| first(Stream::own(7, purpose, 1, 2))).to_vec();
        for purpose in [Purpose::Init, Purpose::View1, Purpose::Bank] {
            assert!(!own.contains(&first(Stream::new(7, purpose, 1, 2))), "{purpose:?}");
        }
        assert!((1..own.len()).all(|i| !own[..i].contains(&own[i])));
        assert_eq!(Stream::own(7, 5, 1, 2).counter, [0, 2, 1, (1 << 31) + 5]);
    }
}
