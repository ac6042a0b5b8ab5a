//! Eight messages in the ymm registers, with AVX-512's rotations and three-input logic.
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
#[target_feature(enable = "avx512vl,avx512f")]
fn splat(word: u32) -> V {
    _mm256_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f")]
fn add(a: V, b: V) -> V {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f")]
fn xor3(a: V, b: V, c: V) -> V {
    _mm256_ternarylogic_epi32::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f")]
fn ch(e: V, f: V, g: V) -> V {
    _mm256_ternarylogic_epi32::<0xca>(e, f, g)
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f")]
fn maj(a: V, b: V, c: V) -> V {
    _mm256_ternarylogic_epi32::<0xe8>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f")]
fn rotate<const BITS: i32>(a: V) -> V {
    _mm256_ror_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f")]
fn shift<const BITS: i32>(a: V) -> V {
    _mm256_srli_epi32::<BITS>(a)
}

/// One number per lane.
#[inline]
#[target_feature(enable = "avx512vl,avx512f")]
fn numbers(numbers: &[u32; LANES]) -> V {
    // SAFETY: the reference covers the 32 bytes; the load takes any alignment.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f,avx2")]
fn columns(rows: &[&[u32; 8]; LANES]) -> [V; 8] {
    rows::columns(rows)
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f,avx2")]
fn blocks(rows: &[&[u8; 64]; LANES]) -> [V; 16] {
    rows::blocks(rows)
}

#[inline]
#[target_feature(enable = "avx512vl,avx512f,avx2")]
fn digests(columns: [V; 8], out: &mut [Hash256; LANES]) {
    rows::digests(columns, out);
}

lanes!("avx512f,avx512bw,avx512vl,avx2");
