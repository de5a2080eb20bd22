//! A run by several processes. Rank 0 locks the folder, hands out jobs and records what comes of them; all ranks work on jobs, it
//! too.

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::lock::Lock;
use super::manifest::StageResult;
use super::observer::News;
use super::run::Options;
use super::schedule::{Schedule, Start, Waiting};
use super::work::{Task, Worker};
use super::{Experiment, Job};
use crate::cluster::{Channel, Cluster};
use crate::error::{Error, Result};
use crate::files;
use crate::text::{program, shown};

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

/// Longest time that a rank takes to see a file which another one has written: file systems over a network are not at once the same
/// for all.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// Longest time that ranks take to stop: a step, and a checkpoint.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
/// How often rank 0 looks whether it is interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const FOREVER: Duration = Duration::MAX;

fn send(cluster: &dyn Cluster, to: usize, channel: Channel, message: &impl Serialize) {
    cluster.send(to, channel, &serde_json::to_vec(message).expect("a message becomes JSON"));
}

fn read<T: DeserializeOwned>(message: &[u8]) -> T {
    serde_json::from_slice(message).expect("a message of this program")
}

/// Does the jobs with all ranks, of which this is the first.
pub(super) fn coordinate(
    cluster: &dyn Cluster,
    folder: &mut Folder,
    jobs: &[&Job],
    options: &Options,
    worker: Worker,
) -> Result<()> {
    gather(cluster, folder, options)?;
    thread::scope(|scope| {
        let records = scope.spawn(|| {
            let done = Run::new(cluster, folder, jobs).finish(options.interrupted);
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
    fn new(cluster: &'a dyn Cluster, folder: &'a mut Folder, jobs: &'a [&'a Job]) -> Run<'a> {
        let schedule = Schedule::new(Waiting::all(&folder.manifest.experiment, jobs), cluster.size());
        Run { cluster, folder, jobs, schedule, running: vec![] }
    }

    /// Until all jobs are done, or one has failed and the others have stopped.
    fn finish(mut self, interrupted: &AtomicBool) -> Result<()> {
        let mut done = Ok(());
        while done.is_ok() && !self.schedule.is_over() {
            done = match interrupted.load(Ordering::Relaxed) {
                true => Err(Error::Interrupted("run it again into the same folder to resume".to_owned())),
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
                    130 => Error::Interrupted(message),
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
        let busy: Vec<usize> = self.running.iter().flat_map(|running| running.waiting.clone()).collect();
        busy.into_iter().for_each(|rank| send(self.cluster, rank, Channel::Stop, &()));
        while !self.running.is_empty() && began.elapsed() < STOPPED_WITHIN {
            // What a job that was stopped says is no news; one that was done at that moment is recorded.
            let _ = self.listen(LOOK_EVERY);
        }
        self.running.is_empty()
    }
}

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

/// Lets the ranks that [`serve`] end.
pub fn dismiss(cluster: &dyn Cluster) {
    (1..cluster.size()).for_each(|rank| send(cluster, rank, Channel::Orders, &Order::Leave));
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
fn work(cluster: &dyn Cluster, mut worker: Worker) {
    while let Some((_, order)) = cluster.receive(Channel::Orders, FOREVER) {
        let Order::Work(task, ranks) = read(&order) else { return };
        let team = (ranks.len() > 1).then(|| cluster.team(&ranks, worker.shards(&task)));
        let answer = |answer: &Answer| send(cluster, 0, Channel::News, answer);
        // What says to stop an earlier job says nothing of this one.
        while is_asked(cluster) {}
        let stops = Cell::new(false);
        let done = worker.run(
            &task,
            team,
            &|| {
                stops.set(stops.get() || is_asked(cluster));
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

/// Whether rank 0 says to stop.
fn is_asked(cluster: &dyn Cluster) -> bool {
    cluster.receive(Channel::Stop, Duration::ZERO).is_some()
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
