//! Accuracy against the number of labels.

use super::figure::{Axis, Figure, LARGEST, Lines, Plot, Series};
use super::run::Run;
use crate::experiment::table::results;
use crate::experiment::{Experiment, Stage};
use crate::statistics::Estimate;

/// Test accuracy of each method that was trained with several numbers of labels.
pub fn figure(runs: &[Run]) -> Option<Figure> {
    let mut series = vec![];
    for run in runs {
        let experiment = &run.manifest.experiment;
        for line in lines(experiment) {
            let mut points: Vec<(f64, Estimate)> = vec![];
            for stage in &line {
                let top1: Vec<f64> =
                    results(&run.manifest, &stage.name).iter().filter_map(|(_, result)| result.top1()).collect();
                let estimate = Estimate::of(&top1).filter(|top1| top1.mean.is_finite());
                points.extend(estimate.map(|top1| (experiment.labels_behind(stage) as f64, top1)));
            }
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            if points.first().map(|first| first.0) == points.last().map(|last| last.0) {
                continue;
            }
            let name = common_name(&line);
            series.push(Series {
                name: if runs.len() == 1 { name } else { format!("{}: {name}", run.name) },
                train: false,
                points: points
                    .iter()
                    .map(|(count, top1)| (*count, (top1.mean * 100.0).clamp(-LARGEST, LARGEST)))
                    .collect(),
                half_widths: points.iter().map(|(_, top1)| half_width(top1)).collect(),
            });
        }
    }
    let share = |run: &Run| run.manifest.largest_class().map(|(_, share)| share);
    let level = share(&runs[0]).filter(|first| runs.iter().all(|run| share(run) == Some(*first)));
    let level = level.map(|share| (share * 100.0, format!("largest class: {:.1} %", share * 100.0)));
    let caption = "Test accuracy of each method against the number of labelled images (logarithmic axis). The points of a \
                   line may differ in epochs and batch size. Bars: 95 % confidence interval of the mean over the seeds.";
    let (x, y) = (Axis { log: true, ..Axis::new("labelled images") }, Axis::percent("test accuracy"));
    (!series.is_empty()).then(|| Figure {
        id: "label-curve".to_owned(),
        title: "Accuracy by number of labels".to_owned(),
        caption: caption.to_owned(),
        plot: Plot::Lines(Lines { x, y, series, level }),
    })
}

/// In points; none where accuracies that are none make it endless.
fn half_width(top1: &Estimate) -> Option<f64> {
    top1.half_width.map(|half| half * 100.0).filter(|half| half.is_finite())
}

/// The stages that classify, in lines. The stages of a line differ in their number of labels, each number once, and perhaps in
/// epochs and batch size, as few labels take more epochs: those that are equally long are first put together.
fn lines(experiment: &Experiment) -> Vec<Vec<&Stage>> {
    let alike = |a: &Stage, b: &Stage| {
        let Stage { name, labels, claim, epochs, batch, .. } = a.clone();
        Stage { name, labels, claim, epochs, batch, ..b.clone() } == *a
    };
    let count = |stage: &Stage| experiment.labels_behind(stage);
    let mut equally_long: Vec<Vec<&Stage>> = vec![];
    for stage in experiment.stages.iter().filter(|stage| stage.classifies()) {
        let length = |stage: &Stage| (stage.epochs, stage.batch);
        match equally_long.iter_mut().find(|kind| length(kind[0]) == length(stage) && alike(kind[0], stage)) {
            Some(kind) => kind.push(stage),
            None => equally_long.push(vec![stage]),
        }
    }
    let mut lines: Vec<Vec<&Stage>> = vec![];
    for kind in equally_long {
        let fits = |line: &Vec<&Stage>| {
            let distinct = line.iter().all(|a| kind.iter().all(|b| count(a) != count(b)));
            distinct && alike(line[0], kind[0])
        };
        match lines.iter_mut().find(|line| fits(line)) {
            Some(line) => line.extend(kind),
            None => lines.push(kind),
        }
    }
    lines
}

/// The common beginning of the stages' names.
fn common_name(stages: &[&Stage]) -> String {
    let first = &*stages[0].name;
    let common = |n: &usize| stages.iter().all(|stage| stage.name.starts_with(&first[..*n]));
    let n = (1..=first.len()).take_while(common).last().unwrap_or(0);
    let name = first[..n].trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '_');
    if name.is_empty() { first.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::curves::tests::run;

    #[test]
    fn an_interval_is_at_the_point_whose_seeds_give_it() {
        let yaml = "
name: t
seeds: 2
dataset: {name: cifar10}
stages:
  - {name: a-250, method: supervised, labels: 250}
  - {name: a-500, method: supervised, labels: 500}";
        let results: [(&str, &[_]); 3] = [
            ("seed-0/a-250", &[("test_top1", 0.3)]),
            ("seed-0/a-500", &[("test_top1", 0.4)]),
            ("seed-1/a-500", &[("test_top1", 0.5)]),
        ];
        let one = figure(&[run("t", yaml, &results)]);
        // Whatever the probe has, the backbone has seen 500.
        let behind = "
name: t
dataset: {name: cifar10}
stages:
  - {name: b, method: supcon, labels: 500}
  - {name: a-250, method: probe, from: b, labels: 250}
  - {name: a-500, method: probe, from: b, labels: 500}";
        let both: [(&str, &[_]); 2] = [("a-250", &[("test_top1", 0.3)]), ("a-500", &[("test_top1", 0.4)])];
        assert!(figure(&[run("t", behind, &both)]).is_none(), "two points of one number of labels");
        let figure = one.unwrap();
        let Plot::Lines(Lines { series, .. }) = figure.plot else { panic!("lines") };
        assert_eq!(series[0].points, [(250.0, 30.0), (500.0, 45.0)]);
        // t of one degree of freedom, 12.706, times s/√2 = 5 points.
        let [None, Some(half)] = series[0].half_widths[..] else { panic!("{:?}", series[0].half_widths) };
        assert!((half - 63.53).abs() < 0.01, "{half}");
    }

    #[test]
    fn stages_of_a_line_may_differ_in_length_but_not_otherwise() {
        let of = |stages: &str| -> Vec<Vec<String>> {
            let yaml = format!("name: t\ndataset: {{name: cifar10}}\nstages:\n{stages}");
            let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
            lines(&experiment).iter().map(|line| line.iter().map(|stage| stage.name.to_string()).collect()).collect()
        };
        let few = "
  - {name: a-40, method: supervised, labels: 40, epochs: 50, batch: 40}
  - {name: a-100, method: supervised, labels: 100, epochs: 20, batch: 64}
  - {name: a-250, method: supervised, labels: 250, epochs: 20, batch: 64}
  - {name: other, method: supervised, labels: 500, epochs: 20, batch: 64, lr: 0.1}";
        assert_eq!(of(few), [vec!["a-40", "a-100", "a-250"], vec!["other"]]);
        // Two points above one number of labels are two lines, each of its own length, in whatever order the stages stand.
        let mixed = "
  - {name: a-250, method: supervised, labels: 250, epochs: 50}
  - {name: b-500, method: supervised, labels: 500, epochs: 20}
  - {name: b-250, method: supervised, labels: 250, epochs: 20}
  - {name: a-500, method: supervised, labels: 500, epochs: 50}";
        assert_eq!(of(mixed), [["a-250", "a-500"], ["b-500", "b-250"]]);
    }
}
