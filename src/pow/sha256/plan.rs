//! Which kernel for how many messages at hand: tables made from measurements.
//!
//! Measured 2026-11-21, ns per share of 42 compressions (merkle path of 12, coinbase of 167
//! bytes), everything included, at this many at hand, of one job or of many:
//!
//! | AMD Zen 4 | 1 | 2 | 8 | 12 | 13 | 16 | floor: 42 × one in a tight loop |
//! |---|---|---|---|---|---|---|---|
//! | SHA-NI ×1 | **1,576** | | | | | | 34.9 = 1,466 |
//! | SHA-NI ×2 | | **1,005** | **1,020** | **1,020** | 1,046 | 1,015 | 25.2 = 1,058 |
//! | AVX-512 ×16 | 13,030 | 6,520 | 1,632 | 1,089 | **1,005** | **816** | 19.2 = 806 |
//! | AVX-512VL ×8 | 8,500 | 4,249 | 1,063 | 1,418 | 1,308 | 1,063 | 25.1 = 1,054 |
//! | AVX2 ×8 | 11,900 | 5,940 | 1,490 | 1,987 | 1,834 | 1,490 | 36.4 = 1,529 |
//!
//! (The floors of ×2, ×8 and ×16 are merkle nodes by the thousand, per compression.) So there
//! pairs up to 12, sixteen lanes from 13, and eight lanes never.
//!
//! Intel Sapphire Rapids, ns per share: SHA-NI ×1 1,986, ×2 1,515, AVX-512VL ×8 1,127 and
//! AVX-512 ×16 699 with full lanes: eight lanes pay from 6, sixteen from 9.
//!
//! Intel Cascade Lake has no SHA-NI, ns per compression: ring 223, sha2-asm 321, sha2 375, AVX2
//! ×8 48.4, AVX-512VL ×8 29.9, AVX-512 ×16 20.1. Alone a share goes to ring (9,400 whole), but
//! eight lanes with two in them already win (10,000 for up to eight; 16,300 by AVX2).
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
static RING: Plan =
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The facade's safety: a kernel exists where its plan's features do, and nothing else is
    /// looked at before its paths run.
    #[test]
    fn plans_need_what_their_paths_need() {
        for plan in PLANS {
            for (_, path) in plan.rows {
                assert!(plan.needs.has(features_of(*path)), "{}: {path:?}", plan.name);
            }
            assert!(plan.needs.has(features_of_lone(plan.lone)), "{}", plan.name);
        }
    }

    #[test]
    fn rows_fall_to_one() {
        for plan in PLANS {
            assert!(plan.rows.is_sorted_by(|a, b| a.0 > b.0), "{}", plan.name);
            assert_eq!(plan.rows.last().map(|row| row.0), Some(1), "{}", plan.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = PLANS.iter().map(|plan| plan.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PLANS.len());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn each_row_is_chosen_at_its_numbers() {
        use Path::*;
        let expected: [(&Plan, &[(usize, Path)]); 5] = [
            (
                &x86::SHA_NI_AVX512_AMD,
                &[(1, Lone), (2, ShaNiX2), (12, ShaNiX2), (13, Avx512X16), (64, Avx512X16)],
            ),
            (
                &x86::SHA_NI_AVX512,
                &[(1, Lone), (5, ShaNiX2), (6, Avx512VlX8), (8, Avx512VlX8), (9, Avx512X16)],
            ),
            (&x86::SHA_NI, &[(1, Lone), (2, ShaNiX2), (64, ShaNiX2)]),
            (&x86::AVX512_RING, &[(1, Lone), (2, Avx512VlX8), (8, Avx512VlX8), (9, Avx512X16)]),
            (&x86::AVX2_RING, &[(1, Lone), (2, Avx2X8), (64, Avx2X8)]),
        ];
        for (plan, numbers) in expected {
            for (at_hand, path) in numbers {
                assert_eq!(plan.path(*at_hand), *path, "{} at {at_hand}", plan.name);
            }
        }
    }

    fn features_of_lone(lone: Lone) -> Features {
        match lone {
            #[cfg(target_arch = "x86_64")]
            Lone::ShaNi => Features::SHA_NI,
            _ => Features::NONE,
        }
    }

    fn features_of(path: Path) -> Features {
        match path {
            Path::Lone => Features::NONE,
            #[cfg(target_arch = "x86_64")]
            Path::ShaNiX2 => Features::SHA_NI,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2X8 => Features::AVX2,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512VlX8 | Path::Avx512X16 => Features::AVX512,
        }
    }
}
