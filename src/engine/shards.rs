//! A batch in shards, which one process or a team of several trains on with the same bits.
//!
//! Of an input's n examples, shard s of N has those from s·n/N to (s + 1)·n/N. What a step sums over the batch (batch norm's
//! statistics and their gradients, the gradients of the weights) is summed over each shard, as over a batch of its own, and then over
//! the shards in their order. A member of a team computes the sums of its own shards, which are consecutive, and all members add
//! all shards' sums alike: no sum depends on how many members there are. A batch with fewer examples than shards is not split: each
//! member trains on all of it.

mod threads;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::Range;

use rayon::prelude::*;

use crate::simd::simd;
pub use threads::team_of_threads;

/// How the members of a team tell each other their values. All of them call the same functions in the same order.
pub trait Team: Debug + Send {
    /// Number of members.
    fn size(&self) -> usize;

    /// This member's place, from 0.
    fn rank(&self) -> usize;

    /// `values` are in consecutive parts of these lengths, one for each member, of which it has its own: it gets the others'.
    fn complete(&mut self, values: &mut [f32], lens: &[usize]);

    /// The same in double precision.
    fn complete_sums(&mut self, values: &mut [f64], lens: &[usize]);

    /// Begins to add up `parts`, values of each of its own shards, over the shards of all members in order.
    fn begin_sum(&mut self, parts: Vec<Vec<f32>>);

    /// The same memory for the sum that was begun first of those that have not ended; its first part is the sum.
    fn end_sum(&mut self) -> Vec<Vec<f32>>;
}

/// A team of one.
#[derive(Debug, Default)]
struct Alone {
    begun: VecDeque<Vec<Vec<f32>>>,
}

impl Team for Alone {
    fn size(&self) -> usize {
        1
    }

    fn rank(&self) -> usize {
        0
    }

    fn complete(&mut self, _values: &mut [f32], _lens: &[usize]) {}

    fn complete_sums(&mut self, _values: &mut [f64], _lens: &[usize]) {}

    fn begin_sum(&mut self, parts: Vec<Vec<f32>>) {
        self.begun.push_back(parts);
    }

    fn end_sum(&mut self) -> Vec<Vec<f32>> {
        let mut parts = self.begun.pop_front().expect("a sum was begun");
        if let Some((sum, others)) = parts.split_first_mut() {
            others.iter().for_each(|part| add(sum, part));
        }
        parts
    }
}

/// [`add_to`], of large arrays.
pub fn add(sum: &mut [f32], values: &[f32]) {
    const SIZE: usize = 1 << 14;
    sum.par_chunks_mut(SIZE).zip(values.par_chunks(SIZE)).for_each(|(sum, values)| add_to(sum, values));
}

simd! {
    /// Adds `values` to `sum`, one by one.
    pub fn add_to(sum: &mut [f32], values: &[f32]) {
        sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
    }
}

/// Which examples of a batch a member trains on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnShare {
    count: usize,
    rank: usize,
    size: usize,
}

impl OwnShare {
    /// Those of an input's `n` examples, if all inputs have at least as many as there are shards; else it trains on all.
    pub fn of(self, n: usize) -> Range<usize> {
        let OwnShare { count, rank, size } = self;
        let [first, end] = [rank, rank + 1].map(|member| n * (count * member / size) / count);
        if n >= count { first..end } else { 0..n }
    }
}

impl Default for OwnShare {
    /// All of them.
    fn default() -> OwnShare {
        OwnShare { count: 1, rank: 0, size: 1 }
    }
}

/// Into how many shards batches are split, and by whom.
#[derive(Debug)]
pub struct Shards {
    count: usize,
    pub(super) team: Box<dyn Team>,
    /// Of the current pass: whether its batch is split.
    is_split: bool,
    lens: Vec<usize>,
}

impl Shards {
    /// `count` shards, all of them in this process.
    ///
    /// # Panics
    /// For no shard.
    pub fn new(count: usize) -> Shards {
        Shards::of_team(count, Box::<Alone>::default())
    }

    /// `count` shards over a team, as evenly as can be.
    ///
    /// # Panics
    /// For fewer shards than members.
    pub fn of_team(count: usize, team: Box<dyn Team>) -> Shards {
        assert!(count >= team.size() && team.size() > 0, "{count} shards for {} members", team.size());
        Shards { count, team, is_split: false, lens: vec![] }
    }

    /// Which examples are this member's.
    pub fn own_share(&self) -> OwnShare {
        OwnShare { count: self.count, rank: self.team.rank(), size: self.team.size() }
    }

    /// Begins a pass over inputs of so many examples each.
    pub(super) fn begin(&mut self, mut examples: impl Iterator<Item = usize>) {
        self.is_split = self.count > 1 && examples.all(|n| n >= self.count);
    }

    /// Whether the pass's batch is split. If not, it has one shard.
    pub fn is_split(&self) -> bool {
        self.is_split
    }

    /// Shards of the pass.
    pub fn count(&self) -> usize {
        if self.is_split { self.count } else { 1 }
    }

    /// This member's shards of the pass.
    pub fn own(&self) -> Range<usize> {
        self.of(self.team.rank())
    }

    fn of(&self, member: usize) -> Range<usize> {
        match self.is_split {
            true => self.count * member / self.team.size()..self.count * (member + 1) / self.team.size(),
            false => 0..1,
        }
    }

    /// Those of an input's `n` examples that are in `shard`.
    pub fn examples(&self, shard: usize, n: usize) -> Range<usize> {
        n * shard / self.count()..n * (shard + 1) / self.count()
    }

    /// `sums` [shard, …], of which this member has its own shards', gets the others'.
    pub fn complete_sums(&mut self, sums: &mut [f64]) {
        if self.is_split {
            let of_shard = sums.len() / self.count;
            self.set_lens(|_, shards| shards.len() * of_shard);
            self.team.complete_sums(sums, &self.lens);
        }
    }

    /// `values` [n, width] of an input's `n` examples, of which this member has its own, get the others'.
    pub fn complete(&mut self, values: &mut [f32], n: usize) {
        if self.is_split {
            let width = values.len() / n;
            self.set_lens(|this, shards| shards.map(|shard| this.examples(shard, n).len() * width).sum());
            self.team.complete(values, &self.lens);
        }
    }

    /// Whether `flag` is true for any member.
    pub fn any(&mut self, flag: bool) -> bool {
        let (rank, size) = (self.team.rank(), self.team.size());
        if size == 1 {
            return flag;
        }
        let mut flags = vec![0.0; size];
        flags[rank] = f64::from(u8::from(flag));
        self.set_lens(|_, _| 1);
        self.team.complete_sums(&mut flags, &self.lens);
        flags.contains(&1.0)
    }

    /// Sets `lens` to what each member has, by its shards.
    fn set_lens(&mut self, len: impl Fn(&Shards, Range<usize>) -> usize) {
        let mut lens = std::mem::take(&mut self.lens);
        lens.clear();
        lens.extend((0..self.team.size()).map(|member| len(self, self.of(member))));
        self.lens = lens;
    }
}

impl Default for Shards {
    fn default() -> Shards {
        Shards::new(1)
    }
}
