//! Which job a run's processes do next: of those whose source is there the one with most work behind it, longest first.

use std::collections::BTreeMap;

use super::{Experiment, Job, Name};

/// A job that has not begun.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// The one that it comes after, by its place among the jobs, if that is among them.
    after: Option<usize>,
    /// Processes that can train it together.
    shards: usize,
    /// Floating-point operations.
    work: f64,
}

impl Waiting {
    /// Of jobs that each come after the one that they start from, if that is among them.
    pub fn all(experiment: &Experiment, jobs: &[&Job]) -> Vec<Waiting> {
        let places: BTreeMap<(u64, &Name), usize> =
            jobs.iter().map(|job| (job.seed, &experiment.stages[job.stage].name)).zip(0..).collect();
        let work: Vec<f64> = experiment.stages.iter().map(|stage| experiment.operations(stage)).collect();
        let of = |job: &&Job| {
            let stage = &experiment.stages[job.stage];
            let after = experiment.source(stage).and_then(|source| places.get(&(job.seed, &source.name)));
            let shards = stage.shards.map_or(1, |shards| shards.0);
            Waiting { after: after.copied(), shards, work: work[job.stage] }
        };
        jobs.iter().map(of).collect()
    }
}

/// A job that begins, by its place, and the ranks that do it together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub job: usize,
    pub ranks: Vec<usize>,
}

/// Jobs over ranks.
#[derive(Debug)]
pub(super) struct Schedule {
    jobs: Vec<Waiting>,
    size: usize,
    /// Not begun, the one with most work behind it last.
    left: Vec<usize>,
    done: Vec<bool>,
    idle: Vec<usize>,
}

impl Schedule {
    /// Of jobs that each come after the one that they start from.
    pub fn new(jobs: Vec<Waiting>, size: usize) -> Schedule {
        // A job has behind it what comes after it: the longest chain ends the run.
        let mut behind: Vec<f64> = vec![0.0; jobs.len()];
        for (i, job) in jobs.iter().enumerate().rev() {
            behind[i] += job.work;
            if let Some(after) = job.after {
                assert!(after < i, "a job comes before its source");
                behind[after] = behind[after].max(behind[i]);
            }
        }
        let mut left: Vec<usize> = (0..jobs.len()).collect();
        left.sort_by(|&a, &b| behind[a].total_cmp(&behind[b]).then(b.cmp(&a)));
        Schedule { done: vec![false; jobs.len()], jobs, size, left, idle: (0..size).collect() }
    }

    /// The next job, if it can begin. One that takes several ranks waits for them, and the others for it: else it might wait for ever.
    pub fn start(&mut self) -> Option<Start> {
        let is_ready = |&job: &usize| self.jobs[job].after.is_none_or(|after| self.done[after]);
        let place = self.left.iter().rposition(is_ready)?;
        let ranks = self.jobs[self.left[place]].shards.min(self.size);
        if self.idle.len() < ranks {
            return None;
        }
        Some(Start { job: self.left.remove(place), ranks: self.idle.drain(..ranks).collect() })
    }

    /// A job is done, and its ranks are idle.
    pub fn end(&mut self, Start { job, ranks }: Start) {
        self.done[job] = true;
        self.idle.extend(ranks);
        self.idle.sort_unstable();
    }

    /// Whether no job is left or under way.
    pub fn is_over(&self) -> bool {
        self.left.is_empty() && self.idle.len() == self.size
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs the jobs on so many ranks: which began when, in order, and when all were done.
    fn run(jobs: &[Waiting], size: usize) -> (Vec<(f64, Start)>, f64) {
        let mut schedule = Schedule::new(jobs.to_vec(), size);
        let (mut now, mut begun, mut running) = (0.0, vec![], vec![]);
        loop {
            while let Some(start) = schedule.start() {
                begun.push((now, start.clone()));
                running.push((now + jobs[start.job].work, start));
            }
            let Some(first) = (0..running.len()).min_by(|&a, &b| f64::total_cmp(&running[a].0, &running[b].0)) else {
                assert!(schedule.is_over());
                return (begun, now);
            };
            let (ended, start) = running.swap_remove(first);
            now = ended;
            schedule.end(start);
        }
    }

    fn job(after: Option<usize>, shards: usize, work: f64) -> Waiting {
        Waiting { after, shards, work }
    }

    #[test]
    fn the_longest_chain_is_first_and_all_ranks_work() {
        // A stage of 4 before one of 3, and five of 2 by themselves: two ranks need 17 / 2, and 9 is what they can do.
        let jobs: Vec<Waiting> =
            [job(None, 1, 4.0), job(Some(0), 1, 3.0)].into_iter().chain(vec![job(None, 1, 2.0); 5]).collect();
        let (begun, end) = run(&jobs, 2);
        let order: Vec<usize> = begun.iter().map(|(_, start)| start.job).collect();
        assert_eq!((order, end), (vec![0, 2, 3, 1, 4, 5, 6], 9.0));
    }

    #[test]
    fn a_job_in_shards_has_its_ranks_and_others_do_not_overtake_it() {
        let jobs = [job(None, 1, 5.0), job(None, 4, 3.0), job(None, 1, 2.0), job(None, 1, 1.0)];
        let (begun, end) = run(&jobs, 3);
        let start = |job: usize, ranks: &[usize]| Start { job, ranks: ranks.to_vec() };
        let expected =
            [(0.0, start(0, &[0])), (5.0, start(1, &[0, 1, 2])), (8.0, start(2, &[0])), (8.0, start(3, &[1]))];
        assert_eq!((begun, end), (expected.to_vec(), 10.0));
    }

    proptest! {
        /// Every job begins once, after its source is done, on ranks of its own.
        #[test]
        fn every_job_is_done_once_after_its_source(
            drawn in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 1usize..5, 1u8..9), 1..20),
            size in 1usize..6,
        ) {
            let of = |(i, (source, alone, shards, work)): (usize, &(prop::sample::Index, bool, usize, u8))| {
                job((i > 0 && !alone).then(|| source.index(i.max(1))), *shards, f64::from(*work))
            };
            let jobs: Vec<Waiting> = drawn.iter().enumerate().map(of).collect();
            let (begun, _) = run(&jobs, size);
            let mut order: Vec<usize> = begun.iter().map(|(_, start)| start.job).collect();
            let ends = |job: usize| {
                let (began, _) = begun.iter().find(|(_, start)| start.job == job).expect("it began");
                began + jobs[job].work
            };
            for (began, start) in &begun {
                prop_assert!(jobs[start.job].after.is_none_or(|after| ends(after) <= *began));
                prop_assert_eq!(start.ranks.len(), jobs[start.job].shards.min(size));
                let others = begun.iter().filter(|(other, s)| s != start && *other <= *began && ends(s.job) > *began);
                for (_, other) in others {
                    prop_assert!(other.ranks.iter().all(|rank| !start.ranks.contains(rank)), "{other:?} and {start:?}");
                }
            }
            order.sort_unstable();
            prop_assert_eq!(order, (0..jobs.len()).collect::<Vec<_>>());
        }
    }
}
