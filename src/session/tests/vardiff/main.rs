//! The controller of difficulty, judged: how soon it finds that a miner's speed has changed, how
//! often it changes a difficulty in vain, and how well it knows a miner. Thousands of hours of
//! virtual time; the figures asserted are those that are promised.

mod poisson;

use poisson::{Miner, PER_MINUTE};
use std::f64::consts::SQRT_2;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const START: f64 = 16_384.0;
/// Wherever chance decides: the same on each run.
const SEEDS: std::ops::Range<u64> = 0..300;

/// The speed that finds `off` times the shares that are wished, at [`START`].
fn speed(off: f64) -> f64 {
    START * PER_MINUTE / 60.0 * off
}

/// Whether another difficulty would suit this speed better by more than powers of two allow.
fn is_misplaced(miner: &Miner, speed: f64) -> bool {
    (miner.difficulty / Miner::ideal(speed)).log2().abs() > 0.501
}

fn median(mut numbers: Vec<f64>) -> f64 {
    assert!(numbers.len() >= 100, "only {} runs say something", numbers.len());
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Minutes until a miner that was `off` the wish and became `factor` times as fast has the right
/// difficulty, median; after a time in which the controller has got to know it.
fn minutes_to_find(powers_of_two: bool, off: f64, factor: f64) -> f64 {
    let found = SEEDS.flat_map(|seed| {
        let mut miner = Miner::new(START, powers_of_two, seed * 7_919 + 1);
        miner.mine(speed(off), if seed % 2 == 0 { 10.0 * MINUTE } else { 2.0 * HOUR });
        let (changed, faster) = (miner.now, speed(off) * factor);
        // Few were moved in vain before, and some of them to where they belong now.
        is_misplaced(&miner, faster).then(|| {
            while is_misplaced(&miner, faster) && miner.now < changed + 10.0 * HOUR {
                let until = miner.now + 1.0;
                miner.mine(faster, until);
            }
            (miner.now - changed) / MINUTE
        })
    });
    median(found.collect())
}

#[test]
fn a_change_of_speed_is_found_in_time() {
    // Where a change leads away from the wish. From √2 above it to √2 below it is none for powers
    // of two: no other one suits better.
    let (above, below) = (SQRT_2, 1.0 / SQRT_2);
    let rows = [
        (0.5, 6.0, [1.0, below]),
        (2.0, 3.0, [1.0, above]),
        (4.0, 0.75, [1.0, above]),
        (4.0, 0.75, [1.0, below]),
    ];
    for (factor, minutes_max, offs) in rows {
        for off in offs {
            let minutes = minutes_to_find(true, off, factor);
            println!("powers of two, {off:.2} off, x{factor}: {minutes:.2} min");
            assert!(minutes <= minutes_max, "{off} off, x{factor}: {minutes} min");
        }
    }
    for (factor, minutes_max) in [(0.5, 6.0), (2.0, 3.0), (4.0, 0.75)] {
        for off in [1.0, above, below] {
            let minutes = minutes_to_find(false, off, factor);
            println!("any number, {off:.2} off, x{factor}: {minutes:.2} min");
            assert!(minutes <= minutes_max, "{off} off, x{factor}: {minutes} min");
        }
    }
}

/// Changes per hour, once the controller has had the time that it needs to get to know a miner
/// whose start was wrong, and the median of how far off its idea of the speed is in the end.
fn changes_and_error(powers_of_two: bool, off: f64) -> (f64, f64) {
    const HOURS: f64 = 24.0;
    let (mut changes, mut errors) = (0, Vec::new());
    for seed in 0..100 {
        let mut miner = Miner::new(START, powers_of_two, seed * 104_729 + 7);
        // Powers of two cannot suit better than the start does: there, each change is needless.
        let settled = if powers_of_two { 0.0 } else { HOUR };
        miner.mine(speed(off), HOURS * HOUR);
        changes += miner.changes.iter().filter(|(at, _)| *at >= settled).count();
        let known = f64::from(miner.vardiff.rate()) * miner.difficulty;
        errors.push((known / speed(off) - 1.0).abs());
    }
    (f64::from(changes as u32) / (100.0 * HOURS), median(errors))
}

#[test]
fn a_steady_miner_is_left_alone_and_known_well() {
    for powers_of_two in [true, false] {
        for off in [1.0, SQRT_2, 1.0 / SQRT_2, 1.2, 0.8] {
            let (changes, error) = changes_and_error(powers_of_two, off);
            println!(
                "powers of two {powers_of_two}, {off:.2} off: {changes:.3} changes an hour, \
                 known within {:.1} %",
                error * 100.0
            );
            assert!(changes < 0.2, "{off} off: {changes} an hour");
            assert!(error < 0.05, "{off} off: {error} wrong");
        }
    }
}

/// A difficulty that is set once is right: half of the miners at once, all of them soon.
#[test]
fn a_new_miner_of_any_speed_gets_its_difficulty() {
    for (power, seconds_max) in
        [(-20, 3_000.0), (-8, 600.0), (-4, 180.0), (4, 12.0), (8, 12.0), (14, 12.0)]
    {
        let seconds = SEEDS.map(|seed| {
            let speed = speed(2_f64.powi(power));
            let mut miner = Miner::new(START, true, seed * 31 + 5);
            // Within a factor of two it has become one miner among others.
            while (miner.difficulty / Miner::ideal(speed)).log2().abs() > 1.01 {
                let until = miner.now + 0.1;
                miner.mine(speed, until);
                assert!(miner.now < 10.0 * HOUR, "2^{power} was never found");
            }
            miner.now
        });
        let seconds = median(seconds.collect());
        println!("start wrong by 2^{power}: {seconds:.1} s");
        assert!(seconds <= seconds_max, "2^{power}: {seconds} s");
    }
}

/// The largest machine at a difficulty of 1 is 46,000 shares a second: how many come before it is
/// near its own, when each change takes effect a second after it was wanted.
#[test]
fn a_flood_is_over_after_two_seconds_worth_of_shares() {
    let speed = 200e12 / 4_294_967_296.0;
    for seed in 0..10 {
        let mut miner = Miner::new(1.0, true, seed);
        let mut shares = 0.0;
        while miner.difficulty < Miner::ideal(speed) / 2.0 {
            shares += speed / miner.difficulty;
            let (changes, mut until) = (miner.changes.len(), miner.now);
            while miner.changes.len() == changes {
                until += 0.0001;
                miner.mine(speed, until);
            }
            assert!(miner.now < 60.0, "too slow: {}", miner.difficulty);
        }
        assert!(shares < 2.0 * speed, "{shares} shares");
    }
}

/// One degree warmer each minute: too slow for an alarm, and not to be missed for ever.
#[test]
fn a_slow_drift_is_followed() {
    let mut misplaced = 0;
    for (seed, power) in (0..40).zip([1.0, -1.0].into_iter().cycle()) {
        let mut miner = Miner::new(START, true, seed);
        for step in 0..=600 {
            let drifted = speed(2_f64.powf(power * f64::from(step) / 300.0));
            let until = miner.now + MINUTE;
            miner.mine(drifted, until);
            let off = (miner.difficulty / Miner::ideal(drifted)).log2().abs();
            misplaced += usize::from(off > 1.0);
        }
    }
    let part = f64::from(misplaced as u32) / (40.0 * 601.0);
    println!("more than a factor of two off for {:.1} % of the time", part * 100.0);
    assert!(part < 0.02, "{part} of the time");
}

/// What a stalled link held back comes all at once, and says nothing of the speed.
#[test]
fn a_stalled_link_changes_nothing() {
    let mut changes = 0;
    for seed in SEEDS {
        let mut miner = Miner::new(START, true, seed);
        miner.mine(speed(1.0), 2.0 * HOUR);
        let before = miner.changes.len();
        miner.now += 45.0;
        for _ in 0..9 {
            let alarm = miner.vardiff.share(poisson::tick(miner.now));
            alarm.into_iter().for_each(|alarm| miner.heed(alarm));
        }
        let until = miner.now + MINUTE;
        miner.mine(speed(1.0), until);
        changes += miner.changes.len() - before;
    }
    // Silence of 45 s is an alarm by itself where it comes after a scarcity by chance.
    assert!(changes <= 15, "{changes} of {}", SEEDS.end);
}

/// A machine that was on and is off comes back to nearly its difficulty, however long it was off.
#[test]
fn a_machine_that_is_off_does_not_come_back_as_a_flood() {
    for hours in [0.5, 10.0, 1_000.0] {
        let mut miner = Miner::new(START, true, 3);
        miner.mine(speed(1.0), 2.0 * HOUR);
        let before = miner.difficulty;
        let until = miner.now + hours * HOUR;
        miner.mine(0.0, until);
        assert_eq!(miner.difficulty, before / 16.0, "off for {hours} h");
        let (shares, until) = (miner.shares.len(), miner.now + MINUTE);
        miner.mine(speed(1.0), until);
        assert!(!is_misplaced(&miner, speed(1.0)), "{}", miner.difficulty);
        assert!(miner.shares.len() - shares < 60, "{}", miner.shares.len() - shares);
    }
}
