//! Not SHA-256. A cheap mix of the same inputs, so that instruction counters see what lies
//! around the hashing: they run under an emulator that lacks the real kernels' instructions.
//! Behind the feature `stub-hash`, which no product build enables.

use crate::sha256::Hash256;
use crate::share::{Share, Work};

/// A mix of any bytes.
pub(crate) fn sha256d(message: &[u8]) -> Hash256 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ message.len() as u64;
    for bytes in message.chunks(8) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        state = mix(state ^ u64::from_le_bytes(word));
    }
    spread(state)
}

/// A mix of all that a share's hash depends on in its own right, and of the tip.
pub(crate) fn share(work: &Work, share: &Share) -> Hash256 {
    let extranonce = share.extranonce.as_slice();
    let mut state = u64::from(work.prev_hash().0[0]) << 32 | u64::from(share.version);
    for bytes in extranonce.chunks(8) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        state = mix(state ^ u64::from_le_bytes(word));
    }
    spread(mix(state ^ (u64::from(share.ntime) << 32 | u64::from(share.nonce))))
}

fn spread(mut state: u64) -> Hash256 {
    let mut hash = Hash256::ZERO;
    for bytes in hash.0.chunks_exact_mut(8) {
        state = mix(state);
        bytes.copy_from_slice(&state.to_le_bytes());
    }
    hash
}

/// splitmix64's finalizer: every input bit reaches every output bit.
fn mix(state: u64) -> u64 {
    let state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}
