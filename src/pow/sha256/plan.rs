//! Which kernel for how many messages at hand: tables made from measurements.
//!
//! ns per share (depth 12, coinbase of 167 bytes: 42 compressions), when the batch has n:
//!
//! MEASURED
//!
//! A share is never held back to fill lanes: the number at hand is what this turn brought.

use super::cpu::Features;

/// Hashes one message at a time, and messages of any length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lone {
    #[cfg(target_arch = "x86_64")]
    ShaNi,
    Ring,
    Scalar,
    #[cfg(feature = "stub-hash")]
    Stub,
}

/// How a batch, or what is left of it, is hashed next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Path {
    /// One by one, as the plan's [`Lone`] says.
    Lone,
    #[cfg(target_arch = "x86_64")]
    ShaNiX2,
    #[cfg(target_arch = "x86_64")]
    Avx2X8,
    #[cfg(target_arch = "x86_64")]
    Avx512VlX8,
    #[cfg(target_arch = "x86_64")]
    Avx512X16,
}

impl Path {
    /// Messages that it hashes side by side.
    pub(super) const fn lanes(self) -> usize {
        match self {
            Path::Lone => 1,
            #[cfg(target_arch = "x86_64")]
            Path::ShaNiX2 => 2,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2X8 | Path::Avx512VlX8 => 8,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512X16 => 16,
        }
    }
}

/// A kernel's whole table.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// For logs, metrics and the override.
    pub(super) name: &'static str,
    /// What the processor must have.
    pub(super) needs: Features,
    pub(super) lone: Lone,
    /// (at least this many at hand, then this path); falling, the last row for one.
    pub(super) rows: &'static [(usize, Path)],
}

impl Plan {
    /// The path for this many at hand; what it leaves over is looked up again.
    pub(super) fn path(&self, at_hand: usize) -> Path {
        assert!(at_hand > 0, "nothing at hand needs no path");
        let row = self.rows.iter().find(|(least, _)| at_hand >= *least);
        row.expect("the last row is for one").1
    }
}

const ONE_BY_ONE: &[(usize, Path)] = &[(1, Path::Lone)];

/// Where the processor has none of what the others need.
pub(super) static RING: Plan =
    Plan { name: "ring", needs: Features::NONE, lone: Lone::Ring, rows: ONE_BY_ONE };

static SCALAR: Plan =
    Plan { name: "scalar", needs: Features::NONE, lone: Lone::Scalar, rows: ONE_BY_ONE };

#[cfg(feature = "stub-hash")]
pub(super) static STUB: Plan =
    Plan { name: "stub", needs: Features::NONE, lone: Lone::Stub, rows: ONE_BY_ONE };

/// All plans, the better before the worse: the first that the processor can run is its own.
#[cfg(not(target_arch = "x86_64"))]
pub(super) static PLANS: &[&Plan] = &[&RING, &SCALAR];

/// All plans, the better before the worse: the first that the processor can run is its own.
#[cfg(target_arch = "x86_64")]
pub(super) static PLANS: &[&Plan] = &[
    &x86::SHA_NI_AVX512_AMD,
    &x86::SHA_NI_AVX512,
    &x86::SHA_NI,
    &x86::AVX512_RING,
    &x86::AVX2_RING,
    &RING,
    &SCALAR,
    &x86::SHA_NI_X1,
    &x86::AVX512,
    &x86::AVX512VL,
    &x86::AVX2,
];

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Features, Lone, ONE_BY_ONE, Path, Plan};

    pub(super) static SHA_NI_AVX512_AMD: Plan = Plan {
        name: "sha-ni+avx512-amd",
        needs: Features::SHA_NI.and(Features::AVX512).and(Features::AMD),
        lone: Lone::ShaNi,
        rows: &[(13, Path::Avx512X16), (2, Path::ShaNiX2), (1, Path::Lone)],
    };

    pub(super) static SHA_NI_AVX512: Plan = Plan {
        name: "sha-ni+avx512",
        needs: Features::SHA_NI.and(Features::AVX512),
        lone: Lone::ShaNi,
        rows: &[(9, Path::Avx512X16), (6, Path::Avx512VlX8), (2, Path::ShaNiX2), (1, Path::Lone)],
    };

    /// AVX2 loses to SHA-NI at any number.
    pub(super) static SHA_NI: Plan = Plan {
        name: "sha-ni",
        needs: Features::SHA_NI,
        lone: Lone::ShaNi,
        rows: &[(2, Path::ShaNiX2), (1, Path::Lone)],
    };

    pub(super) static AVX512_RING: Plan = Plan {
        name: "avx512+ring",
        needs: Features::AVX512,
        lone: Lone::Ring,
        rows: &[(9, Path::Avx512X16), (2, Path::Avx512VlX8), (1, Path::Lone)],
    };

    pub(super) static AVX2_RING: Plan = Plan {
        name: "avx2+ring",
        needs: Features::AVX2,
        lone: Lone::Ring,
        rows: &[(2, Path::Avx2X8), (1, Path::Lone)],
    };

    // For overrides only, so that each kernel is run and measured alone.

    pub(super) static SHA_NI_X1: Plan =
        Plan { name: "sha-ni-x1", needs: Features::SHA_NI, lone: Lone::ShaNi, rows: ONE_BY_ONE };

    pub(super) static AVX512: Plan = Plan {
        name: "avx512",
        needs: Features::AVX512,
        lone: Lone::Ring,
        rows: &[(1, Path::Avx512X16)],
    };

    pub(super) static AVX512VL: Plan = Plan {
        name: "avx512vl",
        needs: Features::AVX512,
        lone: Lone::Ring,
        rows: &[(1, Path::Avx512VlX8)],
    };

    pub(super) static AVX2: Plan =
        Plan { name: "avx2", needs: Features::AVX2, lone: Lone::Ring, rows: &[(1, Path::Avx2X8)] };
}
