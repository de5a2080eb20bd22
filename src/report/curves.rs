//! Learning curves from the histories: accuracy and loss by epoch, the pretext tasks, SimSiam's loss and collapse measure.

use super::figure::{Axis, Figure, LARGEST, Lines, Plot, Series};
use super::run::Run;
use crate::experiment::Stage;
use crate::experiment::table::results;
use crate::method::{self, Kind, Learner, OUTPUT_STD};
use crate::train::{Record, Test};

/// The curves that compare stages, those for which the runs have records.
pub fn figures(runs: &[Run]) -> Vec<Figure> {
    let mut figures = classification(runs);
    figures.extend(tasks(runs));
    figures.extend(losses(runs));
    figures
}

/// A stage of one of the runs.
#[derive(Clone, Copy)]
struct RunStage<'a> {
    run: &'a Run,
    stage: &'a Stage,
    /// A single run needs no name.
    alone: bool,
}

impl RunStage<'_> {
    fn name(&self) -> String {
        if self.alone { self.stage.name.to_string() } else { format!("{}: {}", self.run.name, self.stage.name) }
    }

    /// A curve of the records' values for each seed that has any.
    fn series(&self, train: bool, value: impl Fn(&Record) -> Option<f64>) -> Vec<Series> {
        let mut all = vec![];
        for (_, result) in results(&self.run.manifest, &self.stage.name) {
            let trained = result.history.iter().filter(|record| record.epoch > 0);
            let point = |record: &Record| Some((f64::from(record.epoch), value(record)?.clamp(-LARGEST, LARGEST)));
            let points: Vec<_> = trained.filter_map(point).collect();
            if !points.is_empty() {
                all.push(Series { name: self.name(), train, points, half_widths: vec![] });
            }
        }
        all
    }

    /// [`RunStage::series`] of a metric; accuracies in per cent.
    fn metric(&self, name: &str) -> Vec<Series> {
        let factor = if name.ends_with("top1") { 100.0 } else { 1.0 };
        self.series(name.starts_with("train_"), |record| record.metrics.get(name).map(|value| value * factor))
    }

    /// `metric` on the images that judge every epoch: the validation images where there are any, else the test images.
    fn judged(&self, metric: &str) -> Vec<Series> {
        let mut series = self.metric(&format!("test_{metric}"));
        series.extend(self.metric(&format!("validation_{metric}")));
        series
    }

    /// The images that judge every epoch.
    fn judge(&self) -> Option<&'static str> {
        let experiment = &self.run.manifest.experiment;
        match experiment.tests() {
            Test::EveryEpoch => Some(TEST),
            Test::Once => experiment.validates().then_some(VALIDATION),
        }
    }
}

const TEST: &str = "the test images";
const VALIDATION: &str = "the validation images";

/// The images that judge the epochs of `entries`, if any; where the runs differ, with the runs' names.
fn judges(entries: &[RunStage]) -> Option<String> {
    let of = |judge: &'static str| {
        let mut names: Vec<&str> =
            entries.iter().filter(|entry| entry.judge() == Some(judge)).map(|entry| &*entry.run.name).collect();
        names.dedup();
        (!names.is_empty()).then(|| names.join(", "))
    };
    match (of(VALIDATION), of(TEST)) {
        (None, None) => None,
        (None, Some(_)) => Some(TEST.to_owned()),
        (Some(_), None) => Some(VALIDATION.to_owned()),
        (Some(validation), Some(test)) => Some(format!("{VALIDATION} ({validation}) or {TEST} ({test})")),
    }
}

/// A caption's note on the validation images of methods that train on all images.
fn seen(entries: &[RunStage]) -> String {
    let sees = |entry: &&RunStage| {
        entry.judge() == Some(VALIDATION) && (!entry.stage.method.uses_labels || is_semi_supervised(entry))
    };
    match entries.iter().find(sees) {
        Some(entry) if entry.stage.method.uses_labels => {
            " Semi-supervised stages also see the validation images, without their labels.".to_owned()
        }
        Some(_) => " Pre-training also sees the validation images, without their labels.".to_owned(),
        None => String::new(),
    }
}

fn is_semi_supervised(entry: &RunStage) -> bool {
    entry.stage.learner().is_some_and(|method| method.unlabelled().is_some())
}

/// The stages of all runs for which `wanted` holds.
fn stages(runs: &[Run], wanted: impl Fn(&Stage) -> bool) -> Vec<RunStage<'_>> {
    let of_run = |run| {
        let run: &Run = run;
        run.manifest.experiment.stages.iter().map(move |stage| RunStage { run, stage, alone: runs.len() == 1 })
    };
    runs.iter().flat_map(of_run).filter(|entry| wanted(entry.stage)).collect()
}

fn lines(id: &str, title: &str, caption: &str, y: Axis, series: Vec<Series>) -> Option<Figure> {
    if series.is_empty() {
        return None;
    }
    let [id, title, caption] = [id, title, caption].map(str::to_owned);
    let plot = Plot::Lines(Lines { x: Axis::new("epoch"), y, series, level: None });
    Some(Figure { id, title, caption, plot })
}

/// The stages that learn to classify.
fn classifiers(runs: &[Run]) -> Vec<RunStage<'_>> {
    stages(runs, |stage| stage.classifies() && stage.method.learner.is_some())
}

/// Accuracy and loss of the stages that classify: a figure of each for every number of labels.
fn classification(runs: &[Run]) -> Vec<Figure> {
    let all = classifiers(runs);
    let labels = |entry: &RunStage| entry.run.manifest.experiment.labels_behind(entry.stage);
    let mut counts: Vec<usize> = all.iter().map(labels).collect();
    counts.sort_unstable();
    counts.dedup();
    let several = counts.len() > 1;
    let figures = |count: usize| {
        let of: Vec<RunStage> = all.iter().copied().filter(|entry| labels(entry) == count).collect();
        match several {
            true => accuracy_and_loss(&of, &format!("-{count}"), &format!(", {count} labels")),
            false => accuracy_and_loss(&of, "", ""),
        }
    };
    counts.iter().flat_map(|&count| figures(count)).collect()
}

/// The same for each stage by itself that has more than one epoch; nothing where there is only one stage.
pub fn stage_by_stage(runs: &[Run]) -> Vec<Figure> {
    let all = classifiers(runs);
    let figures = |entry: &RunStage| {
        // No stage has a dot in its name.
        let place = if entry.alone { String::new() } else { format!("{}.", entry.run.name) };
        let id = format!("-of-{place}{}", entry.stage.name);
        accuracy_and_loss(std::slice::from_ref(entry), &id, &format!(", {}", entry.name()))
    };
    let is_curve = |entry: &&RunStage| entry.stage.epochs.is_some_and(|epochs| epochs.0 > 1);
    if all.len() > 1 { all.iter().filter(is_curve).flat_map(figures).collect() } else { vec![] }
}

/// Accuracy, balanced where classes differ in size, and loss of some stages; `suffix` and `with` end their ids and titles.
fn accuracy_and_loss(of: &[RunStage], suffix: &str, with: &str) -> Vec<Figure> {
    let figure = |(id, metric, what, y): (&str, &str, &str, Axis)| {
        // What a semi-supervised method minimises is no loss of the labelled images alone: [`losses`] shows it.
        let trained = |entry: &RunStage| match metric {
            "loss" if is_semi_supervised(entry) => vec![],
            _ => entry.metric(&format!("train_{metric}")),
        };
        let series = |entry: &RunStage| [entry.judged(metric), trained(entry)].concat();
        let series: Vec<Series> = of.iter().flat_map(series).collect();
        let training = match id {
            "balanced-accuracy" => " after each epoch: the mean of the classes' own accuracies",
            "loss" if of.iter().all(is_semi_supervised) => " after each epoch",
            "loss" if of.iter().any(is_semi_supervised) => {
                " (solid) after each epoch, and on the training images during the epoch (dashed), but for semi-supervised stages"
            }
            _ if of.iter().any(is_semi_supervised) => {
                " (solid) after each epoch, and on the labelled training images during the epoch (dashed)"
            }
            _ => " (solid) after each epoch, and on the training images during the epoch (dashed)",
        };
        let caption = match judges(of) {
            Some(judges) => format!("{what} on {judges}{training}.{}", seen(of)),
            None => format!("{what} on the labelled training images during each epoch (dashed)."),
        };
        let mut figure = lines(&format!("{id}{suffix}"), &format!("{what} by epoch{with}"), &caption, y, series)?;
        if let ("accuracy", Plot::Lines(lines)) = (id, &mut figure.plot) {
            lines.level = largest_class(of);
        }
        Some(figure)
    };
    let all = [
        ("accuracy", "top1", "Accuracy", Axis::percent("accuracy")),
        ("balanced-accuracy", "balanced_top1", "Balanced accuracy", Axis::percent("balanced accuracy")),
        ("loss", "loss", "Loss", Axis::new("cross-entropy")),
    ];
    all.into_iter().filter_map(figure).collect()
}

/// What a constant answer gets on the images that the epochs of `entries` are judged on, where that is the same of all
/// and the classes differ in size.
fn largest_class(entries: &[RunStage]) -> Option<(f64, String)> {
    let share = |entry: &RunStage| entry.judge().and_then(|_| entry.run.manifest.largest_share(entry.stage));
    let first = share(entries.first()?)?;
    let level = (first * 100.0, format!("largest class: {:.1} %", first * 100.0));
    entries.iter().all(|entry| share(entry) == Some(first)).then_some(level)
}

/// The stages of each method, those that do not classify, or all.
fn methods(runs: &[Run], all: bool) -> impl Iterator<Item = (&'static Kind, &'static Learner, Vec<RunStage<'_>>)> {
    let of_kind = move |kind: &'static Kind| {
        let of = stages(runs, |stage| stage.method == kind && (all || !stage.classifies()));
        Some((kind, kind.learner.as_ref()?, of)).filter(|(_, _, of)| !of.is_empty())
    };
    method::kinds().into_iter().filter_map(of_kind)
}

/// Accuracy of the tasks that a method sets itself: a figure for each method that has any.
fn tasks(runs: &[Run]) -> Vec<Figure> {
    let figure = |(kind, _, all): (&'static Kind, _, Vec<RunStage>)| {
        let method = all.first()?.stage.learner()?;
        let network = all.first()?.run.manifest.experiment.network(all.first()?.stage);
        let tasks =
            method.heads().iter().map(|head| Some((head.prefix.trim_end_matches('_'), network.width_of(head.block)?)));
        let tasks: Vec<(&str, usize)> = tasks.flatten().collect();
        let mut series = vec![];
        for entry in &all {
            for (task, _) in &tasks {
                let metric = format!("{task}_top1");
                let both = [entry.judged(&metric), entry.metric(&format!("train_{metric}"))].concat();
                series.extend(both.into_iter().map(|series| Series {
                    name: if all.len() == 1 { (*task).to_owned() } else { format!("{} {task}", entry.name()) },
                    ..series
                }));
            }
        }
        let each = |of: fn(&(&str, usize)) -> String| listed(&tasks.iter().map(of).collect::<Vec<_>>());
        let judged = judges(&all).map_or(String::new(), |judges| format!("{judges} (solid) after each epoch, and on "));
        let caption = format!(
            "Accuracy of predicting {}, on {judged}the training images during the epoch (dashed). Chance is {}.{}",
            each(|(task, classes)| format!("{task} (of {classes})")),
            each(|(task, classes)| format!("{:.0} % for {task}", 100.0 / *classes as f64)),
            seen(&all)
        );
        lines(&format!("{}-tasks", kind.name), kind.title, &caption, Axis::percent("accuracy"), series)
    };
    methods(runs, false).filter_map(figure).collect()
}

/// "a, b and c".
fn listed(all: &[String]) -> String {
    match all {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => all.concat(),
    }
}

/// Losses of methods that minimise another than their heads', what else they measure, the spread of their outputs, and kNN
/// accuracies.
fn losses(runs: &[Run]) -> Vec<Figure> {
    let mut figures = vec![];
    for (kind, learner, all) in methods(runs, true) {
        let Some(method) = all.first().and_then(|entry| entry.stage.learner()) else { continue };
        if !method.heads().is_empty() && method.unlabelled().is_none() {
            continue;
        }
        let loss = all.iter().flat_map(|entry| entry.metric("train_loss"));
        let loss = loss.map(|series| Series { train: false, ..series }).collect();
        let (id, title) = (format!("{}-loss", kind.name), format!("{} loss", kind.title));
        figures.extend(lines(&id, &title, learner.about_loss, Axis::new(learner.loss), loss));
        for measure in method.measures().iter().filter(|measure| **measure != OUTPUT_STD) {
            let series = all.iter().flat_map(|entry| entry.metric(measure)).collect();
            let (id, what) = (format!("{}-{measure}", kind.name), measure.replace('_', " "));
            let (title, caption) =
                (format!("{}: {what}", kind.title), format!("Its mean over the steps of each epoch: {measure}."));
            figures.extend(lines(&id, &title, &caption, Axis::new(&what), series));
        }
    }
    let spread = stages(runs, |stage| stage.learner().is_some_and(|method| method.measures().contains(&OUTPUT_STD)));
    let std = spread.iter().flat_map(|entry| entry.metric(OUTPUT_STD)).collect();
    let caption = "The standard deviation of the l2-normalised outputs: near 1/√d where they are spread out, 0 where \
                   every image gives the same output (collapse).";
    let axis = Axis { shows: Some(0.0), ..Axis::new("std of z / |z|") };
    let mut std = lines("output-std", "Collapse measure", caption, axis, std);
    let mut widths = spread.iter().filter_map(|entry| {
        let network = entry.run.manifest.experiment.network(entry.stage);
        entry.stage.learner()?.output_width(&network)
    });
    if let (Some(Figure { plot: Plot::Lines(lines), .. }), Some(d)) = (&mut std, widths.next())
        && widths.all(|other| other == d)
    {
        lines.level = Some((1.0 / (d as f64).sqrt(), format!("1/√{d}")));
    }
    let watched = stages(runs, |stage| stage.knn_every.is_some());
    let knn = watched.iter().flat_map(|entry| entry.judged("knn_top1")).collect();
    let caption = format!(
        "Accuracy of a weighted kNN classifier on the backbone's features, on {}, during pre-training.{}",
        judges(&watched).unwrap_or_default(),
        seen(&watched)
    );
    let mut knn = lines("knn", "kNN accuracy during pre-training", &caption, Axis::percent("accuracy"), knn);
    if let Some(Figure { plot: Plot::Lines(lines), .. }) = &mut knn {
        lines.level = largest_class(&watched);
    }
    figures.extend([std, knn].into_iter().flatten());
    figures
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::ClassCount;
    use crate::experiment::{Experiment, Manifest, StageResult};
    use crate::network::Weights;
    use crate::train::Trained;

    /// A run with the final metrics of some stages.
    pub fn run(name: &str, yaml: &str, results: &[(&str, &[(&str, f64)])]) -> Run {
        let experiment = Experiment::parse("t.yaml".as_ref(), yaml).unwrap();
        let mut manifest = Manifest::new(&experiment, "cpu");
        for (key, metrics) in results {
            let metrics = metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
            let trained =
                Trained { history: vec![Record { epoch: 1, metrics }], chosen: None, weights: Weights::default() };
            manifest.result.insert(key.to_string(), StageResult::new(&trained).unwrap());
        }
        Run::new(name, name.as_ref(), manifest)
    }

    #[test]
    fn captions_say_which_images_judge() {
        let yaml = |labels: &str| {
            format!(
                "
name: t
dataset: {{name: cifar10}}
labels: {{count: 5000, choose: stratified{labels}}}
stages:
  - {{name: a, method: supervised}}
  - {{name: b, method: pretext}}
  - {{name: c, method: simsiam, knn_every: 1}}"
            )
        };
        let of = |split: &str, name: &str, labels: &str| {
            let [top1, rotation, knn] = ["top1", "rotation_top1", "knn_top1"].map(|metric| format!("{split}_{metric}"));
            let results: [(&str, &[_]); 3] =
                [("a", &[(&*top1, 0.3)]), ("b", &[(&*rotation, 0.4)]), ("c", &[(&*knn, 0.5)])];
            run(name, &yaml(labels), &results)
        };
        let [test, validation] = [of("test", "study", ""), of("validation", "strict", ", validation: 0.1")];
        let caption = |runs: &[Run], id: &str| figures(runs).iter().find(|f| f.id == id).unwrap().caption.clone();
        let seen = "Pre-training also sees the validation images";
        let runs = [test, validation];
        for id in ["accuracy", "pretext-tasks", "knn"] {
            let [test, validation] = [&runs[..1], &runs[1..]].map(|run| caption(run, id));
            assert!(test.contains(" the test images") && !test.contains("validation"), "{test}");
            assert!(
                validation.contains(" the validation images") && !validation.contains("test images"),
                "{validation}"
            );
            assert_eq!(validation.contains(seen), id != "accuracy", "only pre-training learns from all images");
        }
        let supcon = "
name: t
dataset: {name: cifar10}
labels: {count: 5000, choose: stratified, validation: 0.1}
stages: [{name: a, method: supcon, knn_every: 1}]";
        let metrics = [("train_loss", 4.0), ("validation_knn_top1", 0.5)];
        let of_labels = [run("t", supcon, &[("a", &metrics)])];
        let ids: Vec<String> = figures(&of_labels).into_iter().map(|figure| figure.id).collect();
        assert_eq!(ids, ["supcon-loss", "knn"], "no accuracy of its own");
        assert!(!caption(&of_labels, "knn").contains(seen), "it trains on the labelled images alone");
        let once = yaml("").replace("labels:", "test: once\nlabels:").replace(", knn_every: 1", "");
        let metrics: [(&str, &[_]); 2] = [("a", &[("train_top1", 0.3)]), ("b", &[("train_rotation_top1", 0.4)])];
        let once = [run("once", &once, &metrics)];
        for id in ["accuracy", "pretext-tasks"] {
            let caption = caption(&once, id);
            assert!(caption.contains("training images during") && !caption.contains("after each epoch"), "{caption}");
        }
        // The largest class of the test images is no level for curves of the training images.
        let has_level = |mut run: Run| {
            let class = |test| ClassCount { name: "a".to_owned(), train: 25_000, test };
            run.manifest.classes = [1_000, 9_000].map(class).to_vec();
            let accuracy = figures(&[run]).into_iter().find(|figure| figure.id == "accuracy").unwrap();
            matches!(accuracy.plot, Plot::Lines(lines) if lines.level.is_some())
        };
        let [once] = once;
        assert!(has_level(of("test", "study", "")) && !has_level(once));
        let mixed = caption(&runs, "accuracy");
        assert!(mixed.contains("on the validation images (strict) or the test images (study) (solid)"), "{mixed}");
    }
}
