//! Hashing for any processor, one message at a time, by two crates that others test.
//!
//! `ring` hashes whole messages only, but is the fastest where SHA-NI is missing. `sha2` gives
//! its compression function, so midstates work; it is the reference of the property tests.
//! Both use what special instructions they find: they are portable, not slow on purpose.

use ring::digest::{Context, SHA256, digest};
use sha2::block_api::compress256;

use crate::header::HeaderStart;
use crate::sha256::Hash256;
use crate::sha256::words::{IV, bytes, pad, words};
use crate::share::{Share, Work};

/// Double SHA-256 of any bytes, by ring.
pub(crate) fn ring_sha256d(message: &[u8]) -> Hash256 {
    finish(digest(&SHA256, message).as_ref())
}

/// The header hash of a share, by ring: whole messages, no midstate.
pub(crate) fn ring_share(work: &Work, share: &Share) -> Hash256 {
    let (first, second) = work.coinbase_halves();
    let mut context = Context::new(&SHA256);
    context.update(first);
    context.update(share.extranonce.as_slice());
    context.update(second);
    let txid = finish(context.finish().as_ref());
    let root = work.path().iter().fold(txid, |left, right| {
        let mut context = Context::new(&SHA256);
        context.update(&left.0);
        context.update(&right.0);
        finish(context.finish().as_ref())
    });
    ring_sha256d(&work.header_over(root, share).to_bytes())
}

fn finish(first: &[u8]) -> Hash256 {
    let mut hash = Hash256::ZERO;
    hash.0.copy_from_slice(digest(&SHA256, first).as_ref());
    hash
}

/// Double SHA-256 of any bytes, by sha2.
pub(crate) fn scalar_sha256d(message: &[u8]) -> Hash256 {
    scalar_finish(IV, message, message.len())
}

/// The header hash of a share, by sha2, from the work's midstate.
pub(crate) fn scalar_share(work: &Work, share: &Share) -> Hash256 {
    let shape = work.shape();
    let mut state = *work.midstate();
    compress256(&mut state, &work.rolled_blocks(share)[..shape.rolled]);
    for place in 0..shape.fixed {
        compress256(&mut state, &[*work.fixed_block(place)]);
    }
    let txid = Hash256(bytes(&scalar_second(state)));
    let mut root = words(&txid.0);
    for level in 0..shape.depth {
        root = scalar_node(root, work.path_words(level));
    }
    let header = work.header_over(Hash256(bytes(&root)), share).to_bytes();
    scalar_sha256d(&header)
}

/// The hash of a header with this nonce, by sha2, from the header's midstate.
pub(crate) fn scalar_nonce(start: &HeaderStart, nonce: u32) -> Hash256 {
    scalar_finish(start.midstate, &start.with(nonce)[64..], 80)
}

fn scalar_node(left: [u32; 8], right: &[u32; 8]) -> [u32; 8] {
    let mut block = [0; 64];
    block[..32].copy_from_slice(&bytes(&left));
    block[32..].copy_from_slice(&bytes(right));
    let (padding, _) = pad(&[], 64);
    let mut state = IV;
    compress256(&mut state, &[block, padding[0]]);
    scalar_second(state)
}

fn scalar_second(first: [u32; 8]) -> [u32; 8] {
    let (blocks, used) = pad(&bytes(&first), 32);
    let mut state = IV;
    compress256(&mut state, &blocks[..used]);
    state
}

/// Ends a message of `length` bytes of which all but `rest` went into the state.
fn scalar_finish(mut state: [u32; 8], rest: &[u8], length: usize) -> Hash256 {
    let (whole, rest) = rest.as_chunks::<64>();
    let (tail, used) = pad(rest, length);
    compress256(&mut state, whole);
    compress256(&mut state, &tail[..used]);
    Hash256(bytes(&scalar_second(state)))
}

/// The state after whole blocks, for a job's midstate.
pub(crate) fn midstate(blocks: &[[u8; 64]]) -> [u32; 8] {
    let mut state = IV;
    compress256(&mut state, blocks);
    state
}
