//! A [`Progress`] as bytes: the SHA-256 of what follows, then a safetensors file with the weights and the optimizer's
//! state, and the rest as JSON in its metadata. Any changed or missing byte is noticed.

use serde::{Deserialize, Serialize};

use super::{Best, Progress, Recipe, Record, Sums};
use crate::files;
use crate::network::{Array, METADATA, Network, Weights, deserialize, serialize};
use crate::optimizer::State;
use crate::text::visible;

/// Lower-case hexadecimal SHA-256 and a line break.
const HASH: usize = 64 + 1;
const WEIGHTS: &str = "weights/";
const OPTIMIZER: &str = "optimizer/";
const BEST: &str = "best/";

/// What of a progress is not a tensor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rest {
    /// What the progress belongs to: an experiment's hash and a stage.
    owner: String,
    epoch: u32,
    step: usize,
    sums: Sums,
    history: Vec<Record>,
    /// Epoch and accuracy.
    best: Option<(u32, f64)>,
    optimizer_steps: u32,
}

impl Progress {
    /// A checkpoint marked with its `owner`, in two parts: the hash, and what is hashed.
    pub fn to_bytes(&self, owner: &str) -> [Vec<u8>; 2] {
        let rest = Rest {
            owner: owner.to_owned(),
            epoch: self.epoch,
            step: self.step,
            sums: self.sums.clone(),
            history: self.history.clone(),
            best: self.best.as_ref().map(|best| (best.epoch, best.top1)),
            optimizer_steps: self.optimizer.steps,
        };
        let rest = serde_json::to_string(&rest).expect("numbers and strings become JSON");
        let below = |prefix: &'static str, arrays| {
            let named = move |array: &'_ Array| format!("{prefix}{}", array.name);
            let arrays: &[Array] = arrays;
            arrays.iter().map(move |array| (named(array), array))
        };
        let best = self.best.as_ref().map_or(&[][..], |best| &best.weights.arrays);
        let arrays = below(WEIGHTS, &self.weights.arrays).chain(below(OPTIMIZER, &self.optimizer.arrays));
        let arrays = arrays.chain(below(BEST, best));
        let body = serialize(arrays, Some([("progress".to_owned(), rest)].into()));
        [format!("{}\n", files::sha256(&body)).into_bytes(), body]
    }

    /// The longest checkpoint of a stage, in bytes: weights, the best epoch's, the optimizer's slots and an average, and a
    /// generous kilobyte for each epoch's record.
    pub fn most_bytes(recipe: &Recipe) -> u64 {
        let copies = 2 + recipe.rule.slots().len() + usize::from(recipe.averages().is_some());
        copies as u64 * (recipe.network.bytes() + METADATA) + u64::from(recipe.epochs) * 1024
    }

    /// Reads a checkpoint of `owner` for `network`, or says what is wrong with it.
    pub fn from_bytes(bytes: &[u8], owner: &str, network: &Network) -> Result<Progress, String> {
        let (hash, body) = bytes.split_at_checked(HASH).ok_or("the checkpoint is cut short")?;
        if hash.strip_suffix(b"\n") != Some(files::sha256(body).as_bytes()) {
            return Err("the checkpoint is damaged: its SHA-256 does not match".to_owned());
        }
        let (arrays, mut metadata) = deserialize(body)?;
        let rest = metadata.remove("progress").ok_or("the checkpoint has no progress")?;
        let rest: Rest = serde_json::from_str(&rest)
            .map_err(|e| format!("the checkpoint's progress: {}", visible(&e.to_string())))?;
        if rest.owner != owner {
            return Err(format!("the checkpoint belongs to {}, not to {owner}", visible(&rest.owner)));
        }
        let below = |prefix: &str| {
            let strip = |a: &Array| Some(Array { name: a.name.strip_prefix(prefix)?.to_owned(), ..a.clone() });
            arrays.iter().filter_map(strip).collect::<Vec<_>>()
        };
        let Rest { epoch, step, sums, history, best, optimizer_steps: steps, .. } = rest;
        let best = match best {
            Some((epoch, top1)) => Some(Best { epoch, top1, weights: Weights::ordered(below(BEST), network)? }),
            None => None,
        };
        let weights = Weights::ordered(below(WEIGHTS), network)?;
        let optimizer = State { steps, arrays: below(OPTIMIZER) };
        Ok(Progress { epoch, step, sums, history, best, weights, optimizer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Widths;

    fn network() -> Network {
        Network::supervised(&Widths { channels: [1, 2, 3], hidden: 4, ..Widths::default() })
    }

    fn progress() -> Progress {
        let weights = Weights::init(&network(), 1);
        let arrays = weights.arrays.iter().map(|a| Array { name: format!("exp_avg/{}", a.name), ..a.clone() });
        let record = Record { epoch: 1, metrics: [("train_loss".to_owned(), 0.1 + 0.2)].into() };
        let optimizer = State { steps: 7, arrays: arrays.collect() };
        let best = Some(Best { epoch: 1, top1: 0.1 + 0.7, weights: Weights::init(&network(), 2) });
        Progress { epoch: 1, step: 3, history: vec![record], optimizer, best, ..Progress::start(weights) }
    }

    #[test]
    fn a_checkpoint_gives_the_same_progress_back() {
        let mut back = Progress::from_bytes(&progress().to_bytes("me").concat(), "me", &network()).unwrap();
        back.optimizer.arrays.sort_by(|a, b| a.name.cmp(&b.name));
        let mut original = progress();
        original.optimizer.arrays.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(back, original);
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let bytes = progress().to_bytes("me").concat();
        for at in (0..bytes.len()).step_by(97).chain(0..80) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Progress::from_bytes(&changed, "me", &network()).is_err(), "byte {at} flipped");
            assert!(Progress::from_bytes(&bytes[..at], "me", &network()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_owner_or_network_is_refused() {
        let bytes = progress().to_bytes("me").concat();
        let error = Progress::from_bytes(&bytes, "you", &network()).unwrap_err();
        assert!(error.contains("belongs to me"), "{error}");
        assert!(Progress::from_bytes(&bytes, "me", &crate::method::simsiam::network(&Widths::default())).is_err());
    }
}
