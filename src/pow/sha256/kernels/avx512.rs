//! Sixteen messages in the zmm registers: for bursts, storms and merkle roots by the thousand.
//! Three-input logic and rotations are single instructions here.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use super::lanes::{eight_rounds, lanes};
use super::rows;
use crate::header::HeaderStart;
use crate::sha256::Hash256;
use crate::sha256::words::{END, IV, K, NODE_PADDING, Schedule};
use crate::share::{Share, Work};

/// Messages side by side.
pub(crate) const LANES: usize = 16;
type V = __m512i;

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> V {
    _mm512_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: V, b: V) -> V {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi32::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn ch(e: V, f: V, g: V) -> V {
    _mm512_ternarylogic_epi32::<0xca>(e, f, g)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn maj(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi32::<0xe8>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotate<const BITS: i32>(a: V) -> V {
    _mm512_ror_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shift<const BITS: u32>(a: V) -> V {
    _mm512_srli_epi32::<BITS>(a)
}

/// One number per lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn numbers(numbers: &[u32; LANES]) -> V {
    // SAFETY: the reference covers the 64 bytes; the load takes any alignment.
    unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn join(low: __m256i, high: __m256i) -> V {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn columns(rows: &[&[u32; 8]; LANES]) -> [V; 8] {
    let (low, high) = (rows::columns(&rows[..8]), rows::columns(&rows[8..]));
    let mut columns = [splat(0); 8];
    for (place, column) in columns.iter_mut().enumerate() {
        *column = join(low[place], high[place]);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn blocks(rows: &[&[u8; 64]; LANES]) -> [V; 16] {
    let (low, high) = (rows::blocks(&rows[..8]), rows::blocks(&rows[8..]));
    let mut columns = [splat(0); 16];
    for (place, column) in columns.iter_mut().enumerate() {
        *column = join(low[place], high[place]);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn digests(columns: [V; 8], out: &mut [Hash256; LANES]) {
    let (mut low, mut high) = ([_mm256_setzero_si256(); 8], [_mm256_setzero_si256(); 8]);
    for (place, column) in columns.into_iter().enumerate() {
        low[place] = _mm512_castsi512_si256(column);
        high[place] = _mm512_extracti64x4_epi64::<1>(column);
    }
    rows::digests(low, &mut out[..8]);
    rows::digests(high, &mut out[8..]);
}

lanes!("avx512f,avx512bw,avx512vl,avx2");
