//! The handle, and a whole farm whose process ends while it finds a block. Real sockets, the real
//! coordinator and a real journal; only the panics are the test's.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command as Process;

use node::blocks::Journal;
use pow::{Difficulty, Hash256, Template};
use shard::{AllowList, Guard, Panicked};
use wire::sv1::write::client;
use wire::sv1::{ServerMessage, parse_server};

use super::*;
use crate::Listen;
use crate::guard::Fence;
use crate::plane::live;

/// As the journal and the template have it.
const CHAIN: &str = "regtest";
const BITS: u32 = 0x207f_ffff;

#[test]
fn the_handle_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Engine>();
}

#[test]
fn a_block_of_the_turn_that_ends_the_process_is_journaled_first() {
    let name = "a_block_of_the_turn_that_ends_the_process_is_journaled_first";
    check_the_last_block(name, Where::InsideTheFence);
}

#[test]
fn a_block_of_a_turn_that_panics_outside_the_fence_is_journaled() {
    let name = "a_block_of_a_turn_that_panics_outside_the_fence_is_journaled";
    check_the_last_block(name, Where::OutsideTheFence);
}

/// Where the shard panics after it has found a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In its calls into sessions, more often than is allowed.
    InsideTheFence,
    /// In the shard itself, once.
    OutsideTheFence,
}

/// The panics come with the block in one turn, before the shard's lane has it. No node answers, so
/// that the journal alone can save it.
fn check_the_last_block(name: &str, panics: Where) {
    const CHILD: &str = "ENGINE_TEST_LAST_BLOCK";
    if let Some(folder) = std::env::var_os(CHILD) {
        return find_a_block_and_panic(Path::new(&folder), panics);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let name = &format!("start::tests::{name}");
    let output = Process::new(std::env::current_exe().expect("this test binary"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, folder.path())
        .output()
        .expect("it runs again");
    let (abort, told) = (6, String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), Some(abort), "{told}");
    let least = if panics == Where::InsideTheFence { 3 } else { 1 };
    assert!(told.matches("on purpose").count() >= least, "{told}");
    let (_, left) = Journal::open(folder.path(), CHAIN).expect("it was made");
    assert!(!left.is_empty(), "the block is lost");
    assert!(left.iter().all(|block| &*block.facts.worker == "farm.rig"), "found by its miner");
}

/// A guard under which every call panics once the shard has found a block.
struct Trap<'a> {
    fence: &'a Fence,
    counters: &'a Counters,
    panics: Where,
}

impl Guard for Trap<'_> {
    fn run<T>(&self, call: impl FnOnce() -> T) -> Result<T, Panicked> {
        let call = || {
            assert_eq!(self.counters.blocks_found.value(), 0, "on purpose");
            call()
        };
        match self.panics {
            Where::InsideTheFence => self.fence.run(call),
            Where::OutsideTheFence => Ok(call()),
        }
    }
}

fn find_a_block_and_panic(folder: &Path, panics: Where) {
    let (link, end) = node::link();
    let journal = Journal::open(folder, CHAIN).expect("a journal");
    let deaf = Vec::new();
    node::blocks::start(end.clone(), Some(journal), vec![deaf]).expect("threads");
    end.publish(Arc::new(template()));
    let address = "127.0.0.1:0".parse().expect("an address");
    let (allow, proxy_from) = (AllowList::private(), AllowList::none());
    let listen = Listen { address, allow, proxy_from };
    let anyone_can_spend = vec![0x51];
    let mut config = EngineConfig::new(vec![listen], anyone_can_spend, 7);
    config.start_difficulty = Difficulty::new(1e-9).expect("a positive number");
    config.wished_pace = None;
    let placement = Placement::choose(1, &[]).expect("this process runs on some core");
    let listeners = Listeners::open(&config.listen, 1, Inherited::default(), &mut NoKeeper);
    let Listeners { addresses, mut sockets, .. } = listeners.expect("a free port");
    let bell = Bell::awaited().expect("an eventfd");
    let address = addresses[0];
    let engine = Engine::start_coordinator(&config, placement, addresses, bell, link);
    let engine = engine.expect("a coordinator");
    let berth = engine.berth(&config, 0, sockets.remove(0), Arc::default());
    std::thread::spawn(move || submit_shares(TcpStream::connect(address).expect("it listens")));
    let fence = Fence::new(0);
    let trap = Trap { fence: &fence, counters: &engine.counters[0], panics };
    live(&berth, 1, (&fence, &trap), &mut None);
    // A panic of the shard itself ends this life only: the test ends the process.
    fence.end_process(|| berth.line.blocks().is_none());
}

/// A miner that tries its luck: with such a target every second header is a block.
fn submit_shares(mut socket: TcpStream) {
    let mut lines = Vec::new();
    client::subscribe(&mut lines, 1, "test/1", None);
    client::authorize(&mut lines, 2, "farm.rig", "x");
    socket.write_all(&lines).expect("it reads");
    for line in BufReader::new(socket.try_clone().expect("a handle")).lines() {
        let line = line.expect("it answers");
        let Ok(ServerMessage::Notify(job)) = parse_server(line.as_bytes()) else { continue };
        for nonce in 0..64 {
            let submit = client::Submit {
                worker: "farm.rig",
                job_id: &job.job_id,
                extranonce2: &[7; 4],
                ntime: job.ntime,
                nonce,
                version_bits: None,
            };
            lines.clear();
            client::submit(&mut lines, u64::from(nonce) + 3, &submit);
            socket.write_all(&lines).expect("it reads");
        }
    }
}

fn template() -> Template {
    Template {
        height: 1,
        prev_hash: Hash256::ZERO,
        version: 0x2000_0000,
        bits: BITS,
        curtime: 1_800_000_000,
        min_ntime: 1_799_990_000,
        coinbase_value: 5_000_000_000,
        coinbase_version: 2,
        coinbase_sequence: 0xffff_fffe,
        coinbase_locktime: 0,
        witness_commitment: None,
        coinbase_aux: Vec::new(),
        merkle_path: Vec::new(),
        transactions: Arc::from([]),
        weight: 0,
    }
}
