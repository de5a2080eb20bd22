//! The order of a run: each stage after the one whose weights it starts from, and all of them for each seed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::defaults::Conflict;
use super::{Experiment, RANDOM, Stage};
use crate::suggest::did_you_mean;

/// One stage for one seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its folder in the run directory, and its name in the manifest: that of the stage, below `seed-…` where the
    /// experiment has several seeds.
    pub key: String,
    /// The key of its random streams.
    pub seed: u64,
    /// Index of the stage.
    pub stage: usize,
}

impl Experiment {
    /// The key of a stage for a seed.
    pub fn key(&self, seed: u64, stage: &str) -> String {
        if self.seeds.0 == 1 { stage.to_owned() } else { format!("seed-{seed}/{stage}") }
    }

    /// The experiment's seeds; 0 follows the largest.
    pub fn all_seeds(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.seed.0;
        (0..u64::from(self.seeds.0)).map(move |i| first.wrapping_add(i))
    }

    /// All jobs in order; with `only` those that it names by key, stage or `seed-…`, and their dependencies.
    pub(super) fn jobs(&self, only: &[String]) -> Result<Vec<Job>, Conflict> {
        let mut jobs = Vec::new();
        let mut known = vec![only.is_empty(); only.len().max(1)];
        for seed in self.all_seeds() {
            let prefix = format!("seed-{seed}");
            let mut wanted = Vec::new();
            for (name, known) in only.iter().zip(&mut known) {
                let rest = match name.strip_prefix(&prefix) {
                    Some(rest) if self.seeds.0 > 1 && (rest.is_empty() || rest.starts_with('/')) => {
                        rest.strip_prefix('/')
                    }
                    _ if name.contains('/') => continue,
                    _ => Some(&**name),
                };
                let stages = self.stages.iter().filter(|stage| rest.is_none_or(|rest| rest == &*stage.name));
                let before = wanted.len();
                wanted.extend(stages.map(|stage| stage.name.to_string()));
                *known |= wanted.len() > before;
            }
            if only.is_empty() || !wanted.is_empty() {
                let job = |stage: usize| Job { key: self.key(seed, &self.stages[stage].name), seed, stage };
                jobs.extend(plan(&self.stages, &wanted)?.into_iter().map(job));
            }
        }
        match known.iter().position(|known| !known).and_then(|at| only.get(at)) {
            Some(name) => {
                let known: Vec<&str> = self.stages.iter().map(|stage| &*stage.name).collect();
                let stage = name.rsplit('/').next().unwrap_or(name);
                let seeds: Vec<String> = self.all_seeds().map(|seed| format!("seed-{seed}")).collect();
                let seeds = match &seeds[..] {
                    [first, .., last] => format!("; and {first} to {last}"),
                    _ => String::new(),
                };
                let message = format!("no stage {name}; there are: {}{seeds}", known.join(", "));
                Err(Conflict::new(&[], message + &did_you_mean(stage, known)))
            }
            None => Ok(jobs),
        }
    }
}

/// The stages to run, as indices: each after the stage it depends on, else in the file's order. `only` names the
/// stages wanted, which brings in what they depend on; empty: all.
///
/// # Errors
/// A name that is no stage, or stages that depend on each other.
pub(super) fn plan(stages: &[Stage], only: &[String]) -> Result<Vec<usize>, Conflict> {
    let places: BTreeMap<&str, usize> = stages.iter().map(|stage| &*stage.name).zip(0..).collect();
    let known = || stages.iter().map(|stage| &*stage.name).collect::<Vec<_>>().join(", ");
    let mut wanted = Vec::new();
    for name in only {
        let conflict = || Conflict::new(&[], format!("no stage {name}; there are: {}", known()));
        wanted.push(*places.get(&**name).ok_or_else(conflict)?);
    }
    if only.is_empty() {
        wanted = (0..stages.len()).collect();
    }
    wanted.sort_unstable();
    let mut order = Vec::new();
    let mut state = vec![State::New; stages.len()];
    for target in wanted {
        // The chain from the target back to a stage that is planned, or that needs none.
        let mut chain = Vec::new();
        let mut next = Some(target);
        while let Some(index) = next.filter(|&index| state[index] != State::Planned) {
            let stage = &stages[index];
            if state[index] == State::InChain {
                return Err(Conflict::of_stage(&stage.name, Some("from"), "depends on itself through `from`"));
            }
            state[index] = State::InChain;
            chain.push(index);
            next = match &stage.from {
                None => None,
                Some(from) if **from == *RANDOM => None,
                Some(from) => Some(*places.get(&**from).ok_or_else(|| {
                    let meant = did_you_mean(from, stages.iter().map(|stage| &*stage.name));
                    let message = format!("from: no stage {from}; there are: {}{meant}", known());
                    Conflict::of_stage(&stage.name, Some("from"), message)
                })?),
            };
        }
        chain.iter().for_each(|&index| state[index] = State::Planned);
        order.extend(chain.into_iter().rev());
    }
    Ok(order)
}

/// Of a stage while stages are planned.
#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    InChain,
    Planned,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::experiment::Experiment;

    /// Stages s0, s1, …; the i-th takes its weights from the one that `from` names, or from none.
    fn stages(from: &[Option<usize>]) -> Vec<Stage> {
        let experiment = Experiment::quick();
        let stage = |(i, from): (usize, &Option<usize>)| {
            let name = |i: usize| crate::experiment::Name::new(&format!("s{i}")).unwrap();
            Stage { name: name(i), from: from.map(name), ..experiment.stages[0].clone() }
        };
        from.iter().enumerate().map(stage).collect()
    }

    proptest! {
        /// Any acyclic plan runs each stage once, after the one it needs.
        #[test]
        fn every_stage_comes_once_after_its_source(
            order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
            sources in proptest::collection::vec(proptest::option::of(0usize..12), 12),
        ) {
            // Stage order[i] may only depend on one that is earlier in `order`.
            let mut from = vec![None; 12];
            for (i, source) in sources.iter().enumerate() {
                from[order[i]] = source.filter(|_| i > 0).map(|source| order[source % i.max(1)]);
            }
            let planned = plan(&stages(&from), &[]).ok().unwrap();
            let mut sorted = planned.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..12).collect::<Vec<_>>());
            let at = |stage: usize| planned.iter().position(|&s| s == stage);
            for (stage, source) in from.iter().enumerate() {
                prop_assert!(source.is_none_or(|source| at(source) < at(stage)));
            }
        }
    }

    #[test]
    fn only_brings_in_what_is_needed_and_nothing_else() {
        let stages = stages(&[None, Some(3), None, Some(2), None]);
        assert_eq!(plan(&stages, &["s1".to_owned()]).ok().unwrap(), [2, 3, 1]);
        assert_eq!(plan(&stages, &[]).ok().unwrap(), [0, 2, 3, 1, 4]);
        assert!(plan(&stages, &["s9".to_owned()]).is_err());
    }

    /// A manifest of somebody else may have any number.
    #[test]
    fn stages_have_a_limit_and_so_have_those_over_the_seeds() {
        let complete = |n: usize, seeds: u32| {
            let mut experiment = Experiment { claims: vec![], ..Experiment::quick() };
            (experiment.stages, experiment.seeds.0) = (stages(&vec![None; n]), seeds);
            experiment.complete().map_err(|conflict| conflict.message)
        };
        assert_eq!([complete(1000, 1), complete(1000, 100)], [Ok(()), Ok(())]);
        let refused =
            |n: usize, over: usize| Err(format!("stages: {n}, {over} over the seeds; 1000 and 100000 are the most"));
        assert_eq!([complete(1001, 1), complete(1000, 101)], [refused(1001, 1001), refused(1000, 101_000)]);
    }

    #[test]
    fn a_cycle_is_an_error_wherever_it_is() {
        assert!(plan(&stages(&[Some(0)]), &[]).is_err());
        assert!(plan(&stages(&[None, Some(2), Some(3), Some(1)]), &[]).is_err());
    }
}
