//! Several processes that run one experiment: `mpirun -n 4 fewlabel run experiments/strict.yaml`.
//!
//! Rank 0 locks the run directory, hands out the stages, and records what all ranks tell it; each rank, it too, trains stages and writes
//! their files into the directory, which all of them share ([`crate::experiment::run`], [`crate::experiment::serve`]). A stage with
//! `shards` is trained by several ranks together ([`crate::engine::Team`]). Nothing of the result depends on how many there are.
//!
//! With the feature `mpi` the ranks are those of MPI; tests have threads in their place.

#[cfg(feature = "mpi")]
mod mpi;

use std::time::Duration;

#[cfg(feature = "mpi")]
pub use mpi::{Ranks, team_of_ranks};

use crate::engine::Team;
#[cfg(not(feature = "mpi"))]
use crate::error::Error;
use crate::error::Result;

/// What a message is about: one thread of a rank receives those of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// From rank 0: what is to be done.
    Orders,
    /// To rank 0: what was done.
    News,
    /// From rank 0: stop what is being done, with a checkpoint.
    Stop,
}

/// The processes that were started together.
pub trait Cluster: Sync {
    /// How many there are.
    fn size(&self) -> usize;
    /// Which this is, from 0.
    fn rank(&self) -> usize;
    /// The machine that it runs on.
    fn host(&self) -> String;
    /// How many ranks run on it.
    fn on_host(&self) -> usize;
    /// The cores that it has for itself.
    fn cores(&self) -> usize;
    /// Ends all ranks at once, with this exit code.
    fn abort(&self, code: u8) -> !;
    /// Sends a message to a rank, perhaps to this one.
    fn send(&self, to: usize, channel: Channel, message: &[u8]);
    /// The next message of a channel, and who has sent it; none that came within `wait`. Waiting leaves the core to others.
    fn receive(&self, channel: Channel, wait: Duration) -> Option<(usize, Vec<u8>)>;
    /// A team of some ranks, this one among them, in their order, for batches in `shards` shards. All of them make it at the same time.
    fn team(&self, ranks: &[usize], shards: usize) -> Box<dyn Team>;
}

/// Joins the processes that were started together with this one by `mpirun` or `srun`; none where there are no others. From here on a
/// panic ends all of them: the others would wait for this one for ever.
///
/// # Errors
/// [`Error::Usage`] for a program that was built without MPI, and for an MPI library that cannot be used by several threads.
pub fn join() -> Result<Option<Box<dyn Cluster>>> {
    #[cfg(feature = "mpi")]
    return Ok(Ranks::join()?.map(|ranks| Box::new(ranks) as Box<dyn Cluster>));
    #[cfg(not(feature = "mpi"))]
    match started_together() {
        Some(size) if size > 1 => Err(Error::Usage(format!(
            "{size} processes were started together, and this program was built without MPI: build it with `--features mpi`"
        ))),
        _ => Ok(None),
    }
}

/// What `mpirun` and `srun` with an MPI plugin tell each process: how many there are.
#[allow(clippy::disallowed_methods, reason = "results do not depend on it")]
fn started_together() -> Option<usize> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].into_iter().find_map(number).or_else(|| {
        // Of PMIx itself, which does not tell the number in a variable.
        std::env::var_os("PMIX_RANK").and_then(|_| number("SLURM_STEP_NUM_TASKS").or_else(|| number("SLURM_NTASKS")))
    })
}
