//! What this processor *and* its operating system can do, asked once. The standard library's own
//! detection needs std, which this crate may not name.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

/// A set of what kernels need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features(u32);

impl Features {
    pub(crate) const NONE: Features = Features(0);
    /// SHA-NI with the SSSE3 and SSE4.1 that its shuffles take.
    pub(crate) const SHA_NI: Features = Features(1);
    /// AVX2, with the upper halves of ymm saved by the system.
    pub(crate) const AVX2: Features = Features(1 << 1);
    /// AVX-512 F, BW and VL, with zmm and the mask registers saved by the system.
    pub(crate) const AVX512: Features = Features(1 << 2);
    /// An AMD processor: its best choice by number at hand is another (see `plan`).
    pub(crate) const AMD: Features = Features(1 << 3);
    /// Set in the cache once the processor was asked.
    const ASKED: u32 = 1 << 31;

    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn and(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    pub(crate) const fn has(self, needed: Features) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// The features of this machine. Asking traps into the hypervisor on virtual machines, so
    /// the answer is kept; two threads that ask at once store the same.
    pub(crate) fn detected() -> Features {
        static KNOWN: AtomicU32 = AtomicU32::new(0);
        let known = KNOWN.load(Ordering::Relaxed);
        if known & Features::ASKED != 0 {
            return Features(known & !Features::ASKED);
        }
        let asked = ask();
        KNOWN.store(asked.0 | Features::ASKED, Ordering::Relaxed);
        asked
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Features")
            .field("sha_ni", &self.has(Features::SHA_NI))
            .field("avx2", &self.has(Features::AVX2))
            .field("avx512", &self.has(Features::AVX512))
            .field("amd", &self.has(Features::AMD))
            .finish()
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn ask() -> Features {
    Features::NONE
}

/// Reads CPUID as the manuals ask: a feature counts only if OSXSAVE says that XGETBV may be
/// read, and XGETBV that the system saves the registers (Intel SDM 1, 14.3 and 15.2).
#[cfg(target_arch = "x86_64")]
fn ask() -> Features {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    const YMM_SAVED: u64 = 0b110;
    const ZMM_SAVED: u64 = 0b1110_0110;
    let bit = |register: u32, place: u32| register >> place & 1 == 1;

    let leaf_0 = __cpuid(0);
    if leaf_0.eax < 7 {
        return Features::NONE;
    }
    let leaf_1 = __cpuid(1);
    let leaf_7 = __cpuid_count(7, 0);
    let saved = if bit(leaf_1.ecx, 27) { saved_registers() } else { 0 };
    let ymm = saved & YMM_SAVED == YMM_SAVED && bit(leaf_1.ecx, 28);
    let zmm = saved & ZMM_SAVED == ZMM_SAVED;
    let avx2 = ymm && bit(leaf_7.ebx, 5);

    let mut features = Features::NONE;
    if bit(leaf_7.ebx, 29) && bit(leaf_1.ecx, 9) && bit(leaf_1.ecx, 19) {
        features = features.and(Features::SHA_NI);
    }
    if avx2 {
        features = features.and(Features::AVX2);
    }
    let (f, bw, vl) = (bit(leaf_7.ebx, 16), bit(leaf_7.ebx, 30), bit(leaf_7.ebx, 31));
    if avx2 && zmm && f && bw && vl {
        features = features.and(Features::AVX512);
    }
    if [leaf_0.ebx, leaf_0.edx, leaf_0.ecx].map(u32::to_le_bytes) == [*b"Auth", *b"enti", *b"cAMD"]
    {
        features = features.and(Features::AMD);
    }
    features
}

/// XCR0: which registers the system saves on a switch.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn saved_registers() -> u64 {
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 exists wherever OSXSAVE is set, which the only caller checked.
        unsafe { core::arch::x86_64::_xgetbv(0) }
    }
    // SAFETY: OSXSAVE, which `ask` tested, implies XSAVE.
    unsafe { xcr0() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn detection_agrees_with_the_standard_library() {
        let found = Features::detected();
        let sha_ni = std::is_x86_feature_detected!("sha")
            && std::is_x86_feature_detected!("ssse3")
            && std::is_x86_feature_detected!("sse4.1");
        let avx512 = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vl");
        assert_eq!(found.has(Features::SHA_NI), sha_ni);
        assert_eq!(found.has(Features::AVX2), std::is_x86_feature_detected!("avx2"));
        assert_eq!(found.has(Features::AVX512), avx512);
    }

    #[test]
    fn the_kept_answer_is_the_first_one() {
        assert_eq!(Features::detected(), Features::detected());
        assert_eq!(Features::detected(), ask());
    }
}
