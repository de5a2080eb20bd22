//! A network's tensors on the host: initialised, hashed, saved as safetensors, transferred between stages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, View};
use sha2::{Digest, Sha256};

use super::{Network, Role};
use crate::error::{Error, Result};
use crate::files;
use crate::rng::{Purpose, Stream};
use crate::text::{path_word, visible};

/// One named `f32` tensor, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The tensor's, perhaps after a prefix (optimizer slots, checkpoints).
    pub name: String,
    /// PyTorch's: outputs first.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f32>,
}

impl Array {
    /// The values as little-endian bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}

/// Bytes that a file may have beside its values: names and shapes of the tensors, and the classes' names.
pub(crate) const METADATA: u64 = 4 << 20;

/// All tensors of a network, running statistics included, in the network's stable order.
///
/// ```
/// use fewlabel::network::{Network, Weights, Widths};
///
/// let network = Network::supervised(&Widths::default());
/// let weights = Weights::init(&network, 0);
/// # let folder = tempfile::tempdir().unwrap();
/// let file = folder.path().join("weights.safetensors");
/// weights.save(&file, &[])?;
/// assert_eq!(Weights::load(&file, &network)?.sha256(), weights.sha256());
/// # Ok::<(), fewlabel::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// In the network's order.
    pub arrays: Vec<Array>,
}

impl Weights {
    /// PyTorch's default initialisation ([`Role`]: its distribution, not its generator), drawn from `seed`. The draws
    /// depend on the tensor's position in the network, so all methods start from the same backbone.
    pub fn init(network: &Network, seed: u64) -> Weights {
        let array = |(index, spec): (usize, super::Spec)| {
            let len = spec.shape.iter().product();
            let values = match spec.role {
                Role::Uniform { fan_in } => {
                    let bound = (1.0 / (fan_in as f64).sqrt()) as f32;
                    let mut stream = Stream::new(seed, Purpose::Init, 0, index as u32);
                    (0..len).map(|_| stream.uniform(-bound, bound)).collect()
                }
                Role::Ones | Role::RunningVar => vec![1.0; len],
                Role::Zeros | Role::RunningMean => vec![0.0; len],
            };
            Array { name: spec.name, shape: spec.shape, values }
        };
        Weights { arrays: network.tensors().enumerate().map(array).collect() }
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.arrays.iter().find(|array| array.name == name)
    }

    /// Copies every tensor that `from` has with the same name and shape.
    pub fn transfer(&mut self, from: &Weights) {
        for array in &mut self.arrays {
            if let Some(source) = from.get(&array.name).filter(|source| source.shape == array.shape) {
                array.values.clone_from(&source.values);
            }
        }
    }

    /// SHA-256 in hexadecimal, over name, shape and little-endian values of every tensor in order: independent of the
    /// file format.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for array in &self.arrays {
            hash.update(format!("{} {:?}\n", array.name, array.shape));
            hash.update(array.bytes());
        }
        files::hex(&hash.finalize())
    }

    /// Writes a safetensors file, whole or not at all: `safetensors.torch.load_file` gives a dictionary for PyTorch's
    /// `load_state_dict`. The metadata hold the names of the data set's `classes`, by label, as a JSON list under
    /// `classes`, unless there are none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path, classes: &[String]) -> Result<()> {
        let arrays = self.arrays.iter().map(|array| (array.name.clone(), array));
        let names = serde_json::to_string(classes).expect("strings become JSON");
        // A single entry: two would be written in the random order of a hash map.
        let metadata = (!classes.is_empty()).then(|| [("classes".to_owned(), names)].into());
        files::write_atomically(path, &[&serialize(arrays, metadata)])
    }

    /// What to do about a file of weights that cannot be used.
    pub(crate) fn remedy(path: &Path) -> String {
        format!("delete {} and run its experiment again: this stage is then trained again", path_word(path))
    }

    /// Reads a safetensors file that must hold exactly the tensors of `network`, as finite `f32`.
    ///
    /// # Errors
    /// [`Error::Run`] for a file that cannot be read, is not whole, has other tensors, or a value that is infinite or no
    /// number.
    pub fn load(path: &Path, network: &Network) -> Result<Weights> {
        let bad = |problem: String| Error::run(path, problem, Weights::remedy(path));
        let most = network.bytes() + METADATA;
        let bytes = files::read(path, most).map_err(|e| Error::unreadable(path, e, Weights::remedy(path)))?;
        let (arrays, _) = deserialize(&bytes).map_err(bad)?;
        let weights = Weights::ordered(arrays, network).map_err(bad)?;
        let infinite = |array: &&Array| array.values.iter().any(|value| !value.is_finite());
        match weights.arrays.iter().find(infinite) {
            Some(array) => Err(bad(format!("{} has a value that is infinite or no number", array.name))),
            None => Ok(weights),
        }
    }

    /// `arrays` in the network's order; they must be exactly its tensors.
    pub(crate) fn ordered(arrays: Vec<Array>, network: &Network) -> Result<Weights, String> {
        let mut by_name: BTreeMap<String, Array> = arrays.into_iter().map(|a| (a.name.clone(), a)).collect();
        let take = |spec: super::Spec| match by_name.remove(&spec.name) {
            Some(array) if array.shape == spec.shape => Ok(array),
            Some(array) => Err(format!("{} has shape {:?}, not {:?}", spec.name, array.shape, spec.shape)),
            None => Err(format!("{} is missing", spec.name)),
        };
        let arrays = network.tensors().map(take).collect::<Result<Vec<_>, _>>()?;
        match by_name.keys().next() {
            Some(name) => Err(format!("{} does not belong to this network", visible(name))),
            None => Ok(Weights { arrays }),
        }
    }
}

/// The metadata of a safetensors file.
#[allow(clippy::disallowed_types, reason = "safetensors' type; looked up, never iterated")]
pub(crate) type Metadata = std::collections::HashMap<String, String>;

/// An array to be written: its bytes are made when its turn comes.
struct Lent<'a>(&'a Array);

impl View for Lent<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.bytes().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(&self.0.values[..])
    }
}

/// A safetensors file of arrays under the given names.
pub(crate) fn serialize<'a>(arrays: impl Iterator<Item = (String, &'a Array)>, metadata: Option<Metadata>) -> Vec<u8> {
    let views = arrays.map(|(name, array)| (name, Lent(array)));
    safetensors::serialize(views, metadata).expect("names are unique and sizes fit")
}

/// The arrays of a safetensors file, in the file's order, and its metadata; or what is wrong with it.
pub(crate) fn deserialize(bytes: &[u8]) -> Result<(Vec<Array>, Metadata), String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| format!("not a whole safetensors file ({})", visible(&e.to_string())))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| visible(&e.to_string()).into_owned())?;
    let mut arrays = Vec::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("{} is {:?}, not F32", visible(name), view.dtype()));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        arrays.push(Array { name: name.to_owned(), shape: view.shape().to_vec(), values });
    }
    Ok((arrays, header.metadata().clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Mode, Probe, Widths};

    fn widths() -> Widths {
        Widths { channels: [2, 3, 4], hidden: 5, projector: 6, predictor: 3, ..Widths::default() }
    }

    #[test]
    fn initial_values_fill_the_bounds_of_pytorch() {
        let weights = Weights::init(&Network::supervised(&Widths::default()), 0);
        // 1/√fan_in of each (torch.nn.Linear and Conv2d, reset_parameters).
        for (name, fan_in) in [("backbone.0.weight", 27.0), ("backbone.8.bias", 576.0), ("fc.weight", 2048.0)] {
            let values = &weights.get(name).unwrap().values;
            let bound = 1.0 / f64::sqrt(fan_in);
            let largest = values.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
            assert!(largest <= bound * (1.0 + 1e-6) && largest > 0.95 * bound, "{name}: {largest} of {bound}");
            let square = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64;
            // U(−b, b) has variance b²/3; five standard deviations of its estimate, √(4/45)·b²/√n.
            let slack = 5.0 * (4.0f64 / 45.0).sqrt() * bound * bound / (values.len() as f64).sqrt();
            assert!((square - bound * bound / 3.0).abs() < slack, "{name}");
        }
        assert!(weights.get("backbone.1.weight").unwrap().values.iter().all(|&v| v == 1.0));
        assert!(weights.get("backbone.1.running_mean").unwrap().values.iter().all(|&v| v == 0.0));
    }

    #[test]
    fn every_method_starts_from_the_same_backbone() {
        let networks =
            [Network::supervised(&widths()), crate::method::simsiam::network(&widths()), Network::pretext(&widths())];
        let [a, b, c] = networks.map(|network| Weights::init(&network, 3));
        for array in a.arrays.iter().filter(|array| array.name.starts_with("backbone")) {
            assert_eq!(Some(array), b.get(&array.name));
            assert_eq!(Some(array), c.get(&array.name));
        }
        assert_ne!(a, Weights::init(&Network::supervised(&widths()), 4));
    }

    #[test]
    fn a_transfer_takes_what_both_have() {
        let pretext = Weights::init(&Network::pretext(&widths()), 1);
        let mut tuned = Weights::init(&Network::supervised(&widths()), 2);
        tuned.transfer(&pretext);
        assert!(tuned.arrays.iter().all(|array| pretext.get(&array.name) == Some(array)));
        let fresh = Weights::init(&Network::probe(&widths(), Probe::Mlp, Mode::Eval), 2);
        let mut probe = fresh.clone();
        probe.transfer(&pretext);
        for (array, fresh) in probe.arrays.iter().zip(&fresh.arrays) {
            let source = if array.name.starts_with("backbone") { pretext.get(&array.name) } else { Some(fresh) };
            assert_eq!(source, Some(array));
        }
    }

    #[test]
    fn a_file_gives_the_same_weights_back_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let network = crate::method::simsiam::network(&widths());
        let weights = Weights::init(&network, 1);
        weights.save(&path, &[]).unwrap();
        assert_eq!(Weights::load(&path, &network).unwrap(), weights);
        for other in
            [Network::supervised(&widths()), crate::method::simsiam::network(&Widths { projector: 7, ..widths() })]
        {
            let error = Weights::load(&path, &other).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Weights::load(&path, &network).unwrap_err().to_string().contains("not a whole safetensors file"));
        std::fs::File::create(&path).unwrap().set_len(3 << 30).unwrap();
        assert!(Weights::load(&path, &network).unwrap_err().to_string().contains("has 3221225472 bytes, and"));
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut broken = weights.clone();
            *broken.arrays[2].values.last_mut().unwrap() = value;
            broken.save(&path, &[]).unwrap();
            let error = Weights::load(&path, &network).unwrap_err().to_string();
            assert!(error.contains("backbone.1.weight has a value that is infinite or no number"), "{error}");
        }
    }

    /// Names in other scripts, with quotes and line breaks, come back from the metadata; the tensors and their hash are
    /// those of a file without names, and the same names give the same bytes.
    #[test]
    fn a_file_names_the_classes() {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::supervised(&widths());
        let weights = Weights::init(&network, 1);
        let names = ["猫", "a \"b\"\n\\", "Ω", "", "🦊"].map(str::to_owned);
        let file = |name: &str, classes: &[String]| {
            let path = folder.path().join(name);
            weights.save(&path, classes).unwrap();
            assert_eq!(Weights::load(&path, &network).unwrap().sha256(), weights.sha256());
            std::fs::read(&path).unwrap()
        };
        let metadata = |bytes: &[u8]| deserialize(bytes).unwrap().1;
        let named = file("named", &names);
        assert_eq!(serde_json::from_str::<Vec<String>>(&metadata(&named)["classes"]).unwrap(), names);
        assert_eq!(metadata(&named).len(), 1, "entries have no order");
        assert_eq!(named, file("again", &names));
        assert!(metadata(&file("bare", &[])).is_empty());
    }

    #[test]
    fn the_hash_is_over_names_shapes_and_values() {
        let weights = Weights::init(&Network::supervised(&widths()), 1);
        // Kept so that a change of the hash's definition or of the initial values is noticed.
        insta::assert_snapshot!(weights.sha256(), @"93238c7336c3cb2b47e8bfade9d5ec1fb8363dcc8a1d561c33c5cef7088cadea");
        let change = |f: fn(&mut Array)| {
            let mut other = weights.clone();
            f(&mut other.arrays[0]);
            other.sha256()
        };
        let changes = [change(|a| a.name.push('x')), change(|a| a.shape.swap(0, 1)), change(|a| a.values[0] = -0.0)];
        assert!(changes.iter().all(|hash| *hash != weights.sha256()));
    }
}
