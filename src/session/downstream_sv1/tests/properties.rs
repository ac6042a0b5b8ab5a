//! What holds for any split of the bytes, any order of the verdicts, any garbage.

use super::*;
use crate::{Command, Policy, REPLIES_QUEUED_MAX, SEND_BYTES_MAX};
use proptest::prelude::*;

/// A whole conversation: handshake, good and bad shares, requests between them.
fn conversation() -> Vec<String> {
    let pair = Pair::mining(easy());
    let good = [pair.good(0), pair.good(50_000), pair.good(90_000)];
    let poor = pair.poor(0);
    let mut stranger = good[2].clone();
    stranger.worker = "stranger".into();
    vec![
        CONFIGURE.into(),
        SUBSCRIBE.into(),
        AUTHORIZE.into(),
        good[0].line(11),
        poor.line(12),
        r#"{"id":13,"method":"mining.ping","params":[]}"#.into(),
        good[0].line(14),
        good[1].line(15),
        stranger.line(16),
        r#"{"id":17,"method":"mining.what","params":[]}"#.into(),
        good[1].line(18),
        good[2].line(19),
    ]
}

/// What the conversation must give, whatever the split.
fn expected() -> Vec<String> {
    let mut pair = Pair::with(easy());
    pair.adopt(job(1, 1, pair.now));
    let lines: Vec<_> = conversation().iter().flat_map(|line| pair.ask(line)).collect();
    assert_eq!(kinds(&lines), "1 2 3 difficulty clean 11 12 13 14 15 16 17 18 19");
    let trues = lines.iter().filter(|line| line.contains(r#""result":true"#)).count();
    assert_eq!(trues, 4, "authorize and three shares: {lines:#?}");
    lines
}

/// The answers alone: when the job comes between them depends on when they were said.
fn answers(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| !line.contains(r#""id":null"#)).collect()
}

proptest! {
    #[test]
    fn any_split_and_any_order_of_verdicts_give_the_same_answers(
        cuts in prop::collection::vec(1..90_usize, 1..60),
        choices in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let mut pair = Pair::with(easy());
        pair.adopt(job(1, 1, pair.now));
        pair.hashes = false;
        let said = conversation();
        // The job must be there before the shares that are on it.
        for line in &said[..3] {
            pair.say(line);
        }
        let bytes = format!("{}\r\n", said[3..].join("\r\n\n")).into_bytes();
        let mut rest = &bytes[..];
        let mut open: Vec<(Ticket, ShareToCheck)> = Vec::new();
        let (mut cuts, mut choices) = (cuts.iter().cycle(), choices.iter().cycle());
        while !rest.is_empty() || !open.is_empty() {
            let choice = usize::from(*choices.next().expect("a cycle"));
            pair.sending = choice & 4 != 0 && !rest.is_empty();
            if open.is_empty() || (choice & 1 == 0 && !rest.is_empty()) {
                let cut = rest.len().min(*cuts.next().expect("a cycle"));
                pair.bytes(&rest[..cut]);
                rest = &rest[cut..];
            } else {
                let (ticket, check) = open.remove((choice >> 3) % open.len());
                let verdict = Verdict { hash: pair.hash(&check) };
                pair.input(Input::Verdicts(&[(ticket, verdict)]));
            }
            open.append(&mut pair.checks);
        }
        pair.sent();
        prop_assert_eq!(answers(pair.lines()), answers(expected()));
        prop_assert_eq!(pair.closed, None);
    }

    #[test]
    fn garbage_never_panics_and_memory_stays_within_its_limits(
        pieces in prop::collection::vec(piece(), 0..60),
        begin in any::<bool>(),
    ) {
        let mut pair = if begin { Pair::mining(easy()) } else { Pair::new() };
        for (bytes, sending) in pieces {
            pair.sending = sending;
            pair.bytes(&bytes);
            let limit = wire::sv1::LINE_BYTES_MAX + REPLIES_QUEUED_MAX * 600;
            prop_assert!(pair.machine.memory_bytes() <= limit);
            prop_assert!(pair.received.len() <= SEND_BYTES_MAX + 8_192);
            pair.received.clear();
            pair.events.clear();
        }
    }

    #[test]
    fn any_sequence_of_inputs_keeps_the_rules(steps in prop::collection::vec(step(), 0..80)) {
        let mut pair = Pair::with(easy());
        let mut number = 0;
        for step in steps {
            let closed = pair.closed;
            let heard = pair.received.len();
            take(&mut pair, &mut number, &step);
            if closed.is_some() {
                prop_assert_eq!(pair.closed, closed);
                prop_assert_eq!(pair.received.len(), heard, "inert after the close");
            } else if pair.closed.is_none() && !pair.sending {
                prop_assert!(pair.wait > pair.now, "a deadline in the past would spin");
            }
        }
        let ids = pair.renderings.iter().map(|rendering| (rendering.job, rendering.second));
        let distinct: std::collections::BTreeSet<_> = ids.clone().collect();
        prop_assert_eq!(distinct.len(), ids.count(), "an id is announced once");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Say(usize),
    Good(u32),
    Twice(u32),
    Adopt { same_tip: bool },
    Want(f64),
    Pass(u64),
    Sending(bool),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_usize).prop_map(Step::Say),
        4 => (0..100_000_u32).prop_map(Step::Good),
        1 => (0..100_000_u32).prop_map(Step::Twice),
        2 => any::<bool>().prop_map(|same_tip| Step::Adopt { same_tip }),
        2 => (1..9_u32).prop_map(|factor| Step::Want(f64::from(factor) * 1e-8)),
        3 => (0..3_000_000_u64).prop_map(Step::Pass),
        2 => any::<bool>().prop_map(Step::Sending),
        1 => Just(Step::Drain),
    ]
}

fn take(pair: &mut Pair, number: &mut u32, step: &Step) {
    match step {
        Step::Say(0..4) => pair.say(SUBSCRIBE),
        Step::Say(4..8) => pair.say(AUTHORIZE),
        Step::Say(_) => pair.say(CONFIGURE),
        // Who hears of no new job has nothing but a job that is long gone.
        Step::Good(from) | Step::Twice(from)
            if !pair.renderings.is_empty() && pair.closed.is_none() && !pair.sending =>
        {
            let line = pair.good(*from).line(5);
            pair.say(&line);
            if matches!(step, Step::Twice(_)) {
                pair.say(&line);
            }
        }
        Step::Good(_) | Step::Twice(_) => {
            pair.say(&Sub::on(RenderId { number: 1, second: 1 }).line(5))
        }
        Step::Adopt { same_tip } => {
            *number += 1;
            let tip = pair.shared.tip().max(1) + u32::from(!same_tip);
            pair.adopt(job(*number, tip, pair.now));
        }
        Step::Want(wanted) => pair.input(Input::Policy(Policy::Difficulty(difficulty(*wanted)))),
        Step::Pass(micros) => pair.pass(*micros),
        Step::Sending(true) => pair.sending = true,
        Step::Sending(false) => pair.sent(),
        Step::Drain => pair.input(Input::Command(Command::Drain)),
    }
}

/// Random bytes, or lines that nearly are requests.
fn piece() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        concat!(
            r#"\{"id":[0-9a-z"\[\]]{1,4},"method":"mining\.[a-z]{4,9}","#,
            r#""params":[\[\]{}",0-9a-f:]{2,90}\}\n"#
        )
        .prop_map(String::into_bytes),
        concat!(
            r#"\{"id":1,"method":"mining\.(submit|subscribe|authorize|configure)","#,
            r#""params":\[("w",|"16553f100",|"00000001",|null,|7,|\{\},){0,"#,
            r#"6}"6553f100"\]\}\n"#
        )
        .prop_map(String::into_bytes),
        Just(format!("{SUBSCRIBE}\n{AUTHORIZE}\n").into_bytes()),
    ];
    (bytes, prop::bool::weighted(0.2))
}
