//! What becomes of the controller's alarms: which shares count, when a change is announced, and
//! what a start is made of. How good the controller is, `tests/vardiff` judges.

use super::*;
use crate::Policy;

/// Sends `count` good shares in one segment.
fn burst(pair: &mut Pair, from: u32, count: u32) {
    let mut lines = String::new();
    let mut nonce = from;
    for id in 0..count {
        let share = pair.good(nonce);
        nonce = share.nonce_number + 1;
        lines += &share.line(100 + id);
        lines += "\n";
    }
    pair.bytes(lines.as_bytes());
}

fn told(pair: &Pair) -> f64 {
    pair.machine.difficulty().get()
}

/// A miner with this name whose difficulty its shares decide; nothing said yet.
fn arriving(settings: Settings) -> Pair {
    let mut pair = Pair::with(settings);
    pair.adopt(job(1, 1, pair.now));
    pair
}

fn subscribe(agent: &str) -> String {
    format!(r#"{{"id":2,"method":"mining.subscribe","params":["{agent}"]}}"#)
}

fn suggest(number: &str) -> String {
    format!(r#"{{"id":7,"method":"mining.suggest_difficulty","params":[{number}]}}"#)
}

#[test]
fn a_burst_raises_the_difficulty_once_a_second_with_a_clean_job() {
    let mut pair = Pair::mining(steered());
    burst(&mut pair, 0, 8);
    assert_eq!(pair.outcomes(), [ShareOutcome::Accepted; 8]);
    pair.pass(SECOND);
    assert_eq!(told(&pair), STEERED, "eight are not too many");
    let mut pair = Pair::mining(steered());
    let mut all = STEERED;
    for step in 0..4 {
        pair.lines();
        // Those behind the ninth are of the old difficulty by then: they change nothing.
        burst(&mut pair, step * 1_000_000, 30);
        assert_eq!(pair.outcomes(), [ShareOutcome::Accepted; 30]);
        pair.pass(SECOND);
        all *= 4.0;
        assert_eq!(told(&pair), all);
        let lines = pair.lines();
        let said = lines.iter().filter(|line| is_set_difficulty(line)).count();
        assert_eq!((said, kinds(&lines[lines.len() - 2..])), (1, "difficulty clean".to_owned()));
        let number: f64 = lines[lines.len() - 2]
            .rsplit(['[', ']'])
            .nth(1)
            .and_then(|text| text.parse().ok())
            .expect("a number");
        assert_eq!(number.to_bits(), all.to_bits(), "announced as it is judged");
    }
}

#[test]
fn only_shares_of_the_newest_difficulty_count() {
    let mut pair = Pair::mining(steered());
    let before: Vec<_> = (0..40).map(|nth| pair.good(nth * 100_000_000).line(5)).collect();
    burst(&mut pair, 0, 9);
    pair.pass(SECOND);
    assert_eq!(told(&pair), 4.0 * STEERED);
    for lines in before.chunks(10) {
        pair.pass(1_000);
        pair.bytes((lines.join("\n") + "\n").as_bytes());
        assert_eq!(pair.outcomes().last(), Some(&ShareOutcome::Accepted), "they are paid for");
    }
    pair.pass(2 * SECOND);
    assert_eq!(told(&pair), 4.0 * STEERED, "forty in flight raise nothing");
}

#[test]
fn what_is_no_good_share_does_not_count() {
    let mut pair = Pair::mining(steered());
    let good = pair.good(0).line(5);
    for nth in 0..20 {
        pair.say(&pair.poor(nth * 1_000).line(6));
        pair.say(&good);
    }
    pair.pass(2 * SECOND);
    assert_eq!(told(&pair), STEERED);
}

#[test]
fn one_difficulty_is_never_left() {
    let only = difficulty(STEERED);
    let bounds = Settings { minimum_difficulty: only, maximum_difficulty: only, ..steered() };
    let mut pair = Pair::mining(bounds);
    pair.say(&suggest("4096"));
    burst(&mut pair, 0, 40);
    pair.pass(2 * SECOND);
    assert_eq!(told(&pair), STEERED);
    for _ in 0..100 {
        pair.pass(30 * SECOND);
    }
    assert!(!pair.lines().iter().any(|line| is_set_difficulty(line)));
}

#[test]
fn the_time_without_work_is_no_silence() {
    let mut pair = Pair::with(Settings { start_difficulty: difficulty(1_024.0), ..real() });
    pair.shake_hands();
    for _ in 0..120 {
        pair.pass(30 * SECOND);
    }
    assert_eq!(told(&pair), 1_024.0, "an hour without a job");
    pair.adopt(job(1, 1, pair.now));
    pair.pass(80 * SECOND);
    assert_eq!(told(&pair), 1_024.0);
    pair.pass(5 * SECOND);
    pair.pass(SECOND);
    assert_eq!(told(&pair), 64.0, "83 s with one");
}

#[test]
fn silence_is_asked_for_when_it_is_due() {
    let mut pair = Pair::mining(Settings { start_difficulty: difficulty(1_024.0), ..real() });
    let begun = pair.now;
    while told(&pair) == 1_024.0 {
        assert!(pair.wait > pair.now, "it would spin");
        pair.pass(pair.wait.since(pair.now));
    }
    let waited = pair.now.since(begun) / SECOND;
    assert!((80..90).contains(&waited), "{waited} s");
}

#[test]
fn a_hint_is_a_start_and_forgotten_with_the_first_share() {
    let mut pair = arriving(steered());
    pair.say(&subscribe("miner/1.0"));
    pair.say(&suggest("0.000001"));
    pair.say(AUTHORIZE);
    let power_of_two = 1.0 / 1_048_576.0;
    assert_eq!(told(&pair), power_of_two, "0.00000095");
    pair.say(&suggest("0.00000012"));
    pair.pass(SECOND);
    assert_eq!(told(&pair), STEERED, "after the first job as well");
    burst(&mut pair, 0, 1);
    pair.say(&suggest("0.000001"));
    pair.pass(2 * SECOND);
    assert_eq!(told(&pair), STEERED);
}

#[test]
fn hints_are_answered_and_those_that_are_numbers_are_heeded_within_the_bounds() {
    let (least, most) = (1.0, 4_294_967_296.0);
    let bounded = || Settings {
        minimum_difficulty: difficulty(least),
        maximum_difficulty: difficulty(most),
        ..real()
    };
    for (number, wanted) in [
        ("0", 16_384.0),
        ("-1", 16_384.0),
        ("\"x\"", 16_384.0),
        ("null", 16_384.0),
        ("{}", 16_384.0),
        ("1e999", 16_384.0),
        ("1e-300", least),
        ("4294967296", most),
        ("5000000000", most),
        ("1e18", most),
        ("18446744073709551616", most),
        ("1e300", most),
    ] {
        let mut pair = arriving(bounded());
        pair.say(&subscribe("miner/1.0"));
        pair.lines();
        assert_eq!(pair.ask(&suggest(number)).len(), 1, "{number} has its answer");
        pair.say(AUTHORIZE);
        assert_eq!((told(&pair), pair.closed), (wanted, None), "{number}");
    }
    let target = |digit: &str| {
        let target = digit.repeat(64);
        format!(r#"{{"id":7,"method":"mining.suggest_target","params":["{target}"]}}"#)
    };
    for (digit, wanted) in [("0", 16_384.0), ("f", least)] {
        let mut pair = arriving(bounded());
        pair.say(&subscribe("miner/1.0"));
        pair.say(&target(digit));
        pair.say(AUTHORIZE);
        assert_eq!(told(&pair), wanted, "target {digit}");
    }
}

#[test]
fn a_suggested_target_is_a_hint() {
    let mut pair = arriving(real());
    pair.say(&subscribe("miner/1.0"));
    let target = format!("{:0>8}ffff{:0<52}", "", "");
    pair.say(&format!(r#"{{"id":7,"method":"mining.suggest_target","params":["{target}"]}}"#));
    pair.say(AUTHORIZE);
    assert_eq!(told(&pair), 1.0);
}

#[test]
fn no_difficulty_is_above_a_blocks() {
    let network_target = Target::from_difficulty(difficulty(1_000.0));
    for (minimum, wanted) in [(1.0, 512.0), (4_096.0, 4_096.0)] {
        let settings = Settings { minimum_difficulty: difficulty(minimum), ..real() };
        let mut pair = Pair::with(settings.clone());
        pair.adopt(Job { network_target, ..job(1, 1, pair.now) });
        pair.shake_hands();
        assert_eq!(told(&pair), wanted, "and not below the minimum");
        // The network is known with the first job only.
        let mut pair = Pair::with(settings);
        pair.shake_hands();
        assert_eq!(told(&pair), 16_384.0);
        pair.adopt(Job { network_target, ..job(1, 1, pair.now) });
        pair.pass(SECOND);
        pair.pass(30 * SECOND);
        assert_eq!(told(&pair), wanted);
    }
}

#[test]
fn the_farm_may_impose_a_difficulty() {
    let mut pair = Pair::mining(steered());
    burst(&mut pair, 0, 5);
    pair.input(Input::Policy(Policy::Difficulty(difficulty(3e-7))));
    pair.pass(SECOND);
    assert_eq!(told(&pair), 3e-7);
    burst(&mut pair, 0, 5);
    pair.pass(SECOND);
    assert_eq!(told(&pair), 3e-7, "the shares from before are forgotten");
}
