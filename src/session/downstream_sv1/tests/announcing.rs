//! Which work and which difficulty is announced, when, and in which order with the answers.

use super::*;
use crate::Policy;

fn want(pair: &mut Pair, number: f64) {
    pair.input(Input::Policy(Policy::Difficulty(difficulty(number))));
}

#[test]
fn difficulty_and_first_job_come_after_both_answers() {
    let mut pair = Pair::new();
    pair.adopt(job(1, 1, pair.now));
    assert_eq!(kinds(&pair.ask(SUBSCRIBE)), "2");
    let lines = pair.ask(AUTHORIZE);
    assert_eq!(kinds(&lines), "3 difficulty clean");
    assert!(lines[1].ends_with(r#""params":[0.0000001]}"#), "{}", lines[1]);
    assert!(lines[2].contains(&format!(r#""params":["1{CURTIME:x}","#)));
    assert_eq!(pair.events.last(), Some(&Event::Mining));
}

#[test]
fn without_a_job_the_difficulty_is_the_sign_of_life() {
    let mut pair = Pair::new();
    pair.ask(SUBSCRIBE);
    assert_eq!(kinds(&pair.ask(AUTHORIZE)), "3 difficulty");
    assert_eq!(pair.wait, pair.now.plus_micros(30 * SECOND));
    pair.pass(30 * SECOND - 1);
    assert_eq!(pair.lines(), [""; 0]);
    pair.pass(1);
    assert_eq!(kinds(&pair.lines()), "difficulty");
    pair.adopt(job(1, 1, pair.now));
    assert_eq!(kinds(&pair.lines()), "clean", "the difficulty is known");
}

#[test]
fn keep_alive_is_the_rendering_of_the_present_second() {
    let mut pair = Pair::mining(easy());
    let start = pair.now;
    assert_eq!(pair.wait, start.plus_micros(30 * SECOND));
    pair.pass(30 * SECOND);
    let lines = pair.lines();
    assert_eq!(kinds(&lines), "notify");
    assert!(lines[0].contains(&format!(r#""params":["1{:x}","#, CURTIME + 30)), "{lines:?}");
    assert_eq!(pair.wait, start.plus_micros(60 * SECOND));
}

#[test]
fn only_news_that_voids_old_work_is_clean() {
    let mut pair = Pair::mining(easy());
    pair.adopt(job(2, 1, pair.now));
    assert_eq!(kinds(&pair.lines()), "notify", "same tip");
    pair.adopt(job(3, 2, pair.now));
    assert_eq!(kinds(&pair.lines()), "clean", "a new tip");
    pair.adopt(Job { replaces_coinbase_only: true, ..job(4, 2, pair.now) });
    assert_eq!(kinds(&pair.lines()), "clean", "a coinbase-only job is replaced");
    pair.adopt(job(5, 2, pair.now));
    assert_eq!(kinds(&pair.lines()), "notify");
}

#[test]
fn newest_replaces_older_unsent_and_clean_is_not_lost() {
    let mut pair = Pair::mining(easy());
    pair.sending = true;
    pair.adopt(job(2, 2, pair.now));
    pair.adopt(job(3, 2, pair.now));
    pair.adopt(job(4, 2, pair.now));
    pair.sent();
    let lines = pair.lines();
    assert_eq!(kinds(&lines), "clean");
    assert!(lines[0].contains(r#""params":["46553f1"#));
}

#[test]
fn a_step_goes_with_a_clean_job_at_most_once_a_second() {
    let mut pair = Pair::mining(easy());
    let start = pair.now;
    // In the second of the last rendering there is no new id: it waits.
    want(&mut pair, 4.0);
    assert_eq!(pair.lines(), [""; 0]);
    assert_eq!(pair.wait, start.plus_micros(SECOND));
    pair.pass(SECOND);
    let lines = pair.lines();
    assert_eq!(kinds(&lines), "difficulty clean");
    assert!(lines[0].ends_with("[4]}"), "{lines:?}");
    // Two more wishes at once: the last one counts, a second later.
    want(&mut pair, 16.0);
    want(&mut pair, 64.0);
    assert_eq!(pair.lines(), [""; 0]);
    pair.pass(SECOND);
    let lines = pair.lines();
    assert_eq!(kinds(&lines), "difficulty clean");
    assert!(lines[0].ends_with("[64]}"));
    assert_eq!(pair.machine.difficulty(), difficulty(64.0));
    // A wish that is taken back is no step.
    want(&mut pair, 1.0);
    want(&mut pair, 64.0);
    pair.pass(SECOND);
    assert_eq!(pair.lines(), [""; 0]);
}

#[test]
fn a_new_job_does_not_wait_for_a_step_nor_a_step_for_a_job() {
    let mut pair = Pair::mining(easy());
    want(&mut pair, 4.0);
    // Within the second of the last step the job comes alone.
    pair.adopt(job(2, 1, pair.now));
    assert_eq!(kinds(&pair.lines()), "notify");
    pair.pass(2 * SECOND);
    assert_eq!(kinds(&pair.lines()), "difficulty clean");
    pair.pass(2 * SECOND);
    want(&mut pair, 8.0);
    assert_eq!(kinds(&pair.lines()), "difficulty clean", "a second of its own: at once");
}

#[test]
fn every_id_is_announced_once() {
    let mut pair = Pair::mining(easy());
    let mut number = 1;
    for step in 0..400_u64 {
        if step % 7 == 0 {
            number += 1;
            pair.adopt(job(number, 1 + number / 5, pair.now));
        }
        if step % 3 == 0 {
            want(&mut pair, 1.0 + (step % 5) as f64);
        }
        pair.pass(step * 7_919 % 1_700_000);
    }
    let notifies: Vec<_> = pair.lines().into_iter().filter(|line| is_notify(line)).collect();
    let id = |line: &String| line.split('"').nth(9).expect("the id").to_owned();
    let ids: std::collections::BTreeSet<_> = notifies.iter().map(id).collect();
    assert!(notifies.len() > 100, "{}", notifies.len());
    assert_eq!(ids.len(), notifies.len());
}

#[test]
fn late_shares_are_judged_by_the_difficulty_of_their_job() {
    let mut pair = Pair::mining(easy());
    let before = pair.good(0);
    want(&mut pair, 1e12);
    pair.pass(SECOND);
    assert_eq!(kinds(&pair.lines()), "difficulty clean");
    assert_eq!(pair.ask(&before.line(5)), [r#"{"id":5,"result":true,"error":null}"#]);
    let after = pair.search(pair.id(), 0, |_| true);
    assert!(pair.ask(&after.line(6))[0].contains("[23,"));
    let Some(Event::Share(share)) = pair.events.first() else { panic!("{:?}", pair.events) };
    assert_eq!((share.outcome, share.difficulty), (ShareOutcome::Accepted, 1e-7));
    assert!(share.hash_difficulty >= 1e-7);
}

#[test]
fn ids_that_were_never_announced_are_unknown() {
    let mut pair = Pair::mining(easy());
    pair.pass(30 * SECOND);
    want(&mut pair, 1e12);
    pair.pass(30 * SECOND);
    pair.lines();
    let known = [CURTIME, CURTIME + 30, CURTIME + 60];
    for second in CURTIME - 10..CURTIME + 100 {
        let id = RenderId { number: 1, second };
        let line = pair.search(id, 0, |_| true).line(5);
        let unknown = pair.ask(&line)[0].contains(r#"[21,"job not found""#);
        // Between two renderings of one difficulty an id is harmless; outside it is unknown.
        let harmless = (CURTIME..CURTIME + 31).contains(&second);
        assert_eq!(unknown, !harmless && !known.contains(&second), "{second}");
    }
}

#[test]
fn a_new_tip_overtakes_answers_to_shares() {
    let mut pair = Pair::mining(easy());
    let shares = [pair.good(0), pair.good(100_000)];
    pair.sending = true;
    pair.say(&shares[0].line(5));
    pair.adopt(job(2, 2, pair.now));
    pair.say(&shares[1].line(6));
    pair.sent();
    let lines = pair.lines();
    assert_eq!(kinds(&lines), "clean 5 6");
    assert!(lines[1].contains("true"));
    assert!(lines[2].contains("[21,"), "stale, and the miner knows why: {lines:?}");
}

#[test]
fn a_stale_answer_never_overtakes_its_tip_even_before_the_job_is_handled() {
    let mut pair = Pair::mining(easy());
    let share = pair.good(0);
    // Adopted by the shard, but this machine's turn of the fan-out has not come yet.
    let _ = pair.shared.adopt(Arc::new(job(2, 2, pair.now)));
    assert_eq!(kinds(&pair.ask(&share.line(5))), "clean 5");
}

#[test]
fn no_notification_goes_before_the_answer_to_a_request() {
    let mut pair = Pair::mining(easy());
    pair.sending = true;
    pair.say(CONFIGURE);
    pair.adopt(job(2, 2, pair.now));
    pair.sent();
    assert_eq!(kinds(&pair.lines()), "1 clean");
}

#[test]
fn a_job_for_the_same_tip_follows_the_answers() {
    let mut pair = Pair::mining(easy());
    let share = pair.good(0);
    pair.sending = true;
    pair.say(&share.line(5));
    pair.adopt(job(2, 1, pair.now));
    pair.sent();
    assert_eq!(kinds(&pair.lines()), "5 notify");
}

#[test]
fn a_ramp_keeps_every_epoch_that_shares_can_still_come_from() {
    let mut pair = Pair::mining(easy());
    let mut olds = Vec::new();
    for step in 1..=15 {
        olds.push(pair.good(0));
        want(&mut pair, 1e-7 + f64::from(step) * 1e-9);
        pair.pass(SECOND);
    }
    for (at, old) in olds.iter().enumerate() {
        assert!(pair.ask(&old.line(5)).last().expect("an answer").contains("true"), "epoch {at}");
    }
}

#[test]
fn what_the_policy_wants_stays_within_the_bounds() {
    let bound = |number| Difficulty::new(number).expect("a positive number");
    let bounds =
        Settings { minimum_difficulty: bound(2.0), maximum_difficulty: bound(8.0), ..easy() };
    for (wanted, told) in [(1.0, 2.0), (2.0, 2.0), (5.0, 5.0), (8.0, 8.0), (9.0, 8.0)] {
        let mut pair = Pair::mining(bounds.clone());
        pair.pass(2 * SECOND);
        pair.input(Input::Policy(crate::Policy::Difficulty(bound(wanted))));
        assert_eq!(pair.machine.difficulty(), bound(told), "{wanted} was wanted");
    }
}
