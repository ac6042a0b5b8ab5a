//! A miner that comes back under its session id: what it finds again, and what it is told.

use super::*;
use crate::{Parked, Policy};

/// Loses the connection; what is left of the session.
fn cut(pair: &mut Pair) -> Option<Parked> {
    let fresh = DownstreamSv1::new(pair.now, &pair.shared, 0xf00d);
    let parked = core::mem::replace(&mut pair.machine, fresh).park();
    pair.received.clear();
    pair.renderings.clear();
    pair.events.clear();
    parked
}

/// Subscribes with the id of the former session, gets it, and authorizes.
fn come_back(pair: &mut Pair, parked: Parked) -> Vec<String> {
    pair.grants = false;
    pair.say(RESUME);
    assert_eq!(pair.question.take(), Some(Question::Resume(SESSION)));
    pair.input(Input::Resumed(&mut Some(Box::new(parked))));
    pair.say(AUTHORIZE);
    pair.all_lines()
}

fn submit(pair: &mut Pair, sub: &Sub) -> ShareOutcome {
    pair.events.clear();
    pair.say(&sub.line(9));
    let outcomes = pair.outcomes();
    assert_eq!(outcomes.len(), 1);
    outcomes[0]
}

const RESUME: &str =
    r#"{"id":2,"method":"mining.subscribe","params":["miner/1.0","0123456789abcdef"]}"#;

#[test]
fn it_finds_its_extranonce_difficulty_and_jobs_again() {
    let mut pair = Pair::mining(easy());
    let at_first = pair.good(0);
    pair.now = pair.now.plus_micros(2 * SECOND);
    pair.input(Input::Policy(Policy::Difficulty(difficulty(2e-7))));
    let later = pair.good(1_000_000);
    assert_ne!(at_first.id, later.id, "two difficulties, two ids");
    let parked = cut(&mut pair).expect("it has worked");
    assert_eq!((parked.session_id(), parked.prefix().as_bytes()), (SESSION, &PREFIX[..]));
    pair.now = pair.now.plus_micros(5 * SECOND);

    let lines = come_back(&mut pair, parked);
    assert_eq!(kinds(&lines), "2 3 difficulty clean");
    assert_eq!(lines[0], SUBSCRIBED);
    assert!(lines[2].contains("0.0000002"), "{}", lines[2]);
    assert!(!lines[3].contains(&at_first.id) && !lines[3].contains(&later.id), "a new id");
    assert_eq!(submit(&mut pair, &at_first), ShareOutcome::Accepted);
    assert_eq!(submit(&mut pair, &later), ShareOutcome::Accepted);
    assert_eq!(submit(&mut pair, &later), ShareOutcome::Duplicate);
    let poor = pair.search(pair.id(), 0, |hash| {
        let target = |number| Target::from_difficulty(difficulty(number));
        target(1e-7).is_met_by(hash) && !target(2e-7).is_met_by(hash)
    });
    assert_eq!(submit(&mut pair, &poor), ShareOutcome::LowDifficulty, "each by its own target");
}

#[test]
fn a_share_that_was_counted_before_is_counted_once() {
    let mut pair = Pair::mining(easy());
    let sub = pair.good(0);
    assert_eq!(submit(&mut pair, &sub), ShareOutcome::Accepted);
    for _ in 0..3 {
        pair.now = pair.now.plus_micros(SECOND);
        let parked = cut(&mut pair).expect("it has worked");
        assert!(parked.has_shares());
        come_back(&mut pair, parked);
        assert_eq!(submit(&mut pair, &sub), ShareOutcome::Duplicate);
    }
}

#[test]
fn its_version_mask_is_kept_or_negotiated_anew() {
    let rolled = |pair: &mut Pair, id: RenderId| {
        let sub = pair.search(id, 0, |hash| {
            Target::from_difficulty(pair.machine.difficulty()).is_met_by(hash)
        });
        let sub = Sub { bits: Some("00002000".into()), ..sub };
        submit(pair, &sub)
    };
    let mut pair = Pair::mining(easy());
    let before = pair.id();
    let parked = cut(&mut pair).expect("it has worked");
    pair.now = pair.now.plus_micros(SECOND);
    come_back(&mut pair, parked);
    assert_eq!(pair.machine.version_mask(), MASK);
    assert_ne!(rolled(&mut pair, before), ShareOutcome::VersionOutsideMask);
    let parked = cut(&mut pair).expect("it has worked");
    pair.now = pair.now.plus_micros(SECOND);
    pair.say(&CONFIGURE.replace("ffffffff", "00006000"));
    come_back(&mut pair, parked);
    assert_eq!(pair.machine.version_mask(), 0x6000);
    assert_ne!(rolled(&mut pair, before), ShareOutcome::VersionOutsideMask);
}

#[test]
fn a_tip_that_changed_meanwhile_is_its_first_job_and_makes_old_shares_stale() {
    let mut pair = Pair::mining(easy());
    let sub = pair.good(0);
    let parked = cut(&mut pair).expect("it has worked");
    pair.now = pair.now.plus_micros(SECOND);
    pair.shared.adopt(Arc::new(job(2, 2, pair.now)));
    let lines = come_back(&mut pair, parked);
    assert_eq!(kinds(&lines), "2 3 difficulty clean");
    assert_eq!(pair.id().number, 2);
    assert_eq!(submit(&mut pair, &sub), ShareOutcome::Stale);
    let new = pair.good(0);
    assert_eq!(submit(&mut pair, &new), ShareOutcome::Accepted);
}

#[test]
fn back_within_the_same_second_it_gets_the_rendering_of_the_next() {
    let mut pair = Pair::mining(easy());
    let before = pair.id();
    let parked = cut(&mut pair).expect("it has worked");
    let lines = come_back(&mut pair, parked);
    assert_eq!(kinds(&lines), "2 3", "its last job was of this very second");
    assert!(pair.wait.since(pair.now) <= SECOND, "and the next one begins soon");
    pair.now = pair.wait;
    pair.input(Input::Timer);
    assert_eq!(kinds(&pair.lines()), "difficulty clean");
    assert!(pair.id() > before);
}

#[test]
fn a_shard_that_is_behind_sends_nobody_back() {
    let mut ahead = Pair::mining(easy());
    ahead.adopt(job(2, 2, ahead.now));
    let sub = ahead.good(0);
    assert_eq!(submit(&mut ahead, &sub), ShareOutcome::Accepted);
    let parked = cut(&mut ahead).expect("it has worked");

    // A shard without any job yet, then with the one before, then with the same.
    let mut pair = Pair::with(easy());
    pair.now = ahead.now;
    assert_eq!(kinds(&come_back(&mut pair, parked)), "2 3");
    pair.adopt(job(1, 1, pair.now));
    pair.pass(60 * SECOND);
    assert_eq!((kinds(&pair.all_lines()), pair.closed), (String::new(), None));
    pair.adopt(job(2, 2, ahead.now));
    assert_eq!(kinds(&pair.all_lines()), "difficulty clean");
    assert_eq!(submit(&mut pair, &sub), ShareOutcome::Duplicate, "not forgotten on the way");
}

#[test]
fn lost_again_before_it_authorized_it_can_come_back_once_more() {
    let mut pair = Pair::mining(easy());
    let sub = pair.good(0);
    let parked = cut(&mut pair).expect("it has worked");
    pair.grants = false;
    pair.say(RESUME);
    pair.input(Input::Resumed(&mut Some(Box::new(parked))));
    let parked = cut(&mut pair).expect("it is its session already");
    pair.now = pair.now.plus_micros(SECOND);
    come_back(&mut pair, parked);
    assert_eq!(submit(&mut pair, &sub), ShareOutcome::Accepted);
}

#[test]
fn without_work_there_is_nothing_to_come_back_to() {
    let mut pair = Pair::new();
    assert!(cut(&mut pair).is_none(), "not subscribed");
    pair.shake_hands();
    assert!(cut(&mut pair).is_none(), "no job was ever there");
    pair.adopt(job(1, 1, pair.now));
    pair.say(SUBSCRIBE);
    assert!(cut(&mut pair).is_none(), "not authorized, so never given one");
}

#[test]
fn b11_an_id_that_is_none_of_ours_is_ignored() {
    let ids = ["b08cf00d1", "", "xyz", "0123456789abcde", "0123456789abcdef0", "+123456789abcdef"];
    for id in ids {
        let mut pair = Pair::new();
        let line = RESUME.replace("0123456789abcdef", id);
        assert_eq!(pair.ask(&line), [SUBSCRIBED], "{id:?}");
        assert_eq!(pair.question, Some(Question::Prefix), "{id:?}");
    }
    let mut pair = Pair::new();
    assert_eq!(pair.ask(&RESUME.replace("abcdef", "ABCDEF")), [SUBSCRIBED]);
    assert_eq!(pair.question, Some(Question::Resume(SESSION)), "hex of either case");
}

#[test]
fn who_has_a_session_already_asks_for_no_other() {
    let mut pair = Pair::mining(easy());
    let asked = pair.asked;
    assert_eq!(pair.ask(&RESUME.replace("0123456789", "9876543210")), [SUBSCRIBED]);
    assert_eq!(pair.asked, asked);
}

#[test]
fn a_parked_session_is_small() {
    let mut pair = Pair::mining(easy());
    for from in 0..20 {
        let sub = pair.good(from * 100_000);
        submit(&mut pair, &sub);
    }
    let parked = cut(&mut pair).expect("it has worked");
    println!("{} bytes", parked.memory_bytes());
    assert!(parked.memory_bytes() <= 1_200, "{} bytes", parked.memory_bytes());
}

/// A miner that was told two difficulties while there was no work takes them up with its next two
/// jobs; on a new connection it has heard none of them.
#[test]
fn difficulties_that_were_said_without_work_are_not_waited_for_after_it() {
    let mut pair = Pair::new();
    pair.shake_hands();
    pair.pass(31 * SECOND);
    pair.pass(31 * SECOND);
    pair.adopt(job(1, 1, pair.now));
    assert_eq!(kinds(&pair.all_lines()), "difficulty difficulty clean");
    pair.input(Input::Policy(Policy::Difficulty(difficulty(2e-7))));
    let parked = cut(&mut pair).expect("it has work");
    pair.now = pair.now.plus_micros(SECOND);
    let lines = come_back(&mut pair, parked);
    assert_eq!(kinds(&lines), "2 3 difficulty clean");
    assert!(lines[2].contains("0.0000002"), "{}", lines[2]);
}

#[test]
fn f12_a_loop_of_reconnects_costs_a_miner_nothing_that_it_had() {
    let mut pair = Pair::mining(steered());
    let mut nonce = 0;
    for _ in 0..9 {
        let share = pair.good(nonce);
        nonce = share.nonce_number + 1;
        assert_eq!(submit(&mut pair, &share), ShareOutcome::Accepted);
    }
    pair.pass(SECOND);
    for round in 0..50 {
        assert_eq!(pair.machine.difficulty().get(), 4.0 * STEERED, "round {round}");
        let share = pair.good(round * 1_000_000);
        let parked = cut(&mut pair).expect("it has worked");
        // It was away: no silence of it says anything.
        pair.now = pair.now.plus_micros(500 * SECOND);
        assert_eq!(kinds(&come_back(&mut pair, parked)), "2 3 difficulty clean");
        assert_eq!(submit(&mut pair, &share), ShareOutcome::Accepted, "in flight, round {round}");
        pair.pass(2 * SECOND);
    }
}
