//! Experiment files: any that is valid is read, is the same after it has been written, and runs each stage once.

use fewlabel::experiment::Experiment;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// `key: value`, or nothing: what a file may leave out.
fn perhaps(
    key: &'static str,
    values: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Option<(String, Value)>> {
    proptest::option::of(values).prop_map(move |value| Some((key.to_owned(), value?))).boxed()
}

fn one_of(values: &[Value]) -> BoxedStrategy<Value> {
    proptest::sample::select(values.to_vec()).boxed()
}

/// Keys that a stage of the method may have, without its name and source.
fn options(method: &'static str) -> BoxedStrategy<Map<String, Value>> {
    let mut keys = vec![];
    if method != "knn" {
        keys.push(perhaps("epochs", (1..100u32).prop_map(Value::from)));
        // Left out it is the study's, larger than the few labels here.
        keys.push((2..16u32).prop_map(|batch| Some(("batch".to_owned(), json!(batch)))).boxed());
        keys.push(perhaps("lr", (1e-6..1.0f64).prop_map(Value::from)));
        keys.push(perhaps("schedule", one_of(&[json!("constant"), json!("cosine")])));
        keys.push(perhaps("optimizer", one_of(&[json!("adam"), json!("sgd")])));
    }
    if ["pretext", "simsiam"].contains(&method) {
        keys.push(perhaps("knn_every", (1..9u32).prop_map(Value::from)));
    } else {
        keys.push(perhaps("labels", one_of(&[json!(40), json!(60)])));
        keys.push(perhaps("claim", one_of(&[json!([1, 2.5]), json!([60.25, 61])])));
    }
    if method == "simsiam" {
        keys.push(perhaps("stop_gradient", any::<bool>().prop_map(Value::from)));
        // Without a predictor it has no schedule.
        let schedule = perhaps("predictor_schedule", one_of(&[json!("constant"), json!("cosine")]));
        keys.push(prop_oneof![schedule, perhaps("predictor", Just(json!(false)))].boxed());
    }
    if method == "probe" {
        keys.push(perhaps("probe", one_of(&[json!("mlp"), json!("linear")])));
        keys.push(perhaps("frozen_norm", one_of(&[json!("train"), json!("eval")])));
    }
    keys.prop_map(|keys| keys.into_iter().flatten().collect()).boxed()
}

/// A stage, and a number that says which of the stages before it is its source.
fn stage() -> BoxedStrategy<(Map<String, Value>, usize)> {
    let method = proptest::sample::select(vec!["supervised", "pretext", "simsiam", "finetune", "probe", "knn"]);
    let of = |method: &'static str| {
        options(method).prop_map(move |mut options| {
            options.insert("method".to_owned(), json!(method));
            options
        })
    };
    (method.prop_flat_map(of), any::<proptest::sample::Index>()).prop_map(|(stage, at)| (stage, at.index(1000))).boxed()
}

fn experiment() -> impl Strategy<Value = Value> {
    let labels = (one_of(&[json!(30), json!(50)]), one_of(&[json!("first"), json!("stratified")]), any::<bool>());
    let network = (1..9u32, 1..40u32, 0.0..0.9f32);
    (any::<u64>(), 1..4u32, labels, network, proptest::collection::vec(stage(), 1..8)).prop_map(
        |(seed, seeds, (count, choose, validates), (channels, hidden, dropout), stages)| {
            let mut listed: Vec<Value> = vec![];
            for (i, (mut stage, source)) in stages.into_iter().enumerate() {
                stage.insert("name".to_owned(), json!(format!("s{i}")));
                if ["finetune", "probe", "knn"].contains(&stage["method"].as_str().unwrap()) {
                    let from = source % (i + 1);
                    stage
                        .insert("from".to_owned(), if from == i { json!("random") } else { json!(format!("s{from}")) });
                }
                listed.push(Value::Object(stage));
            }
            // Half of the labels of a class: some are left, whatever their number.
            let validation = if validates && choose == "stratified" { 0.5 } else { 0.0 };
            json!({
                "name": "random", "seed": seed, "seeds": seeds,
                "dataset": {"name": "synthetic", "train": 100, "test": 20},
                "labels": {"count": count, "choose": choose, "validation": validation},
                "network": {"channels": [channels, 2, 3], "hidden": hidden, "dropout": dropout},
                "stages": listed,
            })
        },
    )
}

proptest! {
    #[test]
    fn a_valid_experiment_is_the_same_after_it_has_been_written(file in experiment()) {
        let parse = |text: &str| Experiment::parse("random.yaml".as_ref(), text);
        let read = parse(&serde_yaml::to_string(&file).unwrap()).unwrap();
        let yaml = parse(&serde_yaml::to_string(&read).unwrap()).unwrap();
        prop_assert_eq!(&yaml, &read);
        let json: Experiment = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        prop_assert_eq!(&json, &read);
        prop_assert_eq!(yaml.sha256(), read.sha256());
        // What the file says is what is read.
        prop_assert_eq!(read.seed.0, file["seed"].as_u64().unwrap());
        let written = serde_json::to_value(&read).unwrap();
        for (stage, read) in file["stages"].as_array().unwrap().iter().zip(written["stages"].as_array().unwrap()) {
            for (key, value) in stage.as_object().unwrap() {
                let same = match (value.as_f64(), read[key].as_f64()) {
                    (Some(a), Some(b)) => a == b,
                    // Lists of percentages, written as whole numbers or not.
                    _ if key == "claim" => {
                        let numbers = |claim: &Value| [0, 1].map(|i| claim[i].as_f64().unwrap());
                        numbers(value) == numbers(&read[key])
                    }
                    _ => *value == read[key],
                };
                prop_assert!(same, "{key}: {value} became {}", read[key]);
            }
        }
        let jobs = read.plan(&[]).unwrap();
        prop_assert_eq!(jobs.len(), read.stages.len() * read.seeds.0 as usize);
        let mut keys: Vec<&str> = jobs.iter().map(|job| &*job.key).collect();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), jobs.len());
    }
}
