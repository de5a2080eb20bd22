//! The ranks of MPI.

mod team;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::environment::{Universe, processor_name};
use mpi::point_to_point::{MatchedReceiveVec, Source};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination};

pub use team::team_of_ranks;

use super::{Channel, Cluster, started_together};
use crate::engine::Team;
use crate::error::{Error, Result};
use crate::files::sha256;

/// All ranks of the job.
pub struct Ranks {
    _universe: Universe,
    on_host: usize,
    cores: usize,
}

/// How long a rank that waits for a message sleeps before it looks again: MPI itself would keep its core busy.
const NAP: Duration = Duration::from_millis(2);

impl Ranks {
    /// See [`super::join`].
    #[allow(clippy::disallowed_methods, reason = "results do not depend on the number of cores")]
    pub(super) fn join() -> Result<Option<Ranks>> {
        if started_together().is_none() {
            return Ok(None);
        }
        let joined = mpi::initialize_with_threading(Threading::Multiple);
        let (universe, threading) = joined.ok_or_else(|| Error::Usage("MPI was initialised before".to_owned()))?;
        if threading != Threading::Multiple {
            return Err(Error::Usage("this MPI library is not for programs with several threads".to_owned()));
        }
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            tell(panic);
            world().abort(101);
        }));
        let world = world();
        // Ranks that may use the same cores share them.
        let host = world.split_shared(world.rank());
        let own = allowed_cores();
        let mut all = vec![0; own.len() * host.size() as usize];
        host.all_gather_into(&own[..], &mut all[..]);
        let sharing = all.chunks(own.len()).filter(|other| *other == own).count();
        let cores = (thread::available_parallelism().map_or(1, |n| n.get()) / sharing).max(1);
        Ok(Some(Ranks { on_host: host.size() as usize, cores, _universe: universe }))
    }
}

impl Cluster for Ranks {
    fn size(&self) -> usize {
        world().size() as usize
    }

    fn rank(&self) -> usize {
        world().rank() as usize
    }

    fn host(&self) -> String {
        processor_name().unwrap_or_default()
    }

    fn on_host(&self) -> usize {
        self.on_host
    }

    fn cores(&self) -> usize {
        self.cores
    }

    fn abort(&self, code: u8) -> ! {
        world().abort(code.into())
    }

    fn send(&self, to: usize, channel: Channel, message: &[u8]) {
        world().process_at_rank(to as i32).send_with_tag(message, channel as i32);
    }

    fn receive(&self, channel: Channel, wait: Duration) -> Option<(usize, Vec<u8>)> {
        let began = Instant::now();
        loop {
            if let Some(found) = world().any_process().immediate_matched_probe_with_tag(channel as i32) {
                let (bytes, status) = found.matched_receive_vec();
                return Some((status.source_rank() as usize, bytes));
            }
            if began.elapsed() >= wait {
                return None;
            }
            thread::sleep(NAP.min(wait));
        }
    }

    fn team(&self, ranks: &[usize], shards: usize) -> Box<dyn Team> {
        team_of_ranks(ranks, shards)
    }
}

fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

/// A hash of which cores this process may use.
fn allowed_cores() -> Vec<u8> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap_or_default();
    sha256(own.as_bytes()).into_bytes()
}
