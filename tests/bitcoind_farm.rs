//! `headframe run` on real bitcoinds, with CPU miners that hash for real: its blocks are accepted
//! and pay whom they should, none is lost to a crash, and nobody is dropped whatever the node does.
//!
//! `HEADFRAME_RUNS` says how many kills of each kind blocks are to survive.

mod support;

#[path = "bitcoind_farm/crowd.rs"]
mod crowd;
#[path = "support/disk.rs"]
mod disk;
#[path = "bitcoind_farm/farm.rs"]
mod farm;
#[path = "bitcoind_farm/kills.rs"]
mod kills;
#[path = "bitcoind_farm/outages.rs"]
mod outages;
#[path = "bitcoind_farm/payouts.rs"]
mod payouts;
#[path = "bitcoind_farm/proxy.rs"]
mod proxy;
