//! SHA-256's constants and the little arithmetic that all kernels share (FIPS 180-4).
//! Everything here is in words: bytes read big-endian.

/// The initial state (FIPS 180-4, 5.3.3).
pub(crate) const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// One word per round, aligned for the widest load.
#[cfg(target_arch = "x86_64")]
#[repr(C, align(64))]
#[derive(Clone, Debug)]
pub(crate) struct Schedule(pub(crate) [u32; 64]);

/// The round constants (FIPS 180-4, 4.2.2).
#[cfg(target_arch = "x86_64")]
pub(crate) static K: Schedule = Schedule(ROUND_CONSTANTS);

#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ROUND_CONSTANTS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The bit that ends a message, as the first word behind it.
#[cfg(target_arch = "x86_64")]
pub(crate) const END: u32 = 0x8000_0000;

/// The second block of every 64-byte message, ready for the rounds: two thirds of all hashing
/// is merkle nodes, and this block never changes.
#[cfg(target_arch = "x86_64")]
pub(crate) static NODE_PADDING: Schedule =
    schedule([END, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 512]);

/// A block's message schedule with the round constants added (FIPS 180-4, 6.2.2).
#[cfg(target_arch = "x86_64")]
pub(crate) const fn schedule(block: [u32; 16]) -> Schedule {
    let mut w = [0_u32; 64];
    let mut t = 0;
    while t < 64 {
        w[t] = if t < 16 {
            block[t]
        } else {
            let a = w[t - 15];
            let b = w[t - 2];
            let small_0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let small_1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w[t - 16].wrapping_add(small_0).wrapping_add(w[t - 7]).wrapping_add(small_1)
        };
        t += 1;
    }
    let mut t = 0;
    while t < 64 {
        w[t] = w[t].wrapping_add(ROUND_CONSTANTS[t]);
        t += 1;
    }
    Schedule(w)
}

/// Bytes as words.
pub(crate) fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    assert_eq!(bytes.len(), 4 * N, "four bytes per word");
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    words
}

/// A state as the digest's bytes.
pub(crate) fn bytes(words: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// The last block or two of a message of `length` bytes, given what is left behind its whole
/// blocks. Returns how many of the two are used.
pub(crate) fn pad(rest: &[u8], length: usize) -> ([[u8; 64]; 2], usize) {
    assert!(rest.len() < 64, "whole blocks come first");
    let mut blocks = [[0; 64]; 2];
    let used = if rest.len() < 56 { 1 } else { 2 };
    blocks[0][..rest.len()].copy_from_slice(rest);
    blocks[0][rest.len()] = 0x80;
    blocks[used - 1][56..].copy_from_slice(&(8 * length as u64).to_be_bytes());
    (blocks, used)
}
