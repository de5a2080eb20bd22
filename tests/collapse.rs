//! What keeps SimSiam from collapsing, on the synthetic images (Chen and He, 2021, §4.1 and §4.2).

use fewlabel::experiment::{Experiment, Options, run};

/// A healthy output std is near 1/√d: 0.125 for the 64 values of z here.
const HEALTHY: f64 = 0.125;

#[test]
fn stop_gradient_and_the_predictor_prevent_the_collapse() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
name: collapse
dataset: {name: synthetic, train: 640, test: 20}
labels: {count: 200, choose: first}
network: {channels: [8, 16, 16], projector: 64, predictor: 16}
stages:
  - {name: simsiam, method: simsiam, epochs: 6, batch: 32, lr: 1, schedule: constant}
  - {name: no-stop-gradient, method: simsiam, epochs: 6, batch: 32, lr: 1, schedule: constant, stop_gradient: false}
  - {name: no-predictor, method: simsiam, epochs: 6, batch: 32, lr: 1, schedule: constant, predictor: false}
  - {name: fixed-predictor-rate, method: simsiam, epochs: 6, batch: 32, lr: 1, predictor_schedule: constant}";
    let experiment = Experiment::parse("collapse.yaml".as_ref(), yaml).unwrap();
    let manifest = run(&experiment, &Options::new(folder.path())).unwrap();
    let log = std::fs::read_to_string(folder.path().join("log.txt")).unwrap();
    let warned = |stage: &str| log.contains(&format!("Z {stage}: warning: the outputs collapse"));
    let last = |stage: &str, metric: &str| manifest.result[stage].last.metrics[metric];
    for stage in ["simsiam", "fixed-predictor-rate"] {
        let std = last(stage, "output_std");
        assert!(std > 0.75 * HEALTHY, "{stage}: {std}");
        assert!(!warned(stage), "{stage}: no false alarm");
    }
    for stage in ["no-stop-gradient", "no-predictor"] {
        let (std, loss) = (last(stage, "output_std"), last(stage, "train_loss"));
        assert!(std < 0.1 * HEALTHY, "{stage}: {std}");
        assert!(warned(stage), "{stage}: a collapse is said");
        assert!(loss < -0.95 && last("simsiam", "train_loss") > -0.8, "{stage}: the loss is all too good: {loss}");
    }
}
