//! Experiment files: every valid one is read, survives being written and read again, and runs each stage once.

use fewlabel::experiment::{Experiment, Manifest};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// `key: value`, or nothing, for keys that a file may leave out.
fn perhaps(
    key: &'static str,
    values: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Option<(String, Value)>> {
    proptest::option::of(values).prop_map(move |value| Some((key.to_owned(), value?))).boxed()
}

fn one_of(values: &[Value]) -> BoxedStrategy<Value> {
    proptest::sample::select(values.to_vec()).boxed()
}

/// The methods that do not classify: all but the first compare views, and the last one alone uses labels.
const PRE_TRAINING: [&str; 7] = ["pretext", "simsiam", "simclr", "byol", "barlow_twins", "vicreg", "supcon"];

/// They may start from another stage, and need not.
const SEMI_SUPERVISED: [&str; 3] = ["pseudo_label", "mean_teacher", "fixmatch"];

/// Keys that a stage of the method may have beside its name and source.
fn options(method: &'static str) -> BoxedStrategy<Map<String, Value>> {
    let mut keys = vec![];
    if method != "knn" {
        keys.push(perhaps("epochs", (2..100u32).prop_map(Value::from)));
        keys.push(perhaps("warmup", Just(json!(1))));
        // With a teacher there is no other average.
        if method != "byol" {
            keys.push(perhaps("average", (0..64u32).prop_map(|i| json!(f64::from(i) / 64.0))));
        }
        // Left out, it is the study's, larger than the few labels here.
        keys.push((2..16u32).prop_map(|batch| Some(("batch".to_owned(), json!(batch)))).boxed());
        keys.push(perhaps("lr", (1e-6..1.0f64).prop_map(Value::from)));
        let schedules = ["constant", "cosine", "linear", "one_cycle"].map(Value::from);
        keys.push(perhaps("schedule", one_of(&schedules)));
        keys.push(perhaps("optimizer", one_of(&[json!("adam"), json!("sgd")])));
        // These are exact in single precision.
        keys.push(perhaps("momentum", (0..64u32).prop_map(|i| json!(f64::from(i) / 64.0))));
        keys.push(perhaps("weight_decay", (0..64u32).prop_map(|i| json!(f64::from(i) / 1024.0))));
        // Their defaults are left out.
        keys.push(perhaps("nesterov", Just(json!(true))));
        keys.push(perhaps("decayed", Just(json!("weights"))));
    }
    if PRE_TRAINING.contains(&method) {
        keys.push(perhaps("knn_every", (1..9u32).prop_map(Value::from)));
    } else {
        keys.push(perhaps("claim", one_of(&[json!([1, 2.5]), json!([60.25, 61])])));
    }
    if !PRE_TRAINING[..6].contains(&method) {
        keys.push(perhaps("labels", one_of(&[json!(40), json!(60), json!("all")])));
    }
    if method == "simsiam" {
        keys.push(perhaps("stop_gradient", any::<bool>().prop_map(Value::from)));
        // Without a predictor it has no schedule.
        let schedule = perhaps("predictor_schedule", one_of(&[json!("constant"), json!("cosine")]));
        keys.push(prop_oneof![schedule, perhaps("predictor", Just(json!(false)))].boxed());
    }
    if ["simclr", "supcon"].contains(&method) {
        keys.push(perhaps("temperature", (1..64u32).prop_map(|i| json!(f64::from(i) / 64.0))));
        keys.push(perhaps("embedding", (2..200u32).prop_map(Value::from)));
    }
    if method == "byol" {
        keys.push(perhaps("target_momentum", (0..65u32).prop_map(|i| json!(f64::from(i) / 64.0))));
        keys.push(perhaps("embedding", (2..200u32).prop_map(Value::from)));
    }
    if method == "barlow_twins" {
        keys.push(perhaps("lambda", (0..64u32).prop_map(|i| json!(f64::from(i) / 64.0))));
    }
    if method == "vicreg" {
        for key in ["invariance", "variance", "covariance"] {
            keys.push(perhaps(key, (1..100u32).prop_map(|i| json!(f64::from(i)))));
        }
    }
    if SEMI_SUPERVISED.contains(&method) {
        keys.push((4..7u32).prop_map(|ratio| Some(("unlabelled".to_owned(), json!(ratio)))).boxed());
        keys.push(perhaps("unlabelled_from", (1..5u32).prop_map(Value::from)));
        keys.push(perhaps("weight", (0..99u32).prop_map(|i| json!(f64::from(i)))));
    }
    if method == "fixmatch" {
        keys.push(perhaps("teacher", one_of(&[json!("network"), json!("average")])));
        keys.push(perhaps("alignment", any::<bool>().prop_map(Value::from)));
        keys.push(perhaps("strong", one_of(&[json!({"randaugment": 3, "cutout": 9}), json!({})])));
    }
    if ["supervised", "finetune"].contains(&method) || SEMI_SUPERVISED.contains(&method) {
        let augment =
            [json!({"flip": "alternating", "gray": 0.1}), json!({"crop": [0.1, 0.7], "jitter": 0.3, "shift": 15})];
        keys.push(perhaps("augment", one_of(&augment)));
        keys.push(perhaps("test_views", one_of(&[json!("flip"), json!("flip_shift")])));
    }
    if ["supervised", "finetune", "probe"].contains(&method) {
        keys.push(perhaps("label_smoothing", (1..64u32).prop_map(|i| json!(f64::from(i) / 64.0))));
    }
    if method == "probe" {
        keys.push(perhaps("probe", one_of(&[json!("mlp"), json!("linear")])));
        keys.push(perhaps("frozen_norm", one_of(&[json!("train"), json!("eval")])));
    }
    let stage = move |keys: Vec<Option<(String, Value)>>| {
        let mut stage: Map<String, Value> = keys.into_iter().flatten().collect();
        // That of methods on views and semi-supervised ones is SGD unless another is given.
        let given = stage.get("optimizer").and_then(Value::as_str);
        let on_views = PRE_TRAINING[1..].contains(&method) || SEMI_SUPERVISED.contains(&method);
        if given.unwrap_or(if on_views { "sgd" } else { "adam" }) == "adam" {
            stage.retain(|key, _| !["momentum", "weight_decay", "nesterov", "decayed"].contains(&key.as_str()));
        }
        // Nesterov's needs one.
        if stage.get("momentum").is_some_and(|momentum| *momentum == json!(0.0)) {
            stage.remove("nesterov");
        }
        stage
    };
    keys.prop_map(stage).boxed()
}

/// A stage, and a number that picks its source among the stages before it.
fn stage() -> BoxedStrategy<(Map<String, Value>, usize)> {
    let methods: Vec<&str> = fewlabel::method::kinds().iter().map(|kind| kind.name).collect();
    let method = proptest::sample::select(methods);
    let of = |method: &'static str| {
        options(method).prop_map(move |mut options| {
            options.insert("method".to_owned(), json!(method));
            options
        })
    };
    (method.prop_flat_map(of), any::<proptest::sample::Index>()).prop_map(|(stage, at)| (stage, at.index(1000))).boxed()
}

fn experiment() -> impl Strategy<Value = Value> {
    let choose = one_of(&[json!("first"), json!("stratified"), json!("proportional")]);
    let labels = (one_of(&[json!(30), json!(50), json!("all")]), choose, any::<bool>());
    let backbone = one_of(&[
        json!(null),
        json!({"name": "resnet"}),
        json!({"depth": 14, "name": "resnet", "width": 3}),
        json!({"layers": [4, "pool", 5, 6, "pool"], "name": "plain"}),
    ]);
    let network = (1..9u32, 1..40u32, 2..40u32, 1..40u32, (0..60u32).prop_map(|i| f64::from(i) / 64.0), backbone);
    let dataset = one_of(&[
        json!({"name": "synthetic", "train": 100, "test": 20}),
        json!({"name": "cifar10", "train": 5000}),
        json!({"name": "cifar10"}),
    ]);
    (any::<u64>(), 1..4u32, labels, network, dataset, proptest::collection::vec(stage(), 1..8)).prop_map(
        |(seed, seeds, (count, choose, validates), network, dataset, stages)| {
            let mut listed: Vec<Value> = vec![];
            for (i, (mut stage, source)) in stages.into_iter().enumerate() {
                stage.insert("name".to_owned(), json!(format!("s{i}")));
                let method = stage["method"].as_str().unwrap();
                if ["finetune", "probe", "knn"].contains(&method)
                    || SEMI_SUPERVISED.contains(&method) && source % 2 == 0
                {
                    let from = source % (i + 1);
                    stage
                        .insert("from".to_owned(), if from == i { json!("random") } else { json!(format!("s{from}")) });
                }
                listed.push(Value::Object(stage));
            }
            // Half of the labels of a class: some are left, whatever their number.
            let validation = if validates && choose == "stratified" { 0.5 } else { 0.0 };
            let tested = |stage: &&Value| !PRE_TRAINING.contains(&stage["method"].as_str().unwrap());
            let claims: Vec<Value> = listed
                .iter()
                .skip(1)
                .filter(tested)
                .map(|stage| json!({"better": stage["name"], "than": "s0"}))
                .collect();
            let claims = if listed.first().is_some_and(|first| tested(&first)) { claims } else { vec![] };
            let (channels, hidden, projector, predictor, dropout, backbone) = network;
            let mut file = json!({
                "name": "random", "seed": seed, "dataset": dataset,
                "labels": {"count": count, "choose": choose},
                "network": {"channels": [channels, 2, 3], "hidden": hidden, "projector": projector,
                    "predictor": predictor, "dropout": dropout},
                "stages": listed,
            });
            if !backbone.is_null() {
                // The study's has channels.
                file["network"].as_object_mut().unwrap().remove("channels");
                file["network"]["backbone"] = backbone;
            }
            // Defaults are left out in writing.
            if seeds > 1 {
                file["seeds"] = json!(seeds);
            }
            if validation > 0.0 {
                file["labels"]["validation"] = json!(validation);
            }
            // With validation images it is so anyway, and kNN accuracies during training are measured on some images.
            let watches = file["stages"].as_array().unwrap().iter().any(|stage| stage.get("knn_every").is_some());
            if validation == 0.0 && !watches && seed % 2 == 0 {
                file["test"] = json!("once");
            }
            // Where all images have labels none are chosen.
            let is_all = |labels: Option<&Value>| labels.is_none_or(|labels| labels == "all");
            if is_all(Some(&count))
                && file["stages"].as_array().unwrap().iter().all(|stage| is_all(stage.get("labels")))
            {
                file["labels"].as_object_mut().unwrap().remove("choose");
            }
            if !claims.is_empty() {
                file["claims"] = json!(claims);
            }
            file
        },
    )
}

/// Whether `written` has everything that `file` has, and perhaps more.
fn is_in(file: &Value, written: &Value) -> bool {
    match (file, written) {
        (Value::Object(file), Value::Object(written)) => {
            file.iter().all(|(key, value)| written.get(key).is_some_and(|written| is_in(value, written)))
        }
        (Value::Array(file), Value::Array(written)) => {
            file.len() == written.len() && file.iter().zip(written).all(|(file, written)| is_in(file, written))
        }
        // 1 may be written as 1.0.
        _ => file == written || file.as_f64().is_some() && file.as_f64() == written.as_f64(),
    }
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
        let written = serde_json::to_value(&read).unwrap();
        prop_assert!(is_in(&file, &written), "{file}\nbecame\n{written}");
        let jobs = read.plan(&[]).unwrap();
        prop_assert_eq!(jobs.len(), read.stages.len() * read.seeds.0 as usize);
        let mut keys: Vec<&str> = jobs.iter().map(|job| &*job.key).collect();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), jobs.len());
    }
}

/// The golden manifests are of the repository's experiments.
#[test]
fn golden_manifests_are_of_the_experiments_of_their_names() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "quick",
        "quick-seeds",
        "quick-v1",
        "fast",
        "best",
        "one-hour",
        "few",
        "recipe",
        "study",
        "strict",
        "labels",
        "collapse",
        "zoo",
    ] {
        let manifest = Manifest::load(&root.join("golden").join(name).with_extension("json")).unwrap();
        let file = root.join("experiments").join(name).with_extension("yaml");
        assert_eq!(manifest.experiment, Experiment::load(&file).unwrap(), "{name}");
        let jobs = manifest.experiment.plan(&[]).unwrap();
        let unknown: Vec<_> = manifest.result.keys().filter(|key| jobs.iter().all(|job| job.key != **key)).collect();
        assert!(unknown.is_empty() && manifest.result.len() == jobs.len(), "{name}: {unknown:?} of {}", jobs.len());
    }
}
