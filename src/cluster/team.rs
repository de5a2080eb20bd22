//! A team of MPI ranks. MPI's own reductions may add in any order, so ranks only send here: what is received is added in the
//! order of shards.

use std::fmt;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use mpi::datatype::{Equivalence, Partition, PartitionMut};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use crate::engine::Team;
use crate::engine::shards::add;

/// The team of all ranks, for batches in `shards` shards. Every rank makes it at the same time.
///
/// Two threads talk to the others, each by a communicator of its own: one at once, for what the pass waits for; one adds up gradients
/// while the backward pass goes on.
pub fn team_of_ranks(shards: usize) -> Box<dyn Team> {
    let world = SimpleCommunicator::world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    // One after the other: each makes its communicator with all ranks.
    let talk = Line::open(|(values, lens): (Values, Vec<usize>), comm| match values {
        Values::Single(mut values) => {
            complete(comm, &mut values, &lens);
            (Values::Single(values), lens)
        }
        Values::Double(mut values) => {
            complete(comm, &mut values, &lens);
            (Values::Double(values), lens)
        }
    });
    let mut received = vec![];
    let sums = Line::open(move |mut parts: Vec<Vec<f32>>, comm| {
        sum(comm, shards, &mut parts, &mut received);
        parts
    });
    Box::new(Ranks { rank, size, talk, sums })
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
    to: Sender<T>,
    back: Receiver<T>,
}

impl<T: Send + 'static> Line<T> {
    fn open(answer: impl FnMut(T, &SimpleCommunicator) -> T + Send + 'static) -> Line<T> {
        let ((to, work), (answers, back), (ready, is_ready)) = (channel::<T>(), channel(), channel());
        let mut answer = answer;
        thread::spawn(move || {
            let comm = SimpleCommunicator::world().duplicate();
            let _ = ready.send(());
            for value in work {
                // Whoever asked may be gone.
                let _ = answers.send(answer(value, &comm));
            }
        });
        is_ready.recv().expect("a communicator");
        Line { to, back }
    }

    fn send(&self, value: T) {
        self.to.send(value).expect("a thread that waits");
    }

    fn receive(&self) -> T {
        self.back.recv().expect("a thread that answers")
    }
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
    comm.all_gather_varcount_into(&own[..], &mut PartitionMut::new(values, lens, starts));
}

/// `parts` of the own shards: the first becomes the sum over all ranks' shards in order. Each rank adds up one piece of the array, and
/// gets the other pieces from the others: it sends and receives no more than its own shards and the sum.
fn sum(comm: &SimpleCommunicator, shards: usize, parts: &mut [Vec<f32>], received: &mut Vec<Vec<f32>>) {
    let (rank, size, len) = (comm.rank() as usize, comm.size() as usize, parts[0].len());
    let share = |n: usize, rank: usize| -> Range<usize> { n * rank / size..n * (rank + 1) / size };
    let lens: Vec<i32> = (0..size).map(|rank| share(len, rank).len() as i32).collect();
    let of_rank = |rank: usize| share(shards, rank).len();
    let most = (0..size).map(of_rank).max().unwrap_or(0);
    received.resize_with(most, Vec::new);
    let from: Vec<Vec<i32>> =
        (0..most).map(|at| (0..size).map(|other| if at < of_rank(other) { lens[rank] } else { 0 }).collect()).collect();
    for (at, (received, from)) in received.iter_mut().zip(&from).enumerate() {
        received.resize(from.iter().sum::<i32>() as usize, 0.0);
        let to = if at < parts.len() { lens.clone() } else { vec![0; size] };
        let sent = Partition::new(parts.get(at).map_or(&[][..], Vec::as_slice), &to[..], starts(&to));
        comm.all_to_all_varcount_into(&sent, &mut PartitionMut::new(&mut received[..], &from[..], starts(from)));
    }
    let total = &mut parts[0][share(len, rank)];
    for other in 0..size {
        for (at, received) in received.iter().enumerate().take(of_rank(other)) {
            let piece = &received[starts(&from[at])[other] as usize..][..total.len()];
            match (other, at) {
                (0, 0) => total.copy_from_slice(piece),
                _ => add(total, piece),
            }
        }
    }
    let lens: Vec<usize> = lens.into_iter().map(|len| len as usize).collect();
    complete(comm, &mut parts[0], &lens);
}
