//! miner: under construction.
