//! FixMatch: what the network is confident of on a weakly augmented image it learns on the strongly augmented one (Sohn et al.,
//! "FixMatch: simplifying semi-supervised learning with consistency and confidence", 2020).
//!
//! The loss is the cross-entropy on the labelled images plus λ times [`mod@crate::loss::consistency`], the paper's equation 4.
//! Labelled and strong images go through one pass, so that batch norm takes them together; the weak ones go through another, in
//! eval mode, by the network, as in the paper, or by the average of its weights. There batch norm takes all three together.
//!
//! With `alignment` the weak view's probabilities p are first divided by their mean over the batch, and normalised (Berthelot et
//! al., "ReMixMatch", 2020, §3.1): each class is predicted about equally often. There the mean is over the last 128 batches,
//! and the target is the labels' distribution; here it is uniform, so leave it out where classes differ in size.
//!
//! The settings are the paper's by default (table 4), the stage's other keys as [`Defaults::semi_supervised`] says. With
//! `unlabelled_from` the number of images without labels grows epoch by epoch, for less computation (Chen, Dun and Kyrillidis,
//! "Fast FixMatch", 2023).

use serde::{Deserialize, Serialize};

use super::classify::HEADS;
use super::registry::{Defaults, Fault, Kind, Learner, learner};
pub use super::semi_supervised::Teacher;
use super::semi_supervised::{Halves, WEAK, check, check_share, semi_supervised};
use super::{Batch, Head, Method, Unlabelled};
use crate::augment::Augmentation;
use crate::loss::{aligned, consistency};
use crate::network::{Network, Widths};

/// As experiments name it.
pub static FIXMATCH: Kind = Kind {
    name: "fixmatch",
    title: "FixMatch",
    about: "training on the labelled images, and on confident answers for weak views of all others, with strong views of them",
    uses_labels: true,
    transfers: true,
    learner: Some(Learner {
        defaults: Defaults::semi_supervised(),
        keys: &["augment", "strong", "unlabelled", "unlabelled_from", "threshold", "weight", "teacher", "alignment"],
        loss: "cross-entropy",
        about_loss: "The mean cross-entropy with labels, plus the one of strong views with weak views' confident answers, in nats.",
        read: learner::<FixMatch>,
    }),
};

/// Cross-entropy with labels, and of strong views with weak views' answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FixMatch {
    /// Of the labelled images and the weak views.
    pub augment: Augmentation,
    /// Of the strong views.
    pub strong: Augmentation,
    /// μ: images without labels for each labelled one.
    pub unlabelled: usize,
    /// μ of the first epoch, if it is to grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled_from: Option<usize>,
    /// τ: the least probability of an answer that is learnt.
    pub threshold: f64,
    /// λ, of the strong views' loss.
    pub weight: f64,
    /// Who looks at the weak views.
    pub teacher: Teacher,
    /// Whether its answers are made equally frequent.
    pub alignment: bool,
}

impl Default for FixMatch {
    fn default() -> FixMatch {
        FixMatch {
            augment: WEAK,
            // Appendix D: two operations of RandAugment, then cutout; of half of CIFAR's side, as in the authors' code.
            strong: Augmentation { randaugment: 2, cutout: 16, ..WEAK },
            unlabelled: 7,
            unlabelled_from: None,
            threshold: 0.95,
            weight: 1.0,
            teacher: Teacher::Network,
            alignment: false,
        }
    }
}

impl FixMatch {
    fn images(&self) -> Unlabelled {
        Unlabelled::new(self.unlabelled, self.unlabelled_from, 1)
    }
}

impl Method for FixMatch {
    fn network(&self, widths: &Widths) -> Network {
        Network::supervised(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        let FixMatch { augment, strong, threshold, weight, teacher, alignment, .. } = *self;
        let teacher = Some((teacher, augment));
        let halves = Halves { labelled: augment, unlabelled: strong, teacher, weight, ramp_up: 0.0 };
        let (mut weak, mut means) = (vec![], vec![]);
        semi_supervised(halves, move |logits, of, gradient| {
            let taught = match alignment {
                true => aligned(of.logits, of.m, &mut means, &mut weak),
                false => of.logits,
            };
            consistency(taught, logits, of.m, threshold, gradient)
        })
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }

    fn measures(&self) -> &[&'static str] {
        &["mask_share"]
    }

    fn unlabelled(&self) -> Option<Unlabelled> {
        Some(self.images())
    }

    fn average(&self) -> Option<f64> {
        Some(0.999)
    }

    fn check(&self) -> Result<(), Fault> {
        self.augment.check("augment")?;
        self.strong.check("strong")?;
        check_share("threshold", self.threshold)?;
        check(self.images(), self.weight, 0.0)
    }
}
