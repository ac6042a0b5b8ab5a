//! Eight messages in the ymm registers with AVX2 alone: for processors without SHA-NI.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use super::lanes::{eight_rounds, lanes};
use super::rows;
use crate::header::HeaderStart;
use crate::sha256::Hash256;
use crate::sha256::words::{END, IV, K, NODE_PADDING, Schedule};
use crate::share::{Share, Work};

/// Messages side by side.
pub(crate) const LANES: usize = 8;
type V = __m256i;

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u32) -> V {
    _mm256_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: V, b: V) -> V {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(a: V, b: V, c: V) -> V {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn ch(e: V, f: V, g: V) -> V {
    _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn maj(a: V, b: V, c: V) -> V {
    _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const BITS: i32>(a: V) -> V {
    // An expression with a parameter cannot be an immediate here; the compiler makes it one.
    let right = _mm256_srli_epi32::<BITS>(a);
    let left = _mm256_sll_epi32(a, _mm_cvtsi32_si128(32 - BITS));
    _mm256_or_si256(right, left)
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift<const BITS: i32>(a: V) -> V {
    _mm256_srli_epi32::<BITS>(a)
}

/// One number per lane.
#[inline]
#[target_feature(enable = "avx2")]
fn numbers(numbers: &[u32; LANES]) -> V {
    // SAFETY: the reference covers the 32 bytes; the load takes any alignment.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn columns(rows: &[&[u32; 8]; LANES]) -> [V; 8] {
    rows::columns(rows)
}

#[inline]
#[target_feature(enable = "avx2")]
fn blocks(rows: &[&[u8; 64]; LANES]) -> [V; 16] {
    rows::blocks(rows)
}

#[inline]
#[target_feature(enable = "avx2")]
fn digests(columns: [V; 8], out: &mut [Hash256; LANES]) {
    rows::digests(columns, out);
}

lanes!("avx2");
