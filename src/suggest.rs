//! The right word beside a wrong one.

use std::path::{Path, PathBuf};

use crate::text::path_word;

/// What other programs, papers and habits call a key or a value, as [`plain`] writes it, and what it is called here.
#[rustfmt::skip]
const SYNONYMS: [(&str, &[&str]); 27] = [
    ("average", &["ema", "emadecay", "exponentialmovingaverage", "movingaverage"]),
    ("batch", &["batchsize", "bs", "minibatch", "minibatchsize"]),
    ("channels", &["filters", "width", "widths"]),
    ("choose", &["sampling", "selection", "strategy"]),
    ("cifar10", &["cifar"]),
    ("classes", &["classcount", "nclasses", "numclasses"]),
    ("constant", &["fixed", "none"]),
    ("cosine", &["cosineannealing", "cosinedecay", "cosineannealinglr"]),
    ("count", &["labelcount", "n", "nlabels", "number", "numlabels", "size"]),
    ("epochs", &["epoch", "maxepochs", "nepochs", "numepochs"]),
    ("finetune", &["finetuned", "finetuning"]),
    ("folder", &["custom", "directory", "imagefolder", "images"]),
    ("from", &["backbone", "checkpoint", "init", "pretrained", "source", "weights"]),
    ("knn", &["knearest", "knearestneighbors", "kneighbors", "nearestneighbors"]),
    ("knn_every", &["evalevery", "knneval", "knninterval"]),
    ("label_smoothing", &["smooth", "smoothing"]),
    ("labels", &["labelcount", "labeled", "labelled", "nlabels", "numlabels"]),
    ("lr", &["baselr", "eta", "initiallr", "learningrate"]),
    ("name", &["id", "title"]),
    ("probe", &["linear", "lineareval", "linearevaluation", "linearprobe", "linearprobing", "mlpprobe"]),
    ("seed", &["manualseed", "randomseed", "randomstate", "rngseed"]),
    ("seeds", &["nseeds", "numseeds", "repeats", "trials"]),
    ("stratified", &["balanced", "classbalanced", "perclass"]),
    ("supervised", &["baseline", "fromscratch", "scratch"]),
    ("target_momentum", &["basetau", "momentumbase", "tau", "taubase"]),
    ("validation", &["holdout", "val", "valfraction", "validationfraction", "validationsplit", "valsplit"]),
    ("weight_decay", &["decay", "l2", "wd"]),
];

/// Lower case, without what separates words.
fn plain(word: &str) -> String {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The known word that `word` is most likely meant to be, if any: the same but for case and separators, else one that
/// it is a synonym of, else the nearest in spelling, with a third of its letters wrong at most (Damerau and
/// Levenshtein's distance).
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let word = plain(word);
    let same = known.iter().find(|other| plain(other) == word);
    let synonyms = SYNONYMS.iter().filter(|(_, words)| words.contains(&&*word));
    let meant = || synonyms.flat_map(|(ours, _)| known.iter().find(|known| *known == ours)).next();
    let distance = |other: &&&str| strsim::damerau_levenshtein(&word, &plain(other));
    let most = (word.chars().count() + 1) / 3;
    let close = || known.iter().min_by_key(distance).filter(|other| distance(other) <= most);
    same.or_else(meant).or_else(close).copied()
}

/// "; did you mean `epochs`?", or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or(String::new(), |known| format!("; did you mean `{known}`?"))
}

/// "; did you mean `runs/quick`?": beside `path` and in `folder`, of what is `wanted`, the one with the nearest name.
pub(crate) fn did_you_mean_path(path: &Path, folder: &str, wanted: impl Fn(&Path) -> bool) -> String {
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut there: Vec<(String, PathBuf)> = vec![];
    for folder in [beside, Path::new(folder)] {
        let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        let paths = entries.map(|entry| folder.join(entry.file_name())).filter(|path| wanted(path));
        there.extend(paths.map(|path| (name(&path), path)));
    }
    // A folder lists its files in any order.
    there.sort();
    let meant = nearest(&name(path), there.iter().map(|(name, _)| &**name));
    let found = meant.and_then(|meant| there.iter().find(|(name, _)| name == meant));
    found.map_or(String::new(), |(_, path)| format!("; did you mean `{}`?", path_word(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let known = ["epochs", "batch", "lr", "weight_decay"];
        assert_eq!(nearest("epoch", known), Some("epochs"));
        assert_eq!(nearest("bacth", known), Some("batch"));
        assert_eq!(nearest("wieght-decay", known), Some("weight_decay"));
        assert_eq!(nearest("dropout", known), None);
        assert_eq!(nearest("rl", known), Some("lr"));
        assert_eq!(nearest("", []), None);
        assert_eq!(did_you_mean("epoch", known), "; did you mean `epochs`?");
        assert_eq!(did_you_mean("dropout", known), "");
    }

    #[test]
    fn synonyms_lead_to_the_word_that_is_known_here() {
        let stage = ["name", "method", "from", "labels", "epochs", "batch", "optimizer", "lr", "weight_decay", "probe"];
        for (word, meant) in [
            ("batch_size", "batch"),
            ("batchSize", "batch"),
            ("learning_rate", "lr"),
            ("Learning-Rate", "lr"),
            ("num_epochs", "epochs"),
            ("max_epochs", "epochs"),
            ("wd", "weight_decay"),
            ("weightdecay", "weight_decay"),
            ("n_labels", "labels"),
            ("pretrained", "from"),
        ] {
            assert_eq!(nearest(word, stage), Some(meant), "{word}");
        }
        let labels = ["count", "choose", "validation"];
        for (word, meant) in [("n_labels", "count"), ("val", "validation"), ("validation_split", "validation")] {
            assert_eq!(nearest(word, labels), Some(meant), "{word}");
        }
        let methods = ["supervised", "pretext", "simsiam", "finetune", "probe", "knn"];
        for (word, meant) in [
            ("linear_probe", "probe"),
            ("fine_tune", "finetune"),
            ("fine-tuning", "finetune"),
            ("Sim_Siam", "simsiam"),
            ("k-NN", "knn"),
        ] {
            assert_eq!(nearest(word, methods), Some(meant), "{word}");
        }
        let sets = ["cifar10", "cifar100", "folder", "synthetic"];
        for (word, meant) in [("CIFAR10", "cifar10"), ("cifar-10", "cifar10"), ("CIFAR_100", "cifar100")] {
            assert_eq!(nearest(word, sets), Some(meant), "{word}");
        }
        assert_eq!(nearest("MNIST", sets), None);
        assert_eq!(nearest("random_seed", ["name", "seed", "seeds"]), Some("seed"));
        assert_eq!(nearest("AdamW", ["adam", "sgd"]), Some("adam"));
    }

    #[test]
    fn a_path_that_is_not_there_leads_to_one_that_is() {
        let place = tempfile::tempdir().unwrap();
        for file in ["strict.yaml", "labels.yaml", "notes.txt"] {
            std::fs::write(place.path().join(file), "").unwrap();
        }
        let is_yaml = |path: &Path| path.extension().is_some_and(|ending| ending == "yaml");
        let of = |name: &str| did_you_mean_path(&place.path().join(name), "", is_yaml);
        let strict = format!("; did you mean `{}`?", path_word(&place.path().join("strict.yaml")));
        assert_eq!([of("strict"), of("Strikt.yaml"), of("strict.yml")], [&*strict; 3]);
        assert_eq!([of("notes"), of("nothing.yaml")], ["", ""]);
        let elsewhere = place.path().to_str().unwrap();
        assert_eq!(did_you_mean_path("strict".as_ref(), elsewhere, is_yaml), strict);
    }
}
