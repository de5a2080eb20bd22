//! A team of threads of this process: what tests train with in the place of a cluster.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Team;

/// The members of a team of `size`, one for each of so many threads. A member that is dropped before the others are done with it
/// makes their calls panic: nobody waits for it.
pub fn team_of_threads(size: usize) -> Vec<Box<dyn Team>> {
    let round = Round { laid: vec![None; size], taken: 0, is_left: false };
    let table = Arc::new(Table { round: Mutex::new(round), changed: Condvar::new() });
    let member = |rank| Box::new(Member { rank, size, table: table.clone(), begun: VecDeque::new() });
    (0..size).map(|rank| member(rank) as Box<dyn Team>).collect()
}

#[derive(Debug)]
struct Member {
    rank: usize,
    size: usize,
    table: Arc<Table>,
    begun: VecDeque<Vec<Vec<f32>>>,
}

/// Where members lay what they have for all.
#[derive(Debug)]
struct Table {
    round: Mutex<Round>,
    changed: Condvar,
}

/// One exchange: all lay, then all take.
#[derive(Debug)]
struct Round {
    laid: Vec<Option<Vec<Vec<f64>>>>,
    taken: usize,
    is_left: bool,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `until`.
    ///
    /// # Panics
    /// If a member has left, and it will never be.
    fn wait<'a>(&'a self, round: MutexGuard<'a, Round>, until: impl Fn(&Round) -> bool) -> MutexGuard<'a, Round> {
        let waits = |round: &mut Round| !until(round) && !round.is_left;
        let round = self.changed.wait_while(round, waits).unwrap_or_else(PoisonError::into_inner);
        assert!(until(&round), "a member of the team has left");
        round
    }
}

impl Member {
    /// Of all members in order what each lays.
    fn exchange(&self, own: Vec<Vec<f64>>) -> Vec<Vec<Vec<f64>>> {
        let mut round = self.table.wait(self.table.lock(), |round| round.laid[self.rank].is_none());
        round.laid[self.rank] = Some(own);
        self.table.changed.notify_all();
        let mut round = self.table.wait(round, |round| round.laid.iter().all(Option::is_some));
        let all = round.laid.iter().flatten().cloned().collect();
        round.taken += 1;
        if round.taken == self.size {
            round.taken = 0;
            round.laid.fill(None);
            self.table.changed.notify_all();
        }
        all
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.table.lock().is_left = true;
        self.table.changed.notify_all();
    }
}

impl Team for Member {
    fn size(&self) -> usize {
        self.size
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn complete(&mut self, values: &mut [f32], lens: &[usize]) {
        let mut exact: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        self.complete_sums(&mut exact, lens);
        values.iter_mut().zip(exact).for_each(|(value, exact)| *value = exact as f32);
    }

    fn complete_sums(&mut self, values: &mut [f64], lens: &[usize]) {
        let first = lens[..self.rank].iter().sum();
        let own = values[first..][..lens[self.rank]].to_vec();
        let all = self.exchange(vec![own]).concat().concat();
        assert_eq!(all.len(), values.len(), "the parts are not the whole");
        values.copy_from_slice(&all);
    }

    fn begin_sum(&mut self, parts: Vec<Vec<f32>>) {
        self.begun.push_back(parts);
    }

    fn end_sum(&mut self) -> Vec<Vec<f32>> {
        let mut parts = self.begun.pop_front().expect("a sum was begun");
        let exact = parts.iter().map(|part| part.iter().map(|v| f64::from(*v)).collect()).collect();
        let shards = self.exchange(exact).concat();
        for (at, sum) in parts[0].iter_mut().enumerate() {
            *sum = shards[1..].iter().fold(shards[0][at] as f32, |sum, shard| sum + shard[at] as f32);
        }
        parts
    }
}
