//! C1, C3, C7 and C9: how firmware takes a difficulty. What the controller of difficulty decides
//! comes with it.

use super::*;

/// What cgminer does with the difficulty (`parse_diff`, `parse_notify`): it keeps two, and each
/// notify takes up one of them.
#[derive(Debug, Default)]
struct Cgminer {
    next: f64,
    after: f64,
    works: f64,
}

impl Cgminer {
    fn hear(&mut self, line: &str) {
        if is_set_difficulty(line) {
            let number = line.rsplit('[').next().and_then(|end| end.split(']').next());
            let said: f64 = number.and_then(|text| text.parse().ok()).expect("a number");
            if self.next > 0.0 {
                self.after = said;
            } else {
                self.next = said;
            }
        } else if is_notify(line) && self.next > 0.0 {
            self.works = self.next;
            self.next = core::mem::take(&mut self.after);
        }
    }
}

#[test]
fn c1_a_difficulty_is_followed_by_its_job() {
    let mut pair = Pair::mining(easy());
    for step in 1..=5 {
        want(&mut pair, f64::from(step) * 1e-6);
        pair.pass(SECOND);
        assert_eq!(kinds(&pair.lines()), "difficulty clean");
    }
}

/// While there is no job the difficulty is repeated as the sign of life; cgminer keeps two of them,
/// and would be one step behind in all that follows.
#[test]
fn c1_cgminer_works_at_what_its_shares_are_judged_by() {
    for parked in 0..5 {
        let mut pair = Pair::new();
        let mut miner = Cgminer::default();
        let mut hear = |pair: &mut Pair| {
            let lines = pair.lines();
            lines.iter().for_each(|line| miner.hear(line));
            let told = pair.machine.difficulty().get();
            let has_work = lines.iter().any(|line| is_notify(line));
            assert!(!has_work || miner.works == told, "{miner:?} at {told}: {lines:#?}");
        };
        pair.say(SUBSCRIBE);
        pair.say(AUTHORIZE);
        for second in 0..parked {
            pair.pass(30 * SECOND);
            // A wish while it is parked waits for its job.
            want(&mut pair, 1e-6 * (1.0 + f64::from(second)));
        }
        hear(&mut pair);
        pair.adopt(job(1, 1, pair.now));
        hear(&mut pair);
        for step in 0..200_u32 {
            if step % 40 == 20 {
                want(&mut pair, 1e-6 * f64::from(step));
            }
            pair.pass(700_000);
            hear(&mut pair);
        }
        assert_eq!(pair.machine.difficulty(), difficulty(1e-6 * 180.0), "parked {parked}");
    }
}

#[test]
fn c3_a_share_is_judged_by_the_difficulty_of_its_job() {
    let mut pair = Pair::mining(easy());
    let before = [pair.good(0), pair.good(100_000), pair.good(200_000), pair.good(300_000)];
    for (step, share) in (1..).zip(&before) {
        want(&mut pair, 1e3 * f64::from(step));
        pair.pass(SECOND);
        assert_eq!(kinds(&pair.lines()), "difficulty clean");
        assert_eq!(pair.ask(&share.line(5)), [accepted(5)], "{step} steps later");
    }
    let late = pair.search(pair.id(), 0, |_| true);
    assert_eq!(pair.ask(&late.line(6)), [refused(6, 23, "low difficulty share")]);
}

#[test]
fn c7_numbers_are_plain_and_mean_what_is_judged() {
    for (number, text) in [
        (1.0, "1"),
        (1_024.0, "1024"),
        (16_384.0, "16384"),
        (524_288.0, "524288"),
        (1_099_511_627_776.0, "1099511627776"),
        (0.5, "0.5"),
        (0.00015, "0.00015"),
        (1e-9, "0.000000001"),
    ] {
        let start_difficulty = difficulty(number);
        let mut pair = Pair::with(Settings { start_difficulty, ..Settings::default() });
        pair.adopt(job(1, 1, pair.now));
        pair.say(SUBSCRIBE);
        pair.lines();
        let lines = pair.ask(AUTHORIZE);
        assert!(lines[1].ends_with(&format!("[{text}]}}")), "{lines:?}");
        // The text is the number that shares are judged by, to the last bit.
        let read: f64 = text.parse().expect("a number");
        assert_eq!(read.to_bits(), pair.machine.difficulty().get().to_bits());
    }
}

/// The cap of an upstream comes with upstreams; alone, a hash that is a block is one, however high
/// the miner's difficulty stands above the network's.
#[test]
fn c9_a_block_below_the_share_target_is_still_a_block() {
    let network_target = Target::from_difficulty(difficulty(1e-7));
    let mut pair =
        Pair::with(Settings { start_difficulty: difficulty(1e9), ..Settings::default() });
    pair.adopt(Job { network_target, ..job(1, 1, pair.now) });
    pair.shake_hands();
    let share = pair.search(pair.id(), 0, |hash| network_target.is_met_by(hash));
    assert_eq!(pair.ask(&share.line(5)), [refused(5, 23, "low difficulty share")]);
    assert_eq!(pair.blocks(), 1);
}
