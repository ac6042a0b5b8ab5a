//! C1 to C12: how firmware takes a difficulty, and what the controller does for its sake.

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

/// Mining under this name, where the shares decide the difficulty.
fn steered_as(agent: &str, settings: Settings) -> Pair {
    let mut pair = Pair::with(settings);
    pair.adopt(job(1, 1, pair.now));
    pair.say(&format!(r#"{{"id":2,"method":"mining.subscribe","params":["{agent}"]}}"#));
    pair.say(AUTHORIZE);
    pair.lines();
    pair
}

/// Sends one good share; the nonces from here on are new.
fn send_share(pair: &mut Pair, nonce: &mut u32) {
    let share = pair.good(*nonce);
    *nonce = share.nonce_number + 1;
    pair.say(&share.line(5));
    assert_eq!(pair.outcomes(), [ShareOutcome::Accepted]);
}

#[test]
fn c2_a_change_comes_with_a_new_id_and_a_clean_job() {
    let mut pair = steered_as("miner/1.0", steered());
    let mut ids = vec![pair.id()];
    let mut nonce = 0;
    for _ in 0..4 {
        (0..16).for_each(|_| send_share(&mut pair, &mut nonce));
        pair.pass(SECOND);
        let lines: Vec<_> =
            pair.lines().into_iter().filter(|line| !line.contains("true,\"error")).collect();
        assert_eq!(kinds(&lines), "difficulty clean");
        assert!(!ids.contains(&pair.id()), "{ids:?}");
        ids.push(pair.id());
        // The other mode: work is sent again without a change, and nothing of it is repeated.
        pair.pass(30 * SECOND);
        assert_eq!(kinds(&pair.lines()), "notify");
        assert!(!ids.contains(&pair.id()), "{ids:?}");
        ids.push(pair.id());
    }
}

/// Changes of difficulty within the first `seconds` in which a share comes each second.
fn changes_at_a_share_a_second(agent: &str, seconds: u32) -> usize {
    let mut pair = steered_as(agent, steered());
    let mut nonce = 0;
    let mut changes = 0;
    for _ in 0..seconds {
        pair.pass(SECOND);
        send_share(&mut pair, &mut nonce);
        changes += pair.lines().iter().filter(|line| is_set_difficulty(line)).count();
    }
    changes
}

#[test]
fn c4_firmware_that_shows_rejects_has_half_a_minute_between_changes() {
    assert!(changes_at_a_share_a_second("miner/1.0", 29) >= 1);
    for agent in ["Antminer S19k Pro/x", "bmminer/2.0.0", "cgminer/4.12.0"] {
        assert_eq!(changes_at_a_share_a_second(agent, 29), 0, "{agent}");
        assert_eq!(changes_at_a_share_a_second(agent, 33), 1, "{agent}");
        assert_eq!(changes_at_a_share_a_second(agent, 59), 1, "{agent}");
        // A flood does not wait.
        let mut pair = steered_as(agent, steered());
        let mut nonce = 0;
        (0..9).for_each(|_| send_share(&mut pair, &mut nonce));
        pair.pass(SECOND);
        assert_eq!(pair.machine.difficulty().get(), 4.0 * STEERED);
    }
}

/// Lets `seconds` pass without a share; every difficulty that is said.
fn fall(pair: &mut Pair, seconds: u64) -> Vec<f64> {
    let until = pair.now.plus_micros(seconds * SECOND);
    let mut said = vec![pair.machine.difficulty().get()];
    while pair.now < until {
        pair.pass(pair.wait.since(pair.now).max(1));
        let now = pair.machine.difficulty().get();
        if said.last() != Some(&now) {
            said.push(now);
        }
    }
    said
}

#[test]
fn c5_the_difficulty_falls_without_a_share() {
    let minimum_difficulty = difficulty(1.0);
    let mut pair = steered_as("miner/1.0", Settings { minimum_difficulty, ..real() });
    assert_eq!(fall(&mut pair, 90), [16_384.0, 1_024.0]);
    assert_eq!(fall(&mut pair, 3_600), [1_024.0, 64.0, 4.0, 1.0]);
    let lines = pair.lines();
    let falls = lines.windows(2).filter(|pair| is_set_difficulty(&pair[0]));
    assert_eq!(falls.map(kinds).collect::<Vec<_>>(), ["difficulty clean"; 4]);
}

#[test]
fn c6_the_floor_is_the_classs() {
    let settings = Settings { minimum_difficulty: difficulty(1e-4), ..real() };
    for agent in ["Antminer S21/x", "bitaxe/BM1370/v2.9", "NerdNOS", "NerdQAxe++/BM1370/v1"] {
        let mut pair = steered_as(agent, settings.clone());
        assert_eq!(fall(&mut pair, 20_000).last(), Some(&1.0), "{agent}");
    }
    for agent in ["NerdMinerV2", "cpuminer/2.5.1", "somebody"] {
        let mut pair = steered_as(agent, settings.clone());
        let last = fall(&mut pair, 20_000).pop().expect("a start");
        assert!((1e-4..2e-4).contains(&last), "{agent}: {last}");
    }
    // Where the farm's start is below 1, so may everybody's be.
    let pair = steered_as("Antminer S21/x", steered());
    assert_eq!(pair.machine.difficulty().get(), STEERED);
    // A microcontroller starts where it has a share now and then.
    let pair = steered_as("NerdMinerV2", settings);
    assert_eq!(pair.machine.difficulty().get(), 1.0 / 4_096.0);
}

#[test]
fn c8_asics_get_powers_of_two() {
    let suggested = |agent: &str, number: f64| {
        let mut pair =
            steered_as(agent, Settings { minimum_difficulty: difficulty(1e-6), ..real() });
        pair.say(&format!(
            r#"{{"id":4,"method":"mining.suggest_difficulty","params":[{number}]}}"#
        ));
        pair.pass(SECOND);
        pair.machine.difficulty().get()
    };
    for agent in ["bitaxe/BM1366/v2", "btminer/1", "bosminer-plus-tuner", "LUXminer", "somebody"] {
        for (number, wanted) in [(1_000.0, 1_024.0), (3_000.0, 4_096.0), (2_800.0, 2_048.0)] {
            assert_eq!(suggested(agent, number), wanted, "{agent}");
        }
    }
    for agent in ["cpuminer/2.5.1", "NMMiner"] {
        for number in [0.00042, 0.3, 3.0] {
            let got = suggested(agent, number);
            assert!((got / number - 1.0).abs() < 0.005, "{agent}: {got} for {number}");
        }
    }
}

#[test]
fn c10_no_minimum_difficulty_is_promised_and_none_is_kept() {
    let mut pair = Pair::with(real());
    pair.adopt(job(1, 1, pair.now));
    let lines = pair.ask(concat!(
        r#"{"id":1,"method":"mining.configure","params":[["minimum-difficulty"],"#,
        r#"{"minimum-difficulty.value":2097152}]}"#
    ));
    assert_eq!(lines, [r#"{"id":1,"result":{"minimum-difficulty":false},"error":null}"#]);
    pair.say(SUBSCRIBE);
    pair.say(AUTHORIZE);
    assert_eq!(pair.machine.difficulty().get(), 16_384.0);
}

#[test]
fn c11_markets_start_where_they_want_to() {
    for (agent, wanted) in [
        ("NiceHash/1.0.0", 524_288.0),
        ("excavator/1.8", 524_288.0),
        ("MiningRigRentals/1", 1_048_576.0),
        ("Antminer S19/x", 16_384.0),
    ] {
        let mut pair = steered_as(agent, real());
        assert_eq!(pair.machine.difficulty().get(), wanted, "{agent}");
        let last = fall(&mut pair, 20_000).pop();
        assert!(last >= Some(wanted) || wanted == 16_384.0, "{agent} refuses {last:?}");
        // The farm's own maximum holds for them, too.
        let maximum_difficulty = difficulty(16_384.0);
        let pair = steered_as(agent, Settings { maximum_difficulty, ..real() });
        assert_eq!(pair.machine.difficulty().get(), 16_384.0, "{agent}");
    }
}

#[test]
fn c12_who_finds_one_share_a_day_stays() {
    let mut pair = steered_as("NerdMinerV2", real());
    for day in 0..3 {
        let mut spoken = pair.now;
        let until = pair.now.plus_micros(86_400 * SECOND);
        while pair.now < until {
            pair.pass(pair.wait.since(pair.now).max(1));
            if !pair.lines().is_empty() {
                assert!(pair.now.since(spoken) <= 30 * SECOND);
                spoken = pair.now;
            }
        }
        assert_eq!(pair.closed, None, "day {day}");
        let share = pair.good(day * 1_000_000);
        assert_eq!(pair.ask(&share.line(6))[0], accepted(6));
    }
}
