//! A budget that all threads share.

use std::sync::{Condvar, Mutex, PoisonError};

/// So much of something, memory say, at once: who asks for more than is left waits until others give back.
///
/// Whoever holds a share of one budget may wait for another, if all ask for the two in the same order.
pub struct Budget {
    /// Everything.
    pub all: u64,
    left: Mutex<u64>,
    returned: Condvar,
}

/// A part of a [`Budget`], given back when it is dropped.
pub struct Share<'a> {
    amount: u64,
    of: &'a Budget,
}

impl Budget {
    pub const fn new(all: u64) -> Budget {
        Budget { all, left: Mutex::new(all), returned: Condvar::new() }
    }

    /// Waits until `amount` is left, and takes it; everything, if it is more than that.
    pub fn take(&self, amount: u64) -> Share<'_> {
        let amount = amount.min(self.all);
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = self.returned.wait_while(left, |left| *left < amount);
        *enough.unwrap_or_else(PoisonError::into_inner) -= amount;
        Share { amount, of: self }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.of.left.lock().unwrap_or_else(PoisonError::into_inner) += self.amount;
        self.of.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn never_more_than_everything_is_taken_at_once() {
        let budget = Budget::new(10);
        let (taken, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (budget, taken, most) = (&budget, &taken, &most);
                scope.spawn(move || {
                    for turn in 0..20 {
                        let amount = 1 + (thread * 7 + turn * 3) % 10;
                        let share = budget.take(amount);
                        most.fetch_max(taken.fetch_add(amount, Ordering::SeqCst) + amount, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_micros(50));
                        taken.fetch_sub(amount, Ordering::SeqCst);
                        drop(share);
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!((1..=10).contains(&most), "{most} of 10");
        // What was taken is given back; who asks for more than there is gets everything.
        assert_eq!(budget.take(11).amount, 10);
        assert_eq!(budget.take(10).amount, 10);
    }
}
