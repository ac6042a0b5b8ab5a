//! The processor's own SHA-256 instructions, one message or two interleaved: the latency of one
//! chain hides behind the other.
//!
//! **This file must never be compiled with AVX.** The SHA instructions exist in the legacy
//! encoding only; among vector code in the VEX encoding each switch costs 70–85 ns, a hundred
//! times the round that it interrupts. So: plain `target_feature` functions without AVX, no
//! build for a native processor (refused below), and a test that disassembles what was built.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use crate::header::HeaderStart;
use crate::sha256::Hash256;
use crate::sha256::words::{END, IV, K, NODE_PADDING, Schedule, pad};
use crate::share::{Share, Work};

#[cfg(target_feature = "avx")]
compile_error!(
    "SHA-NI code compiled with AVX is a hundred times slower: build for the baseline processor \
     (no target-cpu=native); the kernels are chosen at run time"
);

/// A state as the instructions want it: the words ABEF and CDGH, first named in the high place.
#[derive(Clone, Copy)]
struct State(__m128i, __m128i);

/// Double SHA-256 of any bytes.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(crate) fn sha256d(message: &[u8]) -> Hash256 {
    let (whole, rest) = message.as_chunks::<64>();
    let (tail, used) = pad(rest, message.len());
    let mut state = [load(&IV)];
    for block in whole.iter().chain(&tail[..used]) {
        state = compress(state, [load_block(block)]);
    }
    let mut out = [Hash256::ZERO];
    store_digests(second(state), &mut out);
    out[0]
}

/// Double SHA-256 of `N` merkle nodes.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(crate) fn hash_nodes<const N: usize>(batch: &[&[u8; 64]; N], out: &mut [Hash256; N]) {
    let mut words = [[_mm_setzero_si128(); 4]; N];
    for (words, block) in words.iter_mut().zip(batch) {
        *words = load_block(block);
    }
    store_digests(node(words), out);
}

/// The header hashes of `N` shares. All works have the same shape.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(crate) fn hash_shares<const N: usize>(batch: &[&(&Work, Share); N], out: &mut [Hash256; N]) {
    let mut digest = coinbase(batch);
    for level in 0..batch[0].0.shape().depth {
        let mut words = [[_mm_setzero_si128(); 4]; N];
        for n in 0..N {
            let (low, high) = unpack(digest[n]);
            let sibling = batch[n].0.path_words(level);
            words[n] = [low, high, load_words(&sibling[..4]), load_words(&sibling[4..])];
        }
        digest = node(words);
    }
    store_digests(header(batch, digest), out);
}

/// The hashes of one header with `N` nonces.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(crate) fn hash_nonces<const N: usize>(
    batch: &[&(&HeaderStart, u32); N],
    out: &mut [Hash256; N],
) {
    let mut words = [[_mm_setzero_si128(); 4]; N];
    let start = batch[0].0;
    let [root, ntime, bits] = start.tail.map(|word| word as i32);
    for (words, (_, nonce)) in words.iter_mut().zip(batch) {
        *words = [
            _mm_set_epi32(nonce.swap_bytes() as i32, bits, ntime, root),
            _mm_set_epi32(0, 0, 0, END as i32),
            _mm_setzero_si128(),
            _mm_set_epi32(640, 0, 0, 0),
        ];
    }
    store_digests(second(compress([load(&start.midstate); N], words)), out);
}

/// The coinbases' txids.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn coinbase<const N: usize>(batch: &[&(&Work, Share); N]) -> [State; N] {
    let shape = batch[0].0.shape();
    let mut state = [load(&IV); N];
    let mut words = [[_mm_setzero_si128(); 4]; N];
    let mut rolled = [[[0; 64]; N]; 2];
    for n in 0..N {
        let (work, share) = batch[n];
        state[n] = load(work.midstate());
        [rolled[0][n], rolled[1][n]] = work.rolled_blocks(share);
    }
    for blocks in &rolled[..shape.rolled] {
        for (words, block) in words.iter_mut().zip(blocks) {
            *words = load_block(block);
        }
        state = compress(state, words);
    }
    for place in 0..shape.fixed {
        let mut schedules = [&NODE_PADDING; N];
        for n in 0..N {
            schedules[n] = batch[n].0.fixed_schedule(place);
        }
        state = compress_expanded(state, schedules);
    }
    second(state)
}

/// The headers' hashes.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn header<const N: usize>(batch: &[&(&Work, Share); N], root: [State; N]) -> [State; N] {
    let mut first = [[_mm_setzero_si128(); 4]; N];
    let mut tail = first;
    for n in 0..N {
        let (work, share) = batch[n];
        let prev = work.prev_words();
        let (low, high) = unpack(root[n]);
        // The header's words do not begin where the hashes' do: each register takes one word
        // from the end of what came before.
        let prev_low = load_words(&prev[..4]);
        let prev_high = load_words(&prev[4..]);
        let version = _mm_set1_epi32(share.version.swap_bytes() as i32);
        first[n] = [
            _mm_alignr_epi8(prev_low, version, 12),
            _mm_alignr_epi8(prev_high, prev_low, 12),
            _mm_alignr_epi8(low, prev_high, 12),
            _mm_alignr_epi8(high, low, 12),
        ];
        let numbers = _mm_set_epi32(
            0,
            share.nonce.swap_bytes() as i32,
            work.bits().swap_bytes() as i32,
            share.ntime.swap_bytes() as i32,
        );
        let root_last = _mm_shuffle_epi32(high, 0xff);
        tail[n] = [
            _mm_alignr_epi8(numbers, root_last, 12),
            _mm_set_epi32(0, 0, 0, END as i32),
            _mm_setzero_si128(),
            _mm_set_epi32(640, 0, 0, 0),
        ];
    }
    second(compress(compress([load(&IV); N], first), tail))
}

/// Double SHA-256 of 64 bytes, given as words.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn node<const N: usize>(words: [[__m128i; 4]; N]) -> [State; N] {
    second(compress_expanded(compress([load(&IV); N], words), [&NODE_PADDING; N]))
}

/// SHA-256 of a digest: the second half of every double hash.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn second<const N: usize>(digest: [State; N]) -> [State; N] {
    let end = _mm_set_epi32(0, 0, 0, END as i32);
    let length = _mm_set_epi32(256, 0, 0, 0);
    let mut words = [[_mm_setzero_si128(); 4]; N];
    for n in 0..N {
        let (low, high) = unpack(digest[n]);
        words[n] = [low, high, end, length];
    }
    compress([load(&IV); N], words)
}

/// The compression function over one block per message. Each step is four rounds; the message
/// schedule of the later ones is made on the way.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress<const N: usize>(state: [State; N], mut w: [[__m128i; 4]; N]) -> [State; N] {
    let mut s = state;
    macro_rules! four_rounds {
        ($($i:literal)*) => { $(
            let k = load_words(&K.0[4 * $i..][..4]);
            for n in 0..N {
                let wk = _mm_add_epi32(w[n][$i & 3], k);
                s[n] = rounds(s[n], wk);
                if $i >= 3 && $i < 15 {
                    let seven_back = _mm_alignr_epi8(w[n][$i & 3], w[n][($i + 3) & 3], 4);
                    let sum = _mm_add_epi32(w[n][($i + 1) & 3], seven_back);
                    w[n][($i + 1) & 3] = _mm_sha256msg2_epu32(sum, w[n][$i & 3]);
                }
                if $i >= 1 && $i < 13 {
                    w[n][($i + 3) & 3] = _mm_sha256msg1_epu32(w[n][($i + 3) & 3], w[n][$i & 3]);
                }
            }
        )* };
    }
    four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    sum(state, s)
}

/// The compression function over blocks that were expanded beforehand.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress_expanded<const N: usize>(state: [State; N], schedules: [&Schedule; N]) -> [State; N] {
    let mut s = state;
    macro_rules! four_rounds {
        ($($i:literal)*) => { $(
            for n in 0..N {
                s[n] = rounds(s[n], load_words(&schedules[n].0[4 * $i..][..4]));
            }
        )* };
    }
    four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    sum(state, s)
}

/// Four rounds.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn rounds(s: State, wk: __m128i) -> State {
    let cdgh = _mm_sha256rnds2_epu32(s.1, s.0, wk);
    let abef = _mm_sha256rnds2_epu32(s.0, cdgh, _mm_shuffle_epi32(wk, 0x0e));
    State(abef, cdgh)
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn sum<const N: usize>(mut state: [State; N], s: [State; N]) -> [State; N] {
    for (to, from) in state.iter_mut().zip(s) {
        *to = State(_mm_add_epi32(to.0, from.0), _mm_add_epi32(to.1, from.1));
    }
    state
}

/// From words in their natural order.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load(words: &[u32; 8]) -> State {
    let low = _mm_shuffle_epi32(load_words(&words[..4]), 0xb1);
    let high = _mm_shuffle_epi32(load_words(&words[4..]), 0x1b);
    State(_mm_alignr_epi8(low, high, 8), _mm_blend_epi16(high, low, 0xf0))
}

/// Back to the natural order: words 0..4 and 4..8.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn unpack(s: State) -> (__m128i, __m128i) {
    let low = _mm_shuffle_epi32(s.0, 0x1b);
    let high = _mm_shuffle_epi32(s.1, 0xb1);
    (_mm_blend_epi16(low, high, 0xf0), _mm_alignr_epi8(high, low, 8))
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load_words(words: &[u32]) -> __m128i {
    assert!(words.len() == 4);
    // SAFETY: the slice covers the 16 bytes; the load takes any alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load_block(block: &[u8; 64]) -> [__m128i; 4] {
    let mut words = [_mm_setzero_si128(); 4];
    for (words, bytes) in words.iter_mut().zip(block.as_chunks::<16>().0) {
        // SAFETY: the reference covers the 16 bytes; the load takes any alignment.
        *words = swap(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
    }
    words
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn store_digests<const N: usize>(digest: [State; N], out: &mut [Hash256; N]) {
    for (state, hash) in digest.into_iter().zip(out) {
        let (low, high) = unpack(state);
        let at: *mut __m128i = hash.0.as_mut_ptr().cast();
        // SAFETY: the reference covers 32 bytes, two stores; they take any alignment.
        unsafe {
            _mm_storeu_si128(at, swap(low));
            _mm_storeu_si128(at.add(1), swap(high));
        }
    }
}

/// Words between the machine's byte order and SHA-256's.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn swap(words: __m128i) -> __m128i {
    _mm_shuffle_epi8(words, _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
}
