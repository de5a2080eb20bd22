//! What rank 0 does besides working.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::super::Job;
use super::super::folder::Folder;
use super::super::manifest::StageResult;
use super::super::run::Options;
use super::super::schedule::{Schedule, Start, Waiting};
use super::super::work::Worker;
use super::serve::work;
use super::{Answer, FOREVER, Order, Plan, read, send};
use crate::cluster::{Channel, Cluster};
use crate::error::{Error, Result};
use crate::files;
use crate::text::{program, shown};

/// Longest time that ranks take to stop: a step, and a checkpoint.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
/// How often rank 0 looks whether it is interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Does the jobs with all ranks, of which this is the first.
pub(in super::super) fn with_all_ranks(
    cluster: &dyn Cluster,
    folder: &mut Folder,
    jobs: &[&Job],
    options: &Options,
    worker: Worker,
) -> Result<()> {
    gather(cluster, folder, options)?;
    thread::scope(|scope| {
        let records = scope.spawn(|| {
            let done = Run::new(cluster, folder, jobs, options).finish();
            (0..cluster.size()).for_each(|rank| send(cluster, rank, Channel::Orders, &Order::End));
            done
        });
        work(cluster, worker);
        records.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gets all other ranks ready.
fn gather(cluster: &dyn Cluster, folder: &Folder, options: &Options) -> Result<()> {
    let mark = files::mark(&options.out)?;
    let path_of = |path: &Path| {
        path.to_str()
            .map(|_| path.to_owned())
            .ok_or_else(|| Error::Usage(format!("{}: a folder of several processes has a name in UTF-8", shown(path))))
    };
    let plan = Box::new(Plan {
        experiment: folder.manifest.experiment.clone(),
        out: path_of(&options.out)?,
        data_dir: options.data_dir.as_deref().map(path_of).transpose()?,
        checkpoint_every: options.checkpoint_every,
        build: env!("FEWLABEL_BUILD").to_owned(),
        mark: mark.path().file_name().and_then(|name| name.to_str()).expect("a name of ours").to_owned(),
    });
    let order = Order::Begin(plan);
    (1..cluster.size()).for_each(|rank| send(cluster, rank, Channel::Orders, &order));
    let mut failed = None;
    for _ in 1..cluster.size() {
        let (rank, answer) = cluster.receive(Channel::News, FOREVER).expect("an answer");
        if let Answer::Failed { code, message } = read(&answer) {
            failed.get_or_insert((rank, code, message));
        }
    }
    match failed {
        None => Ok(()),
        Some((rank, code, message)) => {
            (1..cluster.size()).for_each(|rank| send(cluster, rank, Channel::Orders, &Order::End));
            Err(Error::Rank { rank, code, message })
        }
    }
}

/// Jobs, and who is doing them.
struct Run<'a> {
    cluster: &'a dyn Cluster,
    folder: &'a mut Folder,
    jobs: &'a [&'a Job],
    options: &'a Options<'a>,
    schedule: Schedule,
    running: Vec<Running>,
}

struct Running {
    start: Start,
    /// Those of its ranks that have not answered.
    waiting: Vec<usize>,
    result: Option<StageResult>,
}

impl<'a> Run<'a> {
    fn new(cluster: &'a dyn Cluster, folder: &'a mut Folder, jobs: &'a [&'a Job], options: &'a Options) -> Run<'a> {
        let schedule = Schedule::new(Waiting::all(&folder.manifest.experiment, jobs), cluster.size());
        Run { cluster, folder, jobs, options, schedule, running: vec![] }
    }

    /// Until all jobs are done, or one has failed and the others have stopped.
    fn finish(mut self) -> Result<()> {
        let mut done = Ok(());
        while done.is_ok() && !self.schedule.is_over() {
            done = match self.options.interrupted.load(Ordering::Relaxed) {
                true => Err(self.options.resume(Error::interrupted())),
                false => self.hand_out().and_then(|()| self.listen(LOOK_EVERY)),
            };
        }
        if let Err(error) = &done
            && !self.stop()
        {
            // This rank's own work may be what waits for ever: nobody else can tell.
            let _ = writeln!(std::io::stderr(), "{}: {error}", program());
            self.cluster.abort(error.exit_code());
        }
        done
    }

    /// Begins what can begin.
    fn hand_out(&mut self) -> Result<()> {
        while let Some(start) = self.schedule.start() {
            let task = self.folder.begin(self.jobs[start.job])?;
            let order = Order::Work(task, start.ranks.clone());
            start.ranks.iter().for_each(|&rank| send(self.cluster, rank, Channel::Orders, &order));
            self.running.push(Running { waiting: start.ranks.clone(), start, result: None });
        }
        Ok(())
    }

    /// Records the next answer, if there is one within `wait`.
    fn listen(&mut self, wait: Duration) -> Result<()> {
        let Some((rank, answer)) = self.cluster.receive(Channel::News, wait) else { return Ok(()) };
        let place = self.running.iter().position(|running| running.waiting.contains(&rank)).expect("a rank at work");
        let job = self.jobs[self.running[place].start.job];
        let running = &mut self.running[place];
        match read(&answer) {
            Answer::Ready => Ok(()),
            Answer::News(news) => self.folder.record(job, news),
            Answer::Done(result) => {
                running.waiting.retain(|waiting| *waiting != rank);
                running.result = running.result.take().or(result.map(|result| *result));
                if !running.waiting.is_empty() {
                    return Ok(());
                }
                let Running { start, result, .. } = self.running.swap_remove(place);
                self.schedule.end(start);
                self.folder.finish(job, result.expect("of the first rank"))
            }
            Answer::Failed { code, message } => {
                let is_first = running.waiting.len() == running.start.ranks.len();
                running.waiting.retain(|waiting| *waiting != rank);
                if running.waiting.is_empty() {
                    self.running.swap_remove(place);
                }
                let error = match code {
                    130 => self.options.resume(Error::Interrupted(message)),
                    _ => Error::Rank { rank, code, message },
                };
                if is_first {
                    self.folder.log_failure(job, &error);
                }
                Err(error)
            }
        }
    }

    /// Lets all ranks end their step and save a checkpoint. Gives whether they did: one that waits for a rank which has failed never
    /// will.
    fn stop(&mut self) -> bool {
        let began = Instant::now();
        for Running { start, waiting, .. } in &self.running {
            let key = &self.jobs[start.job].key;
            waiting.iter().for_each(|&rank| send(self.cluster, rank, Channel::Stop, key));
        }
        while !self.running.is_empty() && began.elapsed() < STOPPED_WITHIN {
            // What a job that was stopped says is no news; one that was done at that moment is recorded.
            let _ = self.listen(LOOK_EVERY);
        }
        self.running.is_empty()
    }
}

/// Lets the ranks that [`serve`](super::serve()) end.
pub fn dismiss(cluster: &dyn Cluster) {
    (1..cluster.size()).for_each(|rank| send(cluster, rank, Channel::Orders, &Order::Leave));
}
