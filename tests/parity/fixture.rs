//! One fixture file, and how its arrays are compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

pub struct Fixture {
    pub path: PathBuf,
    pub case: String,
    /// A loss's constants, by name.
    pub parameters: BTreeMap<String, f64>,
    tensors: BTreeMap<String, Tensor>,
}

/// Every `.safetensors` file in `PARITY_DIR` and the folders below it, by name.
pub fn all() -> Vec<Fixture> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/parity");
    let folder = std::env::var("PARITY_DIR").unwrap_or(default.to_owned());
    let mut paths = Vec::new();
    collect(Path::new(&folder), &mut paths);
    paths.sort();
    paths.into_iter().map(Fixture::read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            paths.push(path);
        }
    }
}

impl Fixture {
    fn read(path: PathBuf) -> Fixture {
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        let case = metadata["case"].clone();
        let parameters = metadata.get("parameters").map_or("{}", String::as_str);
        let parameters = serde_json::from_str(parameters).unwrap_or_default();
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap().into_iter().collect();
        Fixture { path, case, parameters, tensors }
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.path.display()))
    }

    /// Tensors whose names start with `prefix`, without it.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.tensors.iter().filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
    }

    pub fn f32s(&self, name: &str) -> Vec<f32> {
        self.tensor(name).flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
    }

    pub fn f64s(&self, name: &str) -> Vec<f64> {
        self.tensor(name).flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    pub fn labels(&self, name: &str) -> Vec<u16> {
        self.u8s(name).into_iter().map(u16::from).collect()
    }

    /// Small integers: choices, flags, pixels.
    pub fn u8s(&self, name: &str) -> Vec<u8> {
        self.tensor(name).flatten_all().unwrap().to_dtype(DType::U8).unwrap().to_vec1().unwrap()
    }

    /// Fails unless every |ours − theirs| is at most `tolerance`.
    pub fn close(&self, what: &str, ours: &[f32], theirs: &[f32], tolerance: f64) {
        assert_eq!(ours.len(), theirs.len(), "{}: {what}", self.path.display());
        let worst = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0.0, nan_max);
        assert!(worst <= tolerance, "{}: {what} differs by {worst:e}, over {tolerance:e}", self.path.display());
    }
}

/// The larger value; NaN if either is NaN.
pub fn nan_max(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

/// The largest magnitude.
pub fn magnitude(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(v.abs())).fold(0.0, nan_max)
}

/// √(mean of (a − b)²).
pub fn rms(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)).map(|d| d * d).sum();
    (sum / a.len() as f64).sqrt()
}
