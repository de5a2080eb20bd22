//! What a run finds before it writes or throws away anything: bad data and bad folders are found here.

use std::path::Path;

use super::reuse::Finished;
use super::run::Options;
use super::{DatasetName, Experiment, Job, Manifest};
use crate::data::{Data, cifar10, cifar100, folder, synthetic};
use crate::error::{Error, Result};
use crate::files;

/// An experiment, and what there is of its run.
pub(super) struct Outlook {
    /// All that were asked for, finished or not.
    pub jobs: Vec<Job>,
    /// The manifest that is there, or a new one.
    pub before: Manifest,
    /// Of the first job that is left, and its seed.
    pub data: Option<(u64, Data)>,
    /// What is to be said of the data.
    pub warnings: Vec<String>,
    /// Of classes without labels, or without images to validate with.
    pub gaps: Vec<String>,
    /// The runs whose stages are reused.
    pub reusable: Vec<Finished>,
}

impl Outlook {
    /// Of a run with these options.
    pub fn of(experiment: &Experiment, options: &Options) -> Result<Outlook> {
        let jobs = experiment.plan(&options.only)?;
        if !options.reuse.is_empty() && !options.device.is_cpu() {
            return Err(Error::Usage("--reuse: only a run on the CPU has the same bits as another".to_owned()));
        }
        if options.cluster.is_some_and(|cluster| cluster.size() > 1) && !options.device.is_cpu() {
            return Err(Error::Usage("--device cuda: several processes train on CPUs".to_owned()));
        }
        let before = Manifest::of_run(&options.out, experiment, options)?;
        let (left, finished): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|job| !before.has(&options.out, job));
        for job in finished {
            before.weights(&options.out, &job.key, &experiment.network(&experiment.stages[job.stage]))?;
        }
        let processes = options.cluster.map_or(1, |cluster| cluster.on_host());
        for job in left.iter().filter(|_| options.device.is_cpu()) {
            experiment.check_memory(&experiment.stages[job.stage], processes)?;
        }
        let (data, warnings) = match left.first() {
            Some(job) => {
                let loaded = load_data(&experiment.of_seed(job.seed), options.data_dir.as_deref())?;
                let warnings: Vec<String> = loaded.passed_over.into_iter().chain(loaded.duplicates).collect();
                (Some((job.seed, loaded.data)), warnings)
            }
            None => (None, vec![]),
        };
        let mut gaps = vec![];
        if let Some((seed, data)) = &data {
            for job in left.iter().filter(|job| experiment.has_same_images(*seed, job.seed)) {
                let examples = experiment.of_seed(job.seed).examples(&experiment.stages[job.stage], data)?;
                gaps.extend(experiment.gaps(data, &examples));
            }
        }
        // Several stages and seeds have the same.
        gaps.sort_unstable();
        gaps.dedup();
        let mut reusable = vec![];
        for other in &options.reuse {
            if files::is_same(other, &options.out) {
                return Err(Error::run(other, "is the run directory itself", "leave out --reuse"));
            }
            let finished = Finished::open(other);
            reusable.push(finished.map_err(|error| error.with_remedy("--reuse takes the directory of a run"))?);
        }
        Ok(Outlook { jobs, before, data, warnings, gaps, reusable })
    }

    /// The jobs that a run into `folder` would train.
    pub fn todo(&self, experiment: &Experiment, folder: &Path) -> Vec<&Job> {
        let is_reused = |job: &Job| {
            let (of_seed, stage) = (experiment.of_seed(job.seed), &experiment.stages[job.stage]);
            self.reusable.iter().any(|run| run.has(&of_seed, stage))
        };
        self.jobs.iter().filter(|job| !self.before.has(folder, job) && !is_reused(job)).collect()
    }
}

impl Experiment {
    /// Whether two of its seeds have the same images: the synthetic ones are the seed's own.
    pub(super) fn has_same_images(&self, seed: u64, other: u64) -> bool {
        seed == other || self.dataset.name != DatasetName::Synthetic
    }
}

/// An experiment's images, and what is to be said of them.
pub(crate) struct Loaded {
    pub data: Data,
    /// [`folder::Folder::duplicates`]. The published sets are not searched: they are the same for everybody.
    pub duplicates: Vec<String>,
    /// [`cifar10::passed_over`].
    pub passed_over: Option<String>,
}

impl Loaded {
    fn new(data: Data) -> Loaded {
        Loaded { data, duplicates: vec![], passed_over: None }
    }
}

/// The experiment's images, looked for where [`cifar10::data_folder`] says.
pub(crate) fn load_data(experiment: &Experiment, data_dir: Option<&Path>) -> Result<Loaded> {
    let [train, test] = [experiment.dataset.train, experiment.dataset.test].map(|n| n.map_or(usize::MAX, |n| n.0));
    match experiment.dataset.name {
        DatasetName::Synthetic => Ok(Loaded::new(synthetic(train, test, experiment.seed.0))),
        DatasetName::Cifar10 => {
            let source = cifar10::locate(data_dir)?;
            let data = cifar10::load(&source)?.first(train, test);
            Ok(Loaded { passed_over: cifar10::passed_over(&source), ..Loaded::new(data) })
        }
        DatasetName::Cifar100 => Ok(Loaded::new(cifar100::load(&cifar10::data_folder(data_dir).0)?.first(train, test))),
        DatasetName::Folder => {
            let place = cifar10::data_folder(data_dir).0;
            let folder = folder::load(&place, experiment.dataset.background, experiment.dataset.side.0)?;
            experiment.dataset.check(&place, &folder.data)?;
            Ok(Loaded { duplicates: folder.duplicates(), ..Loaded::new(folder.data) })
        }
        DatasetName::Own(kind) => {
            let place = cifar10::data_folder(data_dir).0;
            let data = kind.load(&place)?;
            experiment.dataset.check(&place, &data)?;
            Ok(Loaded::new(data))
        }
    }
}
