//! A worker's difficulty on two shards with a real coordinator between them: where it has settled
//! on one, its next connection starts on either, and in the shard's next life. Time is virtual.

use farm::blocks::RetryPolicy;
use farm::extranonce::ShardIndex;
use farm::messages::{FromShard, ToShard};
use farm::{Coordinator, CoordinatorSettings, Input, NoWork, Output};
use pow::Kernel;
use session::{Remembered, Tick};
use shard::{Completion, ConnId, ReceiveEnd};

use crate::world::{BITS, HANDSHAKE, SECOND, World, job_id, job_settings, submit, template};

/// 2^-39: twice the start, and any nonce meets it all the same.
const SETTLED: &str = "0.0000000000018189894035458565";

struct Farm {
    worlds: [World; 2],
    coordinator: Coordinator,
    now: Tick,
    sockets: u32,
}

impl Farm {
    fn new() -> Farm {
        let settings = CoordinatorSettings {
            jobs: job_settings(),
            nodes: 1,
            retry: RetryPolicy::default(),
            template_silence_micros: 120 * SECOND,
            no_work: NoWork::Park,
        };
        let worlds = [0, 1].map(world);
        let now = worlds[0].now;
        let coordinator = Coordinator::new(settings, Kernel::detect(), now).expect("four bytes");
        let mut farm = Farm { worlds, coordinator, now, sockets: 0 };
        (0..2).for_each(|shard| farm.tell(Input::ShardStarted(ShardIndex(shard))));
        farm.tell(Input::Template(template(1, BITS, farm.now).into()));
        farm.pass(SECOND);
        farm
    }

    fn tell(&mut self, input: Input) {
        self.coordinator.handle(self.now, input);
        while let Some(output) = self.coordinator.poll() {
            if let Output::ToShard(shard, message) = output {
                self.worlds[usize::from(shard.0)].lane.to_shard.push_back(message);
            }
        }
    }

    fn pass(&mut self, micros: u64) {
        let end = self.now.plus_micros(micros);
        while self.now < end {
            self.now = self.now.plus_micros(SECOND / 4);
            let mut said: Vec<(u16, FromShard)> = Vec::new();
            for (shard, world) in (0..2).zip(&mut self.worlds) {
                world.now = self.now;
                world.settle();
                said.extend(world.lane.from_shard.drain(..).map(|message| (shard, message)));
            }
            for (shard, message) in said {
                self.tell(Input::FromShard(ShardIndex(shard), message));
            }
        }
    }

    /// Connects and says hello with this password; what the miner hears.
    fn connect(&mut self, shard: usize, password: &str) -> (ConnId, String) {
        self.sockets += 1;
        let conn = self.worlds[shard].connect(self.sockets);
        let hello = std::str::from_utf8(HANDSHAKE).expect("text");
        let hello = hello.replace("\"x\"", &format!("\"{password}\""));
        self.worlds[shard].ring.deliver(conn, hello.as_bytes());
        self.pass(SECOND);
        (conn, self.worlds[shard].ring.read(conn))
    }

    /// Asks for the difficulty, finds enough shares there, and goes.
    fn settle(&mut self, shard: usize) {
        let (conn, text) = self.connect(shard, &format!("d={SETTLED}"));
        let job = job_id(&text).expect("a job").to_owned();
        for nonce in 0..16 {
            self.pass(5 * SECOND);
            self.worlds[shard].ring.deliver(conn, submit(9, &job, nonce).as_bytes());
        }
        self.pass(2 * SECOND);
        assert_eq!(self.worlds[shard].ring.read(conn).matches("\"result\":true").count(), 16);
        let cause = ReceiveEnd::Failed(104);
        self.worlds[shard].ring.completions.push_back(Completion::ReceiveEnded { conn, cause });
        self.pass(SECOND);
    }
}

fn world(shard: u16) -> World {
    let mut world = World::steered(shard, 16);
    world.lane.space = None;
    world
}

/// The last difficulty of a text.
fn told(text: &str) -> &str {
    let (_, rest) = text.rsplit_once("\"mining.set_difficulty\",\"params\":[").expect("one");
    rest.split(']').next().expect("its end")
}

#[test]
fn a_worker_starts_where_it_had_settled_on_whatever_shard() {
    let mut farm = Farm::new();
    let (_, text) = farm.connect(1, "x");
    assert_ne!(told(&text), SETTLED, "nobody is known yet");
    farm.settle(0);
    for shard in [0, 1] {
        let (_, text) = farm.connect(shard, "x");
        assert_eq!(told(&text), SETTLED, "shard {shard}");
        assert_eq!(text.matches("mining.set_difficulty\",\"params").count(), 1, "at once");
    }
}

#[test]
fn the_next_life_of_a_shard_is_told_what_the_last_one_knew() {
    let mut farm = Farm::new();
    farm.settle(0);
    farm.worlds[1] = world(1);
    farm.worlds[1].now = farm.now;
    farm.tell(Input::ShardStarted(ShardIndex(1)));
    farm.pass(SECOND);
    let (_, text) = farm.connect(1, "x");
    assert_eq!(told(&text), SETTLED);
}

#[test]
fn what_an_earlier_process_knew_is_there_before_the_first_miner() {
    let mut farm = Farm::new();
    farm.settle(0);
    let (known, _) = farm.coordinator.memory().after(0, 9);
    let names: Vec<&str> = known.iter().map(|known| &*known.worker).collect();
    assert_eq!(names, ["farm.1"]);
    let mut later = Farm::new();
    for world in &mut later.worlds {
        world.shard.remember(known.iter().cloned());
    }
    let (_, text) = later.connect(1, "x");
    assert_eq!(told(&text), SETTLED);
}

#[test]
fn a_flood_of_names_is_bounded_and_the_newest_stay() {
    let mut farm = Farm::new();
    farm.settle(0);
    let known = farm.coordinator.memory().of("farm.1").expect("it has settled");
    let flood = |from: u32| {
        let named = move |number: u32| Remembered {
            worker: format!("flood.{number}").into(),
            settled: known,
        };
        ToShard::Remember((from..from + 1_024).map(named).collect())
    };
    for from in (0..70_000).step_by(1_024) {
        farm.worlds[1].lane.to_shard.push_back(flood(from));
    }
    farm.pass(SECOND);
    let (_, text) = farm.connect(1, "x");
    assert_ne!(told(&text), SETTLED, "70,000 newer ones have taken its place");
    let (_, text) = farm.connect(0, "x");
    assert_eq!(told(&text), SETTLED, "only there");
}
