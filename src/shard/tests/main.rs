//! Tests of the shard from outside, over a ring and a lane in memory.

mod accounts;
mod allocations;
mod behaviour;
mod doors;
mod limits;
mod remembering;
mod resuming;
mod world;
