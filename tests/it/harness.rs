//! The harness keeps its own promises: isolation, clean-up, real parts.

mod cluster;
mod database;
mod parts;
