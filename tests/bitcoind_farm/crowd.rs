//! Miners that find nothing and only listen: which tip each of them works on, when its jobs came,
//! and when its connection ended.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::farm::until;

/// Listeners, each on a connection of its own.
pub(crate) struct Crowd {
    members: Vec<Arc<Mutex<Member>>>,
}

/// What one of them has seen.
#[derive(Default)]
struct Member {
    /// The previous block of its newest job, as `mining.notify` spells it.
    prev_hash: String,
    jobs_at: Vec<Instant>,
    ended_at: Option<Instant>,
}

impl Crowd {
    /// So many listeners, every one of whom has a job.
    pub(crate) fn start(address: SocketAddr, count: usize) -> Crowd {
        let crowd = Crowd { members: (0..count).map(|_| listen(address)).collect() };
        until("a job for each", || crowd.count(|member| !member.jobs_at.is_empty()) == count);
        crowd
    }

    /// Waits until each of them works on this block. None of them may leave meanwhile.
    pub(crate) fn works_on(&self, tip: &str) {
        let wanted = spelled(tip);
        until(&format!("everybody on {tip}"), || {
            assert_eq!(self.ended(), 0, "miners were dropped on the way to {tip}");
            self.count(|member| member.prev_hash == wanted) == self.members.len()
        });
    }

    /// How many connections have ended.
    pub(crate) fn ended(&self) -> usize {
        self.count(|member| member.ended_at.is_some())
    }

    /// When the connections that have ended did so.
    pub(crate) fn ends(&self) -> Vec<Instant> {
        self.members.iter().filter_map(|member| lock(member).ended_at).collect()
    }

    /// Waits until each of them has a job that came at this moment or later; gives when the last of
    /// them had its first.
    pub(crate) fn job_since(&self, moment: Instant) -> Instant {
        let first = |member: &Member| member.jobs_at.iter().find(|at| **at >= moment).copied();
        let has_job = |member: &Member| first(member).is_some();
        until("a new job for each", || self.count(has_job) == self.members.len());
        let firsts = self.members.iter().filter_map(|member| first(&lock(member)));
        firsts.max().expect("each has one")
    }

    fn count(&self, is_so: impl Fn(&Member) -> bool) -> usize {
        self.members.iter().filter(|member| is_so(&lock(member))).count()
    }
}

fn lock(member: &Mutex<Member>) -> std::sync::MutexGuard<'_, Member> {
    member.lock().expect("no thread panics with it")
}

fn listen(address: SocketAddr) -> Arc<Mutex<Member>> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let greeting = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"test/1\"]}\n\
        {\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"farm.listener\",\"x\"]}\n";
    stream.write_all(greeting.as_bytes()).expect("sent");
    let member = Arc::new(Mutex::new(Member::default()));
    let heard = member.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let message: Value = serde_json::from_str(&line).expect("JSON");
            if message["method"] == "mining.notify" {
                let prev_hash = message["params"][1].as_str().expect("a hash").to_owned();
                let mut member = lock(&heard);
                member.prev_hash = prev_hash;
                member.jobs_at.push(Instant::now());
            }
        }
        lock(&heard).ended_at = Some(Instant::now());
    });
    member
}

/// A block's hash as `mining.notify` spells it: its eight words from the last to the first.
fn spelled(hash: &str) -> String {
    let words: Vec<&str> = (0..hash.len()).step_by(8).map(|at| &hash[at..at + 8]).collect();
    words.into_iter().rev().collect()
}
