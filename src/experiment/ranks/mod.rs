//! A run by several processes. Rank 0 locks the folder, hands out jobs and records what comes of them (`coordinate`); all ranks work
//! on jobs, it too (`serve`). They tell each other what is here, as JSON.

mod coordinate;
mod serve;

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Experiment;
use super::manifest::StageResult;
use super::observer::News;
use super::work::Task;
use crate::cluster::{Channel, Cluster};
use crate::error::Error;
pub use coordinate::dismiss;
pub(super) use coordinate::with_all_ranks;
pub use serve::serve;

/// What rank 0 asks the others to do.
#[derive(Serialize, Deserialize)]
enum Order {
    /// Get ready to work on an experiment.
    Begin(Box<Plan>),
    /// Do a job, together with these ranks.
    Work(Task, Vec<usize>),
    /// The experiment has no more jobs.
    End,
    /// There is nothing more to do.
    Leave,
}

/// What a rank needs to know of a run.
#[derive(Serialize, Deserialize)]
struct Plan {
    experiment: Experiment,
    out: PathBuf,
    data_dir: Option<PathBuf>,
    checkpoint_every: Duration,
    /// Of the program.
    build: String,
    /// The name of a file in `out`, by which a rank knows that the folder is the same for all.
    mark: String,
}

/// What a rank answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    /// It can work.
    Ready,
    /// Of its job.
    News(News),
    /// The job is done; of several ranks the first one has its result.
    Done(Option<Box<StageResult>>),
    /// What it was asked for has failed.
    Failed { code: u8, message: String },
}

const FOREVER: Duration = Duration::MAX;

fn send(cluster: &dyn Cluster, to: usize, channel: Channel, message: &impl Serialize) {
    cluster.send(to, channel, &serde_json::to_vec(message).expect("a message becomes JSON"));
}

fn read<T: DeserializeOwned>(message: &[u8]) -> T {
    serde_json::from_slice(message).expect("a message of this program")
}

impl Answer {
    fn failed(error: &Error) -> Answer {
        let message = match error {
            Error::Interrupted(message) => message.clone(),
            other => other.to_string(),
        };
        Answer::Failed { code: error.exit_code(), message }
    }
}
