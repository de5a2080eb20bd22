//! What every rank does: jobs, as rank 0 says.

use std::cell::Cell;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::super::lock::Lock;
use super::super::observer::News;
use super::super::run::Options;
use super::super::work::Worker;
use super::{Answer, FOREVER, Order, Plan, read, send};
use crate::cluster::{Channel, Cluster};
use crate::error::{Error, Result};

/// Longest time that a rank takes to see a file which another one has written: file systems over a network are not at once the same
/// for all.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Works for rank 0 until it says that there is nothing more to do.
pub fn serve(cluster: &dyn Cluster, interrupted: &AtomicBool) {
    while let Some((_, order)) = cluster.receive(Channel::Orders, FOREVER) {
        match read(&order) {
            Order::Begin(plan) => match enter(cluster, &plan) {
                Ok(lock) => {
                    send(cluster, 0, Channel::News, &Answer::Ready);
                    let Plan { experiment, out, data_dir, checkpoint_every, .. } = *plan;
                    let options = Options { data_dir, checkpoint_every, interrupted, ..Options::new(&out) };
                    work(cluster, Worker::new(&experiment, &options, lock, None));
                }
                Err(error) => send(cluster, 0, Channel::News, &Answer::failed(&error)),
            },
            Order::Work(..) | Order::End => {}
            Order::Leave => return,
        }
    }
}

/// Checks that this rank's folder is that of rank 0.
fn enter(cluster: &dyn Cluster, plan: &Plan) -> Result<Lock> {
    if plan.build != env!("FEWLABEL_BUILD") {
        let message = format!("the program on {} is another build than that of rank 0", cluster.host());
        return Err(Error::Usage(message));
    }
    let (began, mark) = (Instant::now(), plan.out.join(&plan.mark));
    while !mark.exists() {
        if began.elapsed() >= SEEN_WITHIN {
            let problem = format!("is not the same folder on {} as for rank 0", cluster.host());
            return Err(Error::run(&plan.out, problem, "name a folder that all machines share, with --out"));
        }
        thread::sleep(LOOK_EVERY);
    }
    Lock::of_other(&plan.out)
}

/// Does jobs until there are no more.
pub(super) fn work(cluster: &dyn Cluster, mut worker: Worker) {
    while let Some((_, order)) = cluster.receive(Channel::Orders, FOREVER) {
        let Order::Work(task, ranks) = read(&order) else { return };
        let team = (ranks.len() > 1).then(|| cluster.team(&ranks, worker.shards(&task)));
        let answer = |answer: &Answer| send(cluster, 0, Channel::News, answer);
        let stops = Cell::new(false);
        let done = worker.run(
            &task,
            team,
            &|| {
                stops.set(stops.get() || is_asked(cluster, &task.job.key));
                stops.get()
            },
            &mut |news| {
                match news {
                    // For a bar, which only this process could show.
                    News::Start { .. } | News::Step(_) => {}
                    news => answer(&Answer::News(news)),
                }
                Ok(())
            },
        );
        match done {
            Ok(result) => answer(&Answer::Done((ranks[0] == cluster.rank()).then(|| Box::new(result)))),
            Err(error) => answer(&Answer::failed(&error)),
        }
    }
}

/// Whether rank 0 says to stop this job. A message about an earlier one may have come too late for it.
fn is_asked(cluster: &dyn Cluster, key: &str) -> bool {
    let mut messages = std::iter::from_fn(|| cluster.receive(Channel::Stop, Duration::ZERO));
    messages.any(|(_, message)| read::<String>(&message) == key)
}
