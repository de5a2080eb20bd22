//! Many processes under `mpirun` or `srun`.

mod team;

use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Communicator;

pub use team::team_of_ranks;

/// Membership of this process in a cluster, until it is dropped.
pub struct Cluster {
    _universe: Universe,
}

/// What `mpirun` and `srun` tell a process.
const STARTED: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"];

/// Joins the processes that were started together with this one by `mpirun` or `srun`; none where it was not started by them. From
/// here on a panic ends all of them: the others would wait for this one for ever.
///
/// # Panics
/// If MPI has been initialised before, or cannot be used by several threads.
pub fn join() -> Option<Cluster> {
    STARTED.iter().find(|name| std::env::var_os(name).is_some())?;
    let (universe, threading) =
        mpi::initialize_with_threading(Threading::Multiple).expect("MPI, not initialised before");
    assert_eq!(threading, Threading::Multiple, "this MPI library is for single-threaded programs");
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        SimpleCommunicator::world().abort(101);
    }));
    Some(Cluster { _universe: universe })
}
