//! Where a worker had settled is where its next connection starts, and what settling is.

use super::*;
use crate::{Class, Remembered, Settled};

fn settled(pair: &mut Pair) -> Vec<Settled> {
    let events = core::mem::take(&mut pair.events);
    let settled = |event| match event {
        Event::Settled(settled) => Some(settled),
        _ => None,
    };
    events.into_iter().filter_map(settled).collect()
}

/// Finds so many shares, one each five seconds.
fn find(pair: &mut Pair, shares: u32) {
    for nth in 0..shares {
        pair.pass(5 * SECOND);
        let share = pair.good(nth * 10_000_000);
        pair.say(&share.line(5));
    }
}

fn remember(pair: &mut Pair, worker: &str, number: f64, class: Class) {
    let settled = Settled { difficulty: difficulty(number), class };
    pair.shared.remember(Remembered { worker: worker.into(), settled });
}

/// A miner of the class Antminer that is known by its name, with what it says before it authorizes.
fn known(settings: Settings, number: f64, class: Class, says: &[&str]) -> Pair {
    let mut pair = Pair::with(settings);
    remember(&mut pair, "w", number, class);
    pair.adopt(job(1, 1, pair.now));
    pair.say(r#"{"id":2,"method":"mining.subscribe","params":["Antminer S19/1"]}"#);
    says.iter().for_each(|line| pair.say(line));
    pair
}

fn told(pair: &Pair) -> f64 {
    pair.machine.difficulty().get()
}

#[test]
fn sixteen_shares_at_one_difficulty_settle_it_once() {
    let mut pair = Pair::mining(steered());
    find(&mut pair, 15);
    assert_eq!(settled(&mut pair), []);
    find(&mut pair, 1);
    let here = Settled { difficulty: difficulty(STEERED), class: Class::Unknown };
    assert_eq!(settled(&mut pair), [here]);
    find(&mut pair, 100);
    assert_eq!(settled(&mut pair), []);
}

#[test]
fn a_flood_settles_nothing_and_what_follows_it_does() {
    let mut pair = Pair::mining(steered());
    for nth in 0..9 {
        let share = pair.good(nth * 10_000_000);
        pair.say(&share.line(5));
    }
    pair.pass(SECOND);
    assert_eq!(told(&pair), 4.0 * STEERED);
    find(&mut pair, 15);
    assert_eq!(settled(&mut pair), [], "those of before do not count");
    find(&mut pair, 1);
    assert_eq!(settled(&mut pair)[0].difficulty.get(), 4.0 * STEERED);
}

#[test]
fn shares_that_are_refused_and_a_fixed_difficulty_settle_nothing() {
    let mut pair = Pair::mining(steered());
    for nth in 0..40 {
        pair.pass(SECOND);
        pair.say(&pair.poor(nth * 1_000).line(6));
    }
    assert_eq!(settled(&mut pair), []);
    let only = difficulty(STEERED);
    let mut pair =
        Pair::mining(Settings { minimum_difficulty: only, maximum_difficulty: only, ..steered() });
    find(&mut pair, 20);
    assert_eq!(settled(&mut pair), []);
}

#[test]
fn a_known_worker_starts_where_it_had_settled() {
    let mut pair = known(real(), 131_072.0, Class::Antminer, &[AUTHORIZE]);
    assert_eq!(told(&pair), 131_072.0);
    let said: Vec<String> =
        pair.lines().into_iter().filter(|line| is_set_difficulty(line)).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("[131072]"), "{said:?}");
}

#[test]
fn a_name_is_known_by_its_firmware_too() {
    let pair = known(real(), 131_072.0, Class::Bitaxe, &[AUTHORIZE]);
    assert_eq!(told(&pair), 16_384.0, "another machine has the name now");
}

#[test]
fn what_the_miner_asks_for_goes_before_what_is_remembered() {
    let suggests = r#"{"id":7,"method":"mining.suggest_difficulty","params":[1024]}"#;
    let password = r#"{"id":3,"method":"mining.authorize","params":["w","d=512"]}"#;
    for (says, wanted) in [
        (&[suggests, AUTHORIZE][..], 1_024.0),
        (&[AUTHORIZE, suggests][..], 1_024.0),
        (&[suggests, password][..], 512.0),
        (&[password][..], 512.0),
    ] {
        let mut pair = known(real(), 131_072.0, Class::Antminer, says);
        pair.pass(2 * SECOND);
        assert_eq!(told(&pair), wanted, "{says:?}");
    }
}

#[test]
fn what_is_remembered_is_held_to_the_bounds_of_today() {
    let (minimum, maximum) = (difficulty(256.0), difficulty(65_536.0));
    let bounds = Settings { minimum_difficulty: minimum, maximum_difficulty: maximum, ..real() };
    for (number, wanted) in [(1.0, 256.0), (1e15, 65_536.0), (3_000.0, 4_096.0), (1e-300, 256.0)] {
        let pair = known(bounds.clone(), number, Class::Antminer, &[AUTHORIZE]);
        assert_eq!(told(&pair), wanted, "{number}");
    }
    let fixed = Settings { maximum_difficulty: minimum, start_difficulty: minimum, ..bounds };
    let pair = known(fixed, 131_072.0, Class::Antminer, &[AUTHORIZE]);
    assert_eq!(told(&pair), 256.0, "there is but one");
}

#[test]
fn the_first_name_of_a_connection_is_the_one_that_counts() {
    let second = r#"{"id":4,"method":"mining.authorize","params":["other","x"]}"#;
    let mut pair = known(real(), 131_072.0, Class::Antminer, &[]);
    remember(&mut pair, "other", 1_024.0, Class::Antminer);
    pair.say(AUTHORIZE);
    pair.say(second);
    pair.pass(2 * SECOND);
    assert_eq!(told(&pair), 131_072.0);
}
