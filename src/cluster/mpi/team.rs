//! A team of MPI ranks. MPI's own reductions may add in any order, so ranks only send here: what is received is added in the
//! order of shards.

use std::fmt;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mpi::datatype::{Equivalence, PartitionMut};
use mpi::request::{self, Request, Scope};
use mpi::topology::{Group, SimpleCommunicator};
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};

use crate::engine::Team;
use crate::engine::shards::add_to;

/// The team of some of the ranks, for batches in `shards` shards. All of them make it at the same time.
///
/// Two threads talk to the others, each by a communicator of its own: one at once, for what the pass waits for; one adds up
/// gradients while the backward pass goes on.
pub fn team_of_ranks(ranks: &[usize], shards: usize) -> Box<dyn Team> {
    let members: Vec<i32> = ranks.iter().map(|rank| *rank as i32).collect();
    let own = SimpleCommunicator::world().rank();
    let rank = members.iter().position(|rank| *rank == own).expect("one of the ranks");
    // One after the other: each makes its communicator with the other ranks.
    let talk = Line::open(members.clone(), |(values, lens): (Values, Vec<usize>), comm| match values {
        Values::Single(mut values) => {
            complete(comm, &mut values, &lens);
            (Values::Single(values), lens)
        }
        Values::Double(mut values) => {
            complete(comm, &mut values, &lens);
            (Values::Double(values), lens)
        }
    });
    let mut memory = Memory::default();
    let sums = Line::open(members, move |mut parts: Vec<Vec<f32>>, comm| {
        Sum { comm, shards, len: parts[0].len() }.of(&mut parts, &mut memory);
        parts
    });
    Box::new(Ranks { rank, size: ranks.len(), talk, sums })
}

struct Ranks {
    rank: usize,
    size: usize,
    talk: Line<(Values, Vec<usize>)>,
    sums: Line<Vec<Vec<f32>>>,
}

enum Values {
    Single(Vec<f32>),
    Double(Vec<f64>),
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl Team for Ranks {
    fn size(&self) -> usize {
        self.size
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn complete(&mut self, values: &mut [f32], lens: &[usize]) {
        self.talk.send((Values::Single(values.to_vec()), lens.to_vec()));
        let (Values::Single(all), _) = self.talk.receive() else { unreachable!("single precision was sent") };
        values.copy_from_slice(&all);
    }

    fn complete_sums(&mut self, values: &mut [f64], lens: &[usize]) {
        self.talk.send((Values::Double(values.to_vec()), lens.to_vec()));
        let (Values::Double(all), _) = self.talk.receive() else { unreachable!("double precision was sent") };
        values.copy_from_slice(&all);
    }

    fn begin_sum(&mut self, parts: Vec<Vec<f32>>) {
        self.sums.send(parts);
    }

    fn end_sum(&mut self) -> Vec<Vec<f32>> {
        self.sums.receive()
    }
}

/// A thread with a communicator, which is no thread's but its own, and what goes to it and comes back.
struct Line<T> {
    /// None once the line is closed.
    to: Option<Sender<T>>,
    back: Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Line<T> {
    fn open(members: Vec<i32>, answer: impl FnMut(T, &SimpleCommunicator) -> T + Send + 'static) -> Line<T> {
        let ((to, work), (answers, back), (ready, is_ready)) = (channel::<T>(), channel(), channel());
        let mut answer = answer;
        let thread = thread::spawn(move || {
            let world = SimpleCommunicator::world();
            let group = world.group().include(&members);
            let comm = world.split_by_subgroup_with_tag(&group, TEAM).expect("a communicator of its members");
            let _ = ready.send(());
            for value in work {
                // Whoever asked may be gone.
                let _ = answers.send(answer(value, &comm));
            }
        });
        is_ready.recv().expect("a communicator");
        Line { to: Some(to), back, thread: Some(thread) }
    }

    fn send(&self, value: T) {
        let to = self.to.as_ref().expect("an open line");
        to.send(value).expect("a thread that waits");
    }

    fn receive(&self) -> T {
        self.back.recv().expect("a thread that answers")
    }
}

/// The thread frees its communicator, which MPI must not be asked for while it ends: whoever drops a team waits for that.
impl<T> Drop for Line<T> {
    fn drop(&mut self) {
        drop(self.to.take());
        // One that has panicked has ended the job.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Waits for exchanges, and leaves the core to this process's other threads meanwhile: MPI's own waiting would keep it busy.
fn wait<'a, D: ?Sized, S: Scope<'a>>(mut requests: Vec<Request<'a, D, S>>) {
    loop {
        requests = requests.into_iter().filter_map(|request| request.test().err()).collect();
        if requests.is_empty() {
            return;
        }
        thread::sleep(NAP);
    }
}

/// How long an exchange is left alone before it is looked at again: a small part of a step.
const NAP: Duration = Duration::from_micros(50);
/// Values that are added up at a time, so that they stay in the cache.
const CACHED: usize = 4096;
/// The tag by which members make a communicator, none of a [`Channel`](super::Channel): one of them may be waiting for its orders
/// still.
const TEAM: i32 = 1 << 13;
/// The tag of pieces of a sum; shards have theirs.
const PIECE: i32 = 1 << 14;

/// What a rank adds up, kept from step to step.
#[derive(Default)]
struct Memory {
    /// Of each shard that is not its own, the rank's piece.
    received: Vec<Vec<f32>>,
    total: Vec<f32>,
}

/// Where parts of these lengths begin.
fn starts(lens: &[i32]) -> Vec<i32> {
    lens.iter().scan(0, |next, len| Some(std::mem::replace(next, *next + len))).collect()
}

/// [`Team::complete`].
fn complete<T: Equivalence + Copy>(comm: &SimpleCommunicator, values: &mut [T], lens: &[usize]) {
    let lens: Vec<i32> = lens.iter().map(|len| *len as i32).collect();
    let (starts, rank) = (starts(&lens), comm.rank() as usize);
    let own = values[starts[rank] as usize..][..lens[rank] as usize].to_vec();
    let mut all = PartitionMut::new(values, lens, starts);
    request::scope(|scope| wait(vec![comm.immediate_all_gather_varcount_into(scope, &own[..], &mut all)]));
}

/// An array of `len` values, of which each rank has those of its shards, on the way to their sum. Each rank adds up one piece of
/// it.
struct Sum<'a> {
    comm: &'a SimpleCommunicator,
    shards: usize,
    len: usize,
}

impl Sum<'_> {
    fn rank(&self) -> usize {
        self.comm.rank() as usize
    }

    /// What a rank has of `n` things.
    fn share(&self, n: usize, rank: usize) -> Range<usize> {
        let size = self.comm.size() as usize;
        n * rank / size..n * (rank + 1) / size
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let (rank, size) = (self.rank(), self.comm.size() as usize);
        (0..size).filter(move |other| *other != rank)
    }

    /// `parts` of the own shards: the first becomes the sum over all ranks' shards in order. A rank sends and receives no more
    /// than its own shards and the sum.
    fn of(&self, parts: &mut [Vec<f32>], memory: &mut Memory) {
        memory.received.resize_with(self.shards, Vec::new);
        self.exchange_shards(parts, &mut memory.received);
        self.add_up(parts, memory);
        self.exchange_pieces(&mut parts[0]);
    }

    /// Sends the others their pieces of the own shards, and receives the own piece of theirs.
    fn exchange_shards(&self, parts: &[Vec<f32>], received: &mut [Vec<f32>]) {
        let own = self.share(self.len, self.rank()).len();
        request::scope(|scope| {
            let mut requests = vec![];
            let mut rest = received;
            let mut shard = 0;
            for other in 0..self.comm.size() as usize {
                let (buffers, after) = rest.split_at_mut(self.share(self.shards, other).len());
                rest = after;
                for buffer in buffers {
                    if other != self.rank() {
                        buffer.resize(own, 0.0);
                        let from = self.comm.process_at_rank(other as i32);
                        requests.push(from.immediate_receive_into_with_tag(scope, &mut buffer[..], shard));
                    }
                    shard += 1;
                }
            }
            let first = self.share(self.shards, self.rank()).start as i32;
            for other in self.others() {
                let to = self.comm.process_at_rank(other as i32);
                let pieces = parts.iter().map(|part| &part[self.share(self.len, other)]);
                requests
                    .extend(pieces.zip(first..).map(|(piece, shard)| to.immediate_send_with_tag(scope, piece, shard)));
            }
            wait(requests);
        });
    }

    /// Adds the own piece over all shards in order, into the first part.
    fn add_up(&self, parts: &mut [Vec<f32>], memory: &mut Memory) {
        let own = self.share(self.len, self.rank());
        let first = self.share(self.shards, self.rank()).start;
        let Memory { received, total } = memory;
        for at in (0..own.len()).step_by(CACHED) {
            let here = at..own.len().min(at + CACHED);
            let piece = own.start + here.start..own.start + here.end;
            let of = |shard: usize| match shard.checked_sub(first).and_then(|at| parts.get(at)) {
                Some(part) => &part[piece.clone()],
                None => &received[shard][here.clone()],
            };
            total.clear();
            total.extend_from_slice(of(0));
            (1..self.shards).for_each(|shard| add_to(total, of(shard)));
            parts[0][piece].copy_from_slice(total);
        }
    }

    /// Sends the others the own piece of the sum, and receives theirs.
    fn exchange_pieces(&self, sum: &mut [f32]) {
        let mut pieces = vec![];
        let mut rest = sum;
        for rank in 0..self.comm.size() as usize {
            let (piece, after) = rest.split_at_mut(self.share(self.len, rank).len());
            rest = after;
            pieces.push(piece);
        }
        let own = pieces.remove(self.rank());
        request::scope(|scope| {
            let mut requests = vec![];
            for (other, piece) in self.others().zip(pieces) {
                let other = self.comm.process_at_rank(other as i32);
                requests.push(other.immediate_receive_into_with_tag(scope, piece, PIECE));
                requests.push(other.immediate_send_with_tag(scope, &*own, PIECE));
            }
            wait(requests);
        });
    }
}
