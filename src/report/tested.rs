//! What the saved weights give on the test images, and whether the manifest says the same.

use std::collections::BTreeMap;

use candle_core::Device;

use super::figure::Matrix;
use super::run::Run;
use crate::augment::plain_batch;
use crate::data::{Data, Dataset};
use crate::engine::{Inference, open_for_inference};
use crate::error::{Error, Result};
use crate::evaluate::{TestViews, argmax, balanced_top1, cross_entropy_sum, top1};
use crate::experiment::KNN;
use crate::text::{path_word, visible};
use crate::train::EVAL_BATCH;

/// A stage that classifies, on the test images.
pub struct Tested {
    pub stage: String,
    pub key: String,
    pub matrix: Matrix,
    /// Whether the manifest says exactly the same.
    pub is_exact: bool,
}

/// Where bits may differ, so may accuracies: by as much, a share of 1, or by two images.
const MARGIN: f64 = 0.02;

/// Every stage of the first seed that classifies and whose weights are here. Classes are named as they are shown.
///
/// # Errors
/// [`Error::Run`] where the manifest says otherwise, and the engine's.
pub fn test(run: &Run, data: &Data) -> Result<Vec<Tested>> {
    let experiment = &run.manifest.experiment;
    let classes = &run.manifest.classes;
    if !classes.is_empty() && *classes != data.class_counts() {
        let problem = "names other classes, or other numbers of their images, than the data set has";
        return Err(contradiction(run, problem));
    }
    let mut all = vec![];
    for stage in experiment.stages.iter().filter(|stage| stage.classifies()) {
        let (Some((key, _)), Some(weights)) = (run.finished(stage), run.weights(stage)?) else { continue };
        let mut model = open_for_inference(&Device::Cpu, experiment.network(stage), weights)?;
        let method = stage.learner();
        let head = method.as_ref().and_then(|method| method.heads().iter().find(|head| head.is_of_data()));
        let (taken, loss) = match head {
            Some(head) => predictions(&mut *model, head.block, &data.test, stage.test_views)?,
            None => {
                let labelled = experiment.examples(stage, data)?.labelled;
                let test: Vec<u32> = (0..data.test.len() as u32).collect();
                (KNN.predictions((&data.test, &test), (&data.train, &labelled), &mut *model)?, None)
            }
        };
        let mut counts = vec![vec![0; data.classes.len()]; data.classes.len()];
        for (&label, &taken) in data.test.labels.iter().zip(&taken) {
            counts[usize::from(label)][taken] += 1;
        }
        let right = |(&label, &taken): (&u16, &usize)| (label, usize::from(label) == taken);
        let answers: Vec<(u16, bool)> = data.test.labels.iter().zip(&taken).map(right).collect();
        let metrics =
            [("test_top1", Some(top1(&answers))), ("test_balanced_top1", balanced_top1(&answers)), ("test_loss", loss)];
        let metrics: BTreeMap<String, f64> =
            metrics.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let is_exact = is_said(run, &key, &metrics, answers.len())?;
        let classes = data.classes.iter().map(|name| visible(name).into_owned()).collect();
        all.push(Tested { stage: stage.name.to_string(), key, matrix: Matrix { classes, counts }, is_exact });
    }
    Ok(all)
}

/// The class that `head` predicts for each image, and the mean cross-entropy.
fn predictions(
    model: &mut dyn Inference,
    head: &str,
    images: &Dataset,
    views: Option<TestViews>,
) -> Result<(Vec<usize>, Option<f64>)> {
    let mut classes = Vec::with_capacity(images.len());
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let mut loss = 0.0;
    for (indices, labels) in all.chunks(EVAL_BATCH).zip(images.labels.chunks(EVAL_BATCH)) {
        let mut input = vec![0.0; indices.len() * images.image_len()];
        plain_batch(images, indices, &mut input);
        let logits = &TestViews::infer(views, model, &input, images.side, &[head])?[0];
        classes.extend(logits.chunks_exact(logits.len() / indices.len()).map(argmax));
        loss += cross_entropy_sum(logits, labels);
    }
    Ok((classes, Some(loss / images.len() as f64)))
}

/// Whether the manifest says exactly this of the stage `key`, on `n` test images. Where the bits must be ours, it has to; else
/// the accuracy has to be near.
///
/// # Errors
/// [`Error::Run`] with a contradiction: an accuracy that was written into the manifest by hand, say.
fn is_said(run: &Run, key: &str, metrics: &BTreeMap<String, f64>, n: usize) -> Result<bool> {
    let said = &run.manifest.result[key].tested().metrics;
    let margin = MARGIN.max(2.0 / n as f64);
    let mut is_exact = true;
    for (name, &found) in metrics {
        let is_accuracy = name == "test_top1";
        let (same, near) = match said.get(name) {
            Some(&said) => (said == found, !is_accuracy || (said - found).abs() <= margin),
            // Versions before had fewer metrics, but always this one.
            None => (!is_accuracy, !is_accuracy),
        };
        if !(if run.has_our_bits() { same } else { near }) {
            let said = said.get(name).map_or("none".to_owned(), f64::to_string);
            let found = format!("but the saved weights have {found} on the test images");
            return Err(contradiction(run, &format!("says {name} {said} of {key}, {found}")));
        }
        is_exact &= same;
    }
    Ok(is_exact)
}

fn contradiction(run: &Run, problem: &str) -> Error {
    let manifest = run.folder.join("manifest.json");
    let remedy = format!(
        "there is no report on a run that contradicts itself: `fewlabel verify {}` trains it again, and says what it gives",
        path_word(&manifest)
    );
    Error::run(&manifest, problem, remedy)
}

/// What of the run's results was computed again, and what is the manifest's word: a sentence each.
pub fn checked(run: &Run) -> Vec<String> {
    let environment = &run.manifest.environment;
    let mut said = vec![match &run.recomputed[..] {
        [] => "No accuracy was computed again for this page.".to_owned(),
        keys => {
            let near = || {
                let build = environment.build.as_deref().unwrap_or("unknown");
                format!(
                    "near the manifest's, by two points or two images at most: a run on {} by version {}, build {build}, may \
                     have other bits",
                    environment.device, environment.fewlabel
                )
            };
            let how = if run.is_exact { "exactly the manifest's".to_owned() } else { near() };
            format!(
                "Computed again for this page, from the saved weights and the test images: the test accuracy of {}. Each \
                 is {how}.",
                keys.join(", ")
            )
        }
    }];
    let (all, absent) = (run.manifest.result.len(), &run.absent);
    if all > absent.len() {
        let those = if absent.is_empty() {
            String::new()
        } else {
            format!(", but for {}, which are not here", absent.join(", "))
        };
        said.push(format!("The saved weights are those that the manifest records{those}."));
    }
    said.push(
        "All else is as the manifest says: only `fewlabel verify`, which trains again, finds out whether it is true."
            .to_owned(),
    );
    said
}
