//! Targets and difficulties against the `bitcoin` crate, against long division done bit by bit,
//! and against numbers that everybody knows.

use bitcoin::CompactTarget;
use pow::{Difficulty, Hash256, Target};
use proptest::prelude::*;

/// `floor(0xffff · 2^208 · 2^halvings / divisor)` most significant byte first, by hand: one bit
/// after the other. `None` above 256 bits.
fn long_division(divisor: u64, halvings: u32) -> Option<[u8; 32]> {
    let mut quotient = [0_u8; 32];
    let mut rest = 0_u128;
    for place in (0..16 + 208 + halvings).rev() {
        let bit = place >= 208 + halvings;
        rest = rest << 1 | u128::from(bit);
        if rest >= u128::from(divisor) {
            rest -= u128::from(divisor);
            let place = place as usize;
            if place >= 256 {
                return None;
            }
            quotient[31 - place / 8] |= 1 << (place % 8);
        }
    }
    Some(quotient)
}

fn target_of(value: f64) -> Target {
    Target::from_difficulty(Difficulty::new(value).expect("positive and finite"))
}

fn positive() -> impl Strategy<Value = f64> {
    // All magnitudes alike: any bits with a clear sign and a finite exponent.
    (1_u64..0x7ff0_0000_0000_0000).prop_map(f64::from_bits)
}

fn sensible() -> impl Strategy<Value = f64> {
    (-40.0..250.0_f64).prop_map(f64::exp2)
}

proptest! {
    #[test]
    fn compact_bits_read_as_bitcoins_do(bits in any::<u32>(), size in 0_u32..40) {
        for bits in [bits, bits & 0x00ff_ffff | size << 24] {
            let (size, word) = (bits >> 24, bits & 0x007f_ffff);
            let overflow =
                word != 0 && (size > 34 || word > 0xff && size > 33 || word > 0xffff && size > 32);
            let theirs = bitcoin::Target::from_compact(CompactTarget::from_consensus(bits));
            match Target::from_compact(bits) {
                Some(ours) => {
                    prop_assert!(!overflow && bits & 0x0080_0000 == 0, "{bits:#x}");
                    prop_assert_eq!(ours.to_be_bytes(), theirs.to_be_bytes(), "{:#x}", bits);
                }
                None => prop_assert!(
                    overflow || bits & 0x0080_0000 != 0 || theirs == bitcoin::Target::ZERO,
                    "{bits:#x}"
                ),
            }
        }
    }

    #[test]
    fn compact_bits_are_written_as_bitcoins_are(bytes in any::<[u8; 32]>(), zeros in 0..32_usize) {
        let mut bytes = bytes;
        bytes[..zeros].fill(0);
        let ours = Target::from_be_bytes(bytes);
        let theirs = bitcoin::Target::from_be_bytes(bytes);
        prop_assert_eq!(ours.to_compact(), theirs.to_compact_lossy().to_consensus());
        if let Some(back) = Target::from_compact(ours.to_compact()) {
            prop_assert!(back <= ours);
            prop_assert_eq!(back.to_compact(), ours.to_compact());
        }
    }

    #[test]
    fn targets_compare_as_numbers(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
        let (ours_a, ours_b) = (Target::from_be_bytes(a), Target::from_be_bytes(b));
        prop_assert_eq!(ours_a.cmp(&ours_b), a.cmp(&b));
        let hash = Hash256(ours_a.to_le_bytes());
        prop_assert_eq!(ours_b.is_met_by(&hash), a <= b);
        prop_assert_eq!(Target::from_le_bytes(hash.0), ours_a);
        prop_assert_eq!(hash.cmp(&Hash256(ours_b.to_le_bytes())), a.cmp(&b));
        prop_assert_eq!(ours_a.to_string(), Hash256(ours_a.to_le_bytes()).to_string());
    }

    #[test]
    fn whole_difficulties_divide_exactly(difficulty in 1_u64..1 << 53) {
        let expected = long_division(difficulty, 0).expect("below 256 bits");
        prop_assert_eq!(target_of(difficulty as f64).to_be_bytes(), expected);
    }

    #[test]
    fn broken_difficulties_divide_exactly(parts in 1_u64..1 << 53, halvings in 0_u32..90) {
        let difficulty = parts as f64 / 2.0_f64.powi(halvings as i32);
        let expected = long_division(parts, halvings).unwrap_or([0xff; 32]);
        prop_assert_eq!(target_of(difficulty).to_be_bytes(), expected);
    }

    #[test]
    fn a_higher_difficulty_never_has_a_higher_target(a in positive(), b in positive()) {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        prop_assert!(target_of(low) >= target_of(high));
    }

    #[test]
    fn neighbouring_difficulties_keep_their_order(value in sensible()) {
        let above = f64::from_bits(value.to_bits() + 1);
        prop_assert!(target_of(value) >= target_of(above));
    }

    #[test]
    fn the_way_back_is_within_a_few_units(value in sensible()) {
        let target = target_of(value);
        // Below 2^60 the target is rounded to a whole number, which is coarser than f64.
        if target != Target::MAX && target > target_of(2.0_f64.powi(160)) {
            let back = target.difficulty();
            prop_assert!((back / value - 1.0).abs() < 1e-15, "{value} came back as {back}");
        }
    }

    #[test]
    fn difficulties_are_bitcoins(bytes in any::<[u8; 32]>(), zeros in 0..32_usize) {
        let mut bytes = bytes;
        bytes[..zeros].fill(0);
        bytes[31] |= 1;
        let ours = Target::from_be_bytes(bytes).difficulty();
        let theirs = bitcoin::Target::from_be_bytes(bytes).difficulty_float();
        prop_assert!((ours / theirs - 1.0).abs() < 1e-14, "{ours} against {theirs}");
    }

    #[test]
    fn a_hash_meets_its_own_difficulty_or_the_number_below(bytes in any::<[u8; 32]>()) {
        let hash = Hash256(bytes);
        let difficulty = Difficulty::of_hash(&hash).get();
        let easier = difficulty * (1.0 - 1e-14);
        prop_assert!(target_of(easier).is_met_by(&hash));
        prop_assert!(!target_of(difficulty * (1.0 + 1e-14)).is_met_by(&hash));
    }

    #[test]
    fn difficulties_are_announced_as_plain_decimals(value in positive()) {
        let difficulty = Difficulty::new(value).expect("positive and finite");
        let text = difficulty.to_string();
        prop_assert!(text.chars().all(|c| c.is_ascii_digit() || c == '.'), "{text}");
        prop_assert_eq!(text.parse::<f64>().expect("a number"), value);
    }
}

#[test]
fn well_known_numbers() {
    let one = "00000000ffff0000000000000000000000000000000000000000000000000000";
    assert_eq!(target_of(1.0).to_string(), one);
    assert_eq!(Target::from_compact(0x1d00_ffff), Some(target_of(1.0)));
    assert_eq!(target_of(1.0).to_compact(), 0x1d00_ffff);
    assert_eq!(target_of(1.0).difficulty(), 1.0);
    assert_eq!(target_of(0.5).difficulty(), 0.5);
    assert_eq!(
        target_of(16_384.0).to_string(),
        "000000000003fffc000000000000000000000000000000000000000000000000"
    );
    // Block 100,000: difficulty 14,484.16…
    let target = Target::from_compact(0x1b04_864c).expect("a real block's");
    assert!((target.difficulty() - 14_484.162_361_225_399).abs() < 1e-9);
    // Regtest.
    let regtest = Target::from_compact(0x207f_ffff).expect("regtest's");
    assert!((regtest.difficulty() - 4.656_542_373_906_925e-10).abs() < 1e-24);
}

#[test]
fn extreme_difficulties_stay_within_the_targets() {
    let hard = target_of(2.0_f64.powi(200));
    assert_eq!(
        hard.to_be_bytes(),
        long_division(1, 0)
            .map(|_| {
                // 0xffff · 2^8.
                let mut bytes = [0; 32];
                bytes[28..].copy_from_slice(&0x00ff_ff00_u32.to_be_bytes());
                bytes
            })
            .expect("below 256 bits")
    );
    assert_eq!(target_of(f64::MAX).to_be_bytes()[31], 1);
    assert_eq!(target_of(2.0_f64.powi(224)).to_be_bytes()[31], 1, "never below one");
    assert_eq!(target_of(f64::MIN_POSITIVE), Target::MAX);
    assert_eq!(target_of(f64::from_bits(1)), Target::MAX);
    assert_eq!(target_of(1e-12), Target::MAX);

    let easy = target_of(1e-9);
    assert!(easy < Target::MAX);
    assert!((easy.difficulty() - 1e-9).abs() < 1e-24);
    assert_eq!(Difficulty::new(1e-9).expect("positive").to_string(), "0.000000001");
    assert!(Target::MAX.is_met_by(&Hash256([0xff; 32])));

    let zero = Hash256::ZERO;
    assert!(Difficulty::of_hash(&zero).get().is_finite());
    assert!(target_of(f64::MAX).is_met_by(&zero));
}

#[test]
fn only_positive_finite_numbers_are_difficulties() {
    for value in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Difficulty::new(value), None, "{value}");
    }
    assert!(Difficulty::new(f64::MIN_POSITIVE).is_some());
}

#[test]
fn bits_that_the_network_refuses_are_no_target() {
    for bits in [0, 0x0100_0000, 0x1d80_ffff, 0x0480_0001, 0xff00_0001, 0x2300_0001, 0x2201_0000] {
        assert_eq!(Target::from_compact(bits), None, "{bits:#x}");
    }
    assert!(Target::from_compact(0x2200_00ff).is_some());
    assert!(Target::from_compact(0x2100_ffff).is_some());
}
