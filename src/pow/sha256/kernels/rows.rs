//! Between rows (one message or state per lane, as it lies in memory) and columns (one word of
//! all lanes, as the rounds want it). 8 × 8 words in ymm; the 16 lanes of zmm are two of these.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use crate::sha256::Hash256;

/// Turns rows into columns, and columns into rows.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = [
        _mm256_unpacklo_epi32(a, b),
        _mm256_unpackhi_epi32(a, b),
        _mm256_unpacklo_epi32(c, d),
        _mm256_unpackhi_epi32(c, d),
        _mm256_unpacklo_epi32(e, f),
        _mm256_unpackhi_epi32(e, f),
        _mm256_unpacklo_epi32(g, h),
        _mm256_unpackhi_epi32(g, h),
    ];
    let [a, b, c, d, e, f, g, h] = pairs;
    let first = [
        _mm256_unpacklo_epi64(a, c),
        _mm256_unpackhi_epi64(a, c),
        _mm256_unpacklo_epi64(b, d),
        _mm256_unpackhi_epi64(b, d),
    ];
    let second = [
        _mm256_unpacklo_epi64(e, g),
        _mm256_unpackhi_epi64(e, g),
        _mm256_unpacklo_epi64(f, h),
        _mm256_unpackhi_epi64(f, h),
    ];
    [
        _mm256_permute2x128_si256::<0x20>(first[0], second[0]),
        _mm256_permute2x128_si256::<0x20>(first[1], second[1]),
        _mm256_permute2x128_si256::<0x20>(first[2], second[2]),
        _mm256_permute2x128_si256::<0x20>(first[3], second[3]),
        _mm256_permute2x128_si256::<0x31>(first[0], second[0]),
        _mm256_permute2x128_si256::<0x31>(first[1], second[1]),
        _mm256_permute2x128_si256::<0x31>(first[2], second[2]),
        _mm256_permute2x128_si256::<0x31>(first[3], second[3]),
    ]
}

/// Eight lanes' words as columns.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn columns(rows: &[&[u32; 8]]) -> [__m256i; 8] {
    assert_eq!(rows.len(), 8);
    let mut loaded = [_mm256_setzero_si256(); 8];
    for (to, row) in loaded.iter_mut().zip(rows) {
        // SAFETY: the reference covers the 32 bytes; the load takes any alignment.
        *to = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
    }
    transpose(loaded)
}

/// Eight lanes' blocks as the columns of the message's sixteen words.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn blocks(rows: &[&[u8; 64]]) -> [__m256i; 16] {
    assert_eq!(rows.len(), 8);
    let (mut low, mut high) = ([_mm256_setzero_si256(); 8], [_mm256_setzero_si256(); 8]);
    for ((low, high), row) in low.iter_mut().zip(high.iter_mut()).zip(rows) {
        let at: *const __m256i = row.as_ptr().cast();
        // SAFETY: the reference covers 64 bytes, two loads; they take any alignment.
        unsafe {
            *low = swap(_mm256_loadu_si256(at));
            *high = swap(_mm256_loadu_si256(at.add(1)));
        }
    }
    let [a, b, c, d, e, f, g, h] = transpose(low);
    let [i, j, k, l, m, n, o, p] = transpose(high);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Eight lanes' digests from columns.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn digests(columns: [__m256i; 8], out: &mut [Hash256]) {
    assert_eq!(out.len(), 8);
    for (row, hash) in transpose(columns).into_iter().zip(out) {
        // SAFETY: the reference covers the 32 bytes; the store takes any alignment.
        unsafe { _mm256_storeu_si256(hash.0.as_mut_ptr().cast(), swap(row)) };
    }
}

/// Words between the machine's byte order and SHA-256's.
#[inline]
#[target_feature(enable = "avx2")]
fn swap(words: __m256i) -> __m256i {
    let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order))
}
