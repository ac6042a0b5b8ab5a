//! Targets, compact bits and difficulty.
//!
//! Difficulty is what miners mean: `0x00000000ffff0000…0000 / target` (the so-called bdiff).
//! **Rounding.** A difficulty becomes a target by exact integer division, rounded down, so a hash
//! meets [`Target::from_difficulty`]`(d)` exactly if its own difficulty, as a rational number, is
//! at least `d`. Below 1 it becomes 1, above 2^256 − 1 it becomes 2^256 − 1. The way back rounds
//! the numbers to the nearest `f64` and divides: within one unit in the last place.
//! [`Target::from_difficulty`] is the only way from an announced number to a target.

use core::cmp::Ordering;
use core::fmt;

use crate::sha256::Hash256;

/// Difficulty 1 is this number, shifted left by [`DIFFICULTY_1_SHIFT`].
const DIFFICULTY_1: u64 = 0xffff;
const DIFFICULTY_1_SHIFT: i32 = 208;
/// Bits behind the binary point of a normal `f64`.
const MANTISSA_BITS: i32 = 52;
/// No larger target has a difficulty below this: 2^-33 asks for more than 2^256.
const DIFFICULTY_MIN: f64 = 1.0 / (1_u64 << 33) as f64;

/// A 256-bit bound on a hash, kept little-endian like the hash itself; ordered as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target([u8; 32]);

impl Target {
    /// Every hash meets it.
    pub const MAX: Target = Target([0xff; 32]);

    /// Reads a header's `bits`. `None` where the network would refuse them: a negative number,
    /// zero, or more than 256 bits.
    pub fn from_compact(bits: u32) -> Option<Target> {
        let size = (bits >> 24) as usize;
        let mantissa = bits & 0x007f_ffff;
        if bits & 0x0080_0000 != 0 {
            return None;
        }
        let mut bytes = [0; 32];
        for (place, byte) in mantissa.to_le_bytes().into_iter().take(3).enumerate() {
            // The mantissa's top byte stands at `size - 1`; what falls below the point is lost.
            match (size + place).checked_sub(3) {
                Some(at) if at < 32 => bytes[at] = byte,
                Some(_) if byte != 0 => return None,
                _ => {}
            }
        }
        (bytes != [0; 32]).then_some(Target(bytes))
    }

    /// The `bits` of this target, as consensus rounds them: down, to 23 bits of precision.
    pub fn to_compact(&self) -> u32 {
        let mut size = 32 - self.0.iter().rev().take_while(|byte| **byte == 0).count();
        let top = |place: usize| {
            size.checked_sub(place).map_or(0, |at| u32::from(self.0[at]) << (8 * (3 - place)))
        };
        let mut mantissa = top(1) | top(2) | top(3);
        // A set top bit would read as a sign.
        if mantissa & 0x0080_0000 != 0 {
            mantissa >>= 8;
            size += 1;
        }
        (size as u32) << 24 | mantissa
    }

    /// The target of an announced difficulty: exact, rounded down, within 1..=2^256 − 1.
    pub fn from_difficulty(difficulty: Difficulty) -> Target {
        if difficulty.0 <= DIFFICULTY_MIN {
            return Target::MAX;
        }
        // difficulty = mantissa · 2^(exponent − 52), the mantissa with its leading one.
        let bits = difficulty.0.to_bits();
        let exponent = (bits >> MANTISSA_BITS) as i32 - 1023;
        let mantissa = bits & ((1 << MANTISSA_BITS) - 1) | 1 << MANTISSA_BITS;
        let shift = DIFFICULTY_1_SHIFT + MANTISSA_BITS - exponent;
        match divide(DIFFICULTY_1, shift, mantissa) {
            Some(limbs) => Target::from_limbs(limbs),
            None => Target::MAX,
        }
    }

    /// The difficulty of this target, as an `f64` (see the file's header for the rounding).
    /// A target of zero, which nothing meets, counts as one.
    pub fn difficulty(&self) -> f64 {
        let divisor = self.to_f64().max(1.0);
        // 0xffff · 2^208 has 16 bits: the power of two is exact.
        DIFFICULTY_1 as f64 * power_of_two(DIFFICULTY_1_SHIFT) / divisor
    }

    /// Whether a hash is at or below the target.
    pub fn is_met_by(&self, hash: &Hash256) -> bool {
        Target(hash.0) <= *self
    }

    /// From a number written most significant byte first (as SV1 and block explorers write it).
    pub fn from_be_bytes(mut bytes: [u8; 32]) -> Target {
        bytes.reverse();
        Target(bytes)
    }

    /// The number, most significant byte first.
    pub fn to_be_bytes(&self) -> [u8; 32] {
        let mut bytes = self.0;
        bytes.reverse();
        bytes
    }

    /// From a number written least significant byte first (as SV2 writes U256).
    pub const fn from_le_bytes(bytes: [u8; 32]) -> Target {
        Target(bytes)
    }

    /// The number, least significant byte first.
    pub const fn to_le_bytes(&self) -> [u8; 32] {
        self.0
    }

    fn limbs(&self) -> [u64; 4] {
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().zip(self.0.chunks_exact(8)) {
            *limb = bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        }
        limbs
    }

    fn from_limbs(limbs: [u64; 4]) -> Target {
        let mut bytes = [0; 32];
        for (bytes, limb) in bytes.chunks_exact_mut(8).zip(limbs) {
            bytes.copy_from_slice(&limb.to_le_bytes());
        }
        Target(bytes)
    }

    /// The nearest `f64`: the top 64 bits, the lowest of them sticky for what is below.
    fn to_f64(self) -> f64 {
        let limbs = self.limbs();
        let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else { return 0.0 };
        let shift = limbs[top].leading_zeros();
        let below = if top == 0 { 0 } else { limbs[top - 1] };
        let filled = if shift == 0 { 0 } else { below >> (64 - shift) };
        let lost = if shift == 0 { below } else { below << shift };
        let sticky = lost != 0 || limbs[..top.saturating_sub(1)].iter().any(|limb| *limb != 0);
        let head = limbs[top] << shift | filled | u64::from(sticky);
        head as f64 * power_of_two(64 * top as i32 - shift as i32)
    }
}

impl Ord for Target {
    fn cmp(&self, other: &Target) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for Target {
    fn partial_cmp(&self, other: &Target) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// How many times harder than difficulty 1: positive and finite.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Difficulty(f64);

impl Difficulty {
    /// `None` for zero, negative numbers, infinities and what is not a number.
    pub const fn new(value: f64) -> Option<Difficulty> {
        if value > 0.0 && value <= f64::MAX { Some(Difficulty(value)) } else { None }
    }

    /// The number itself.
    pub const fn get(&self) -> f64 {
        self.0
    }

    /// The hardest difficulty that a hash meets, rounded to `f64`.
    pub fn of_hash(hash: &Hash256) -> Difficulty {
        Difficulty(Target(hash.0).difficulty())
    }
}

/// A plain decimal without exponent, the shortest that reads back as the same number: firmware
/// knows no exponents.
impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `floor(number · 2^shift / divisor)`, at least 1; `None` above 2^256 − 1.
fn divide(number: u64, shift: i32, divisor: u64) -> Option<[u64; 4]> {
    const ONE: [u64; 4] = [1, 0, 0, 0];
    // Six limbs hold 16 bits shifted by 293, the most that a difficulty above the least asks.
    let mut limbs = [0_u64; 6];
    let Ok(shift) = usize::try_from(shift) else { return Some(ONE) };
    let spread = u128::from(number) << (shift % 64);
    limbs[shift / 64] = spread as u64;
    limbs[shift / 64 + 1] = (spread >> 64) as u64;
    let mut rest = 0_u128;
    for limb in limbs.iter_mut().rev() {
        let part = rest << 64 | u128::from(*limb);
        *limb = (part / u128::from(divisor)) as u64;
        rest = part % u128::from(divisor);
    }
    match limbs {
        [0, 0, 0, 0, 0, 0] => Some(ONE),
        [a, b, c, d, 0, 0] => Some([a, b, c, d]),
        _ => None,
    }
}

/// 2^exponent for exponents of a normal `f64`.
fn power_of_two(exponent: i32) -> f64 {
    assert!((-1022..=1023).contains(&exponent));
    f64::from_bits(((exponent + 1023) as u64) << MANTISSA_BITS)
}
