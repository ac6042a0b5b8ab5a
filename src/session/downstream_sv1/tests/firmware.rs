//! The habits of firmware in the field, one test each, named by its id in the list of
//! `docs/protocol.md`, which says where the habit was seen. What a whole machine says from power on
//! is in `transcripts`; here is what it says at one moment, and what it must hear.

mod difficulty;
mod extranonce;
mod framing;
mod handshake;
mod submit;
mod version_rolling;

use super::*;

/// ESP-Miner's first three lines, which it sends without waiting for answers.
const BITAXE: [&str; 3] = [
    concat!(
        r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],"#,
        r#"{"version-rolling.mask":"ffffffff"}]}"#
    ),
    r#"{"id":2,"method":"mining.subscribe","params":["bitaxe/BM1368/v2.9.0b3"]}"#,
    r#"{"id":3,"method":"mining.authorize","params":["w","x"]}"#,
];

/// Connected, with job 1 at hand.
fn connected() -> Pair {
    let mut pair = Pair::new();
    pair.adopt(job(1, 1, pair.now));
    pair
}

/// Mining as `w` on job 1, without version rolling.
fn plain() -> Pair {
    let mut pair = connected();
    pair.say(SUBSCRIBE);
    pair.say(AUTHORIZE);
    pair.lines();
    pair.events.clear();
    pair
}

/// Subscribed under this name, and nothing else.
fn subscribed(agent: &str) -> Pair {
    let mut pair = connected();
    pair.say(&format!(r#"{{"id":1,"method":"mining.subscribe","params":["{agent}"]}}"#));
    pair.lines();
    pair
}

fn authorize(id: u32, name: &str) -> String {
    format!(r#"{{"id":{id},"method":"mining.authorize","params":["{name}","x"]}}"#)
}

fn configure(params: &str) -> String {
    format!(r#"{{"id":1,"method":"mining.configure","params":{params}}}"#)
}

fn accepted(id: u32) -> String {
    format!(r#"{{"id":{id},"result":true,"error":null}}"#)
}

fn refused(id: u32, code: i32, text: &str) -> String {
    format!(r#"{{"id":{id},"result":null,"error":[{code},"{text}",null]}}"#)
}

fn want(pair: &mut Pair, number: f64) {
    pair.input(Input::Policy(crate::Policy::Difficulty(difficulty(number))));
}

/// The job's id in a notify.
fn job_id(notify: &str) -> &str {
    assert!(is_notify(notify), "{notify}");
    notify.split('"').nth(9).expect("the id")
}
