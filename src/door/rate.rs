//! How many updates a client may send in a second.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock,
    domain::rate::{Paid, PerSecond},
};

/// A limit of updates a second, and what has been taken of it.
#[derive(Debug)]
pub struct Rate {
    per_second: PerSecond,
    paid: Mutex<Paid>,
}

impl Rate {
    /// So many updates a second; `None` for 0, which is as many as anybody likes.
    pub fn new(per_second: u32) -> Option<Self> {
        let per_second = PerSecond::new(per_second)?;
        Some(Self { per_second, paid: Mutex::default() })
    }

    /// The limit.
    pub fn per_second(&self) -> u32 {
        self.per_second.get()
    }

    /// Takes one update, or says when there will be room for the next.
    pub fn take(&self) -> Result<(), Duration> {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = self.per_second.take(*paid, clock::now().instant)?;
        Ok(())
    }
}
