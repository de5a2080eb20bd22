//! Maps of real features compared with umap-learn's. `UMAP_DIR=folder` takes other features and figures, as written by
//! `golden/umap/make_umap.py`.

use std::path::PathBuf;

use candle_core::{DType, Device, safetensors};
use fewlabel::neighbors::{nearest, normalized};
use fewlabel::umap::Graph;

/// The number of neighbours that is compared.
const K: usize = 15;

fn folder() -> PathBuf {
    std::env::var_os("UMAP_DIR").map_or("golden/umap".into(), PathBuf::from)
}

/// [n, width]
fn features() -> (Vec<f32>, usize) {
    let tensors = safetensors::load(folder().join("features.safetensors"), &Device::Cpu).unwrap();
    let features = tensors["features"].to_dtype(DType::F32).unwrap();
    let width = features.dims()[1];
    (features.flatten_all().unwrap().to_vec1().unwrap(), width)
}

/// For each point the other rows, from the nearest to the farthest.
fn order_in_plane(points: &[[f32; 2]], of: usize) -> Vec<usize> {
    let square = |a: [f32; 2]| {
        let [x, y] = [0, 1].map(|axis| f64::from(a[axis]) - f64::from(points[of][axis]));
        x * x + y * y
    };
    let mut others: Vec<usize> = (0..points.len()).filter(|&i| i != of).collect();
    others.sort_by(|&a, &b| square(points[a]).total_cmp(&square(points[b])));
    others.truncate(K);
    others
}

/// Trustworthiness (Venna and Kaski, 2001, as in `sklearn.manifold.trustworthiness`), and the share of nearest
/// neighbours that are nearest on the map too.
fn kept(features: Vec<f32>, width: usize, points: &[[f32; 2]]) -> (f64, f64) {
    let rows = normalized(features, width);
    let n = points.len();
    let all = nearest(&rows, &rows, width, n);
    let (mut strangers, mut common) = (0.0, 0);
    for (i, near) in all.chunks_exact(n).enumerate() {
        let mut rank = vec![0; n];
        for (at, &(_, other)) in near.iter().filter(|neighbor| neighbor.1 as usize != i).enumerate() {
            rank[other as usize] = at + 1;
        }
        for other in order_in_plane(points, i) {
            strangers += rank[other].saturating_sub(K) as f64;
            common += usize::from(rank[other] <= K);
        }
    }
    let (n, k) = (n as f64, K as f64);
    (1.0 - 2.0 / (n * k * (2.0 * n - 3.0 * k - 1.0)) * strangers, common as f64 / (n * k))
}

#[test]
fn a_map_keeps_as_many_neighbours_as_umap_learn() {
    let (features, width) = features();
    let began = std::time::Instant::now();
    let points = Graph::new(features.clone(), width).layout(0);
    println!("{} × {width} in {:.1?}", points.len(), began.elapsed());
    let (trustworthiness, recall) = kept(features, width, &points);
    let text = std::fs::read_to_string(folder().join("umap_learn.json")).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let theirs = ["trustworthiness", "recall"].map(|name| theirs[name].as_f64().unwrap());
    println!("{} points: {trustworthiness:.4} {recall:.4}, umap-learn {theirs:.4?}", points.len());
    // The margin is this project's own; the map may be better.
    assert!(trustworthiness > theirs[0] - 0.02, "trustworthiness {trustworthiness}, umap-learn {}", theirs[0]);
    assert!(recall > theirs[1] - 0.02, "recall {recall}, umap-learn {}", theirs[1]);
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let (features, width) = features();
    let features = &features[..features.len().min(300 * width)];
    let on = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Graph::new(features.to_vec(), width).layout(seed))
    };
    let one = on(1, 7);
    for threads in [2, 3, 8] {
        assert_eq!(on(threads, 7), one, "{threads} threads");
    }
    assert_ne!(on(1, 8), one);
    if std::env::var_os("UMAP_DIR").is_some() {
        return;
    }
    let bytes: Vec<u8> = one.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    // This crate's first map, so that a change is noticed.
    insta::assert_snapshot!(fewlabel::files::sha256(&bytes), @"81badd61c174e659abad30395afd1c99997a8f5f5c3afe4a939c05c612ef4669");
}
