//! Bitcoin proof-of-work arithmetic: bytes in, hashes and verdict numbers out.
//!
//! Read in this order: [`share`] (what a shard does with a share, and where the hashing goes),
//! `sha256` (the [`Kernel`]s behind it), [`target`] (when a hash is enough), then [`template`],
//! [`coinbase`], [`merkle`] and [`header`] (what a share is hashed over), and [`block`].
//!
//! Deliberately absent: sockets, clocks, randomness, policy. Nothing here decides what a share
//! is worth or whether it came in time. `unsafe` stands in `sha256/` alone, around the
//! processor's own instructions. Everything but the making of jobs is free of allocation.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod block;
pub mod coinbase;
pub mod header;
pub mod merkle;
mod sha256;
pub mod share;
pub mod target;
pub mod template;

pub use block::{assemble_block, full_coinbase};
pub use coinbase::{Coinbase, CoinbaseError, CoinbaseParts, bip34_push};
pub use header::Header;
pub use merkle::{merkle_path, merkle_root};
pub use sha256::{Hash256, Kernel, KernelError};
pub use share::{Extranonce, Share, Work, WorkError, WorkParts};
pub use target::{Difficulty, Target};
pub use template::Template;
