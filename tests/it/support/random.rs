//! Chance that can be repeated: a failure names its seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// A generator of numbers (xorshift), good enough to choose test cases by.
#[derive(Debug)]
pub(crate) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// Seeded by the clock, or by `PGVIGIL_SEED` to repeat a failure.
    pub(crate) fn new() -> Self {
        let asked = std::env::var_os("PGVIGIL_SEED");
        let seed = asked.map_or_else(clock, |seed| {
            let seed = seed.to_string_lossy();
            seed.parse().expect("reading a seed")
        });
        Self {
            seed,
            state: seed | 1,
        }
    }

    /// What repeats this run.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// A number from 0 to less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 33).expect("narrowing 31 bits") % limit
    }

    /// One of several.
    pub(crate) fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| u64::from(now.subsec_nanos()) << 20 | now.as_secs())
}
