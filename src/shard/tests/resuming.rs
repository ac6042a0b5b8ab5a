//! Miners that come back under their session ids: to the same shard, and to another one over lanes
//! with a delay, with a real coordinator between them. Time is virtual.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use farm::blocks::RetryPolicy;
use farm::extranonce::ShardIndex;
use farm::messages::{FromShard, MinerState, ToShard};
use farm::{Coordinator, CoordinatorSettings, Input, NoWork, Output};
use pow::Kernel;
use session::{ShareOutcome, Tick};
use shard::counters::CloseReason;
use shard::parked::PARKED_US_MAX;
use shard::resume::RESUME_US_MAX;
use shard::{AllowList, Completion, ConnId, ReceiveEnd};

use crate::world::{BITS, HANDSHAKE, SECOND, World, job_id, job_settings, submit, template};

/// What a miner knows of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    id: String,
    extranonce1: String,
}

impl Session {
    /// From the answer to the subscribe in a text.
    fn of(text: &str) -> Option<Session> {
        let answer = text.lines().find(|line| line.contains("mining.set_difficulty\",\""))?;
        let parts: Vec<&str> = answer.split('"').collect();
        let id = parts.iter().position(|part| *part == "mining.set_difficulty")? + 2;
        let extranonce1 = parts.len() - 4;
        let [id, extranonce1] = [id, extranonce1].map(|at| parts[at].to_owned());
        Some(Session { id, extranonce1 })
    }
}

fn hello(session: &Session) -> String {
    let hello = std::str::from_utf8(HANDSHAKE).expect("text");
    hello.replace("[\"t/1\"]", &format!("[\"t/1\",\"{}\"]", session.id))
}

fn shares(world: &World, outcome: ShareOutcome) -> u64 {
    world.counters.shares[outcome as usize].value()
}

fn closed(world: &World, reason: CloseReason) -> u64 {
    world.counters.closed[reason as usize].value()
}

/// A miner that mines, its session and its newest job.
fn at_work(world: &mut World, number: u32) -> (ConnId, Session, String) {
    let miner = world.miner(number);
    let text = world.ring.read(miner);
    let session = Session::of(&text).expect("it has subscribed");
    (miner, session, job_id(&text).expect("a job").to_owned())
}

fn reset(world: &mut World, conn: ConnId) {
    let cause = ReceiveEnd::Failed(104);
    world.ring.completions.push_back(Completion::ReceiveEnded { conn, cause });
}

/// Accepts a socket from an address of its own choice.
fn connect_from(world: &mut World, socket: u32, address: &str) -> ConnId {
    world.ring.connect(socket, address.parse::<IpAddr>().expect("an address"));
    world.settle();
    world.ring.adopted[&socket]
}

/// Comes back from the address of miner 1; what it hears.
fn come_back(world: &mut World, socket: u32, session: &Session) -> (ConnId, String) {
    let conn = connect_from(world, socket, "::ffff:10.0.0.1");
    world.ring.deliver(conn, hello(session).as_bytes());
    world.settle();
    (conn, world.ring.read(conn))
}

#[test]
fn shares_in_flight_over_a_cut_are_accepted_and_counted_once() {
    let mut world = World::new(4);
    world.new_tip();
    let (miner, session, job) = at_work(&mut world, 1);
    world.ring.deliver(miner, submit(3, &job, 7).as_bytes());
    world.turn();
    reset(&mut world, miner);
    world.pass(5 * SECOND);
    assert_eq!(world.counters.sessions_parked.value(), 1);
    assert_eq!(world.shard.connections().count(), 0);

    let (conn, text) = come_back(&mut world, 50, &session);
    assert_eq!(Session::of(&text), Some(session));
    let fresh = job_id(&text).expect("a job").to_owned();
    assert_ne!(fresh, job, "its headers must be new");
    let both = submit(3, &job, 7) + &submit(4, &job, 8) + &submit(5, &fresh, 9);
    world.ring.deliver(conn, both.as_bytes());
    world.settle();
    let text = world.ring.read(conn);
    assert!(text.contains("{\"id\":3,\"result\":null,\"error\":[22,"), "{text}");
    assert_eq!(text.matches("\"result\":true").count(), 2, "{text}");
    assert_eq!(shares(&world, ShareOutcome::Accepted), 3);
    assert_eq!(world.counters.sessions_resumed.value(), 1);
    world.pass(2 * SECOND);
    assert_eq!(world.counters.sessions_parked.value(), 0);
}

#[test]
fn an_older_connection_of_the_session_is_closed_first() {
    let mut world = World::new(4);
    world.new_tip();
    let (half_open, session, job) = at_work(&mut world, 1);
    world.pass(2 * SECOND);
    let (conn, text) = come_back(&mut world, 50, &session);
    assert_eq!(world.ring.closed, [half_open]);
    assert_eq!(closed(&world, CloseReason::Resumed), 1);
    assert_eq!(Session::of(&text), Some(session));
    world.ring.deliver(conn, submit(3, &job, 7).as_bytes());
    world.settle();
    assert!(world.ring.read(conn).contains("{\"id\":3,\"result\":true"));
    let served: Vec<_> = world.shard.connections().collect();
    assert_eq!((served.len(), served[0].conn), (1, conn));
}

#[test]
fn another_address_gets_a_new_session_and_disturbs_nobody() {
    let mut world = World::new(8);
    world.new_tip();
    let (live, of_live, job) = at_work(&mut world, 1);
    let (gone, of_gone, _) = at_work(&mut world, 2);
    reset(&mut world, gone);
    world.pass(SECOND);
    for (socket, session) in [(50, &of_live), (51, &of_gone)] {
        let thief = connect_from(&mut world, socket, "10.9.9.9");
        world.ring.deliver(thief, hello(session).as_bytes());
        world.settle();
        let got = Session::of(&world.ring.read(thief)).expect("a session of its own");
        assert_ne!(got.id, session.id);
        assert_ne!(got.extranonce1, session.extranonce1);
    }
    assert_eq!(world.counters.resumes_in_vain.value(), 2);
    assert_eq!(world.ring.closed, [gone]);
    world.ring.deliver(live, submit(3, &job, 7).as_bytes());
    world.settle();
    assert!(world.ring.read(live).contains("{\"id\":3,\"result\":true"));
    let back = connect_from(&mut world, 52, "10.0.0.2");
    world.ring.deliver(back, hello(&of_gone).as_bytes());
    world.settle();
    assert_eq!(Session::of(&world.ring.read(back)), Some(of_gone), "it is still there");
}

#[test]
fn after_ten_minutes_it_is_gone_and_its_prefix_is_free() {
    let mut world = World::new(4);
    world.new_tip();
    let (miner, session, _) = at_work(&mut world, 1);
    reset(&mut world, miner);
    world.pass(PARKED_US_MAX - SECOND);
    world.new_tip();
    assert_eq!(world.counters.sessions_parked.value(), 1);
    world.pass(2 * SECOND);
    assert_eq!(world.counters.sessions_parked.value(), 0);
    let (conn, _) = come_back(&mut world, 50, &session);
    // This lane has no coordinator that would say that nobody has it.
    world.pass(RESUME_US_MAX);
    let got = Session::of(&world.ring.read(conn)).expect("a new session");
    assert_ne!(got.id, session.id);
    assert_eq!(got.extranonce1, session.extranonce1, "the newest free one, and well rested");
}

#[test]
fn who_broke_the_protocol_begins_anew() {
    let mut world = World::new(4);
    world.new_tip();
    let (miner, session, _) = at_work(&mut world, 1);
    world.ring.deliver(miner, b"no json\n");
    world.settle();
    assert_eq!(closed(&world, CloseReason::Malformed), 1);
    let (conn, _) = come_back(&mut world, 50, &session);
    world.pass(RESUME_US_MAX);
    assert_ne!(Session::of(&world.ring.read(conn)).expect("a session").id, session.id);
}

#[test]
fn coming_and_going_pushes_no_working_miner_out() {
    let mut world = World::new(8);
    world.new_tip();
    let (miner, session, job) = at_work(&mut world, 1);
    world.ring.deliver(miner, submit(3, &job, 7).as_bytes());
    world.settle();
    reset(&mut world, miner);
    world.settle();
    for number in 2..40 {
        let (guest, ..) = at_work(&mut world, number);
        reset(&mut world, guest);
        world.settle();
        for level in world.shard.levels() {
            assert!(level.held <= level.limit, "{level:?}");
        }
    }
    world.pass(2 * SECOND);
    assert_eq!(world.counters.sessions_parked.value(), 8);
    let (_, text) = come_back(&mut world, 50, &session);
    assert_eq!(Session::of(&text), Some(session));
}

/// Two shards and their coordinator, with lanes that take their time.
struct Farm {
    worlds: [World; 2],
    coordinator: Coordinator,
    now: Tick,
    delay_us: u64,
    to_farm: VecDeque<(Tick, u16, FromShard)>,
    to_shard: VecDeque<(Tick, u16, ToShard)>,
    tip: u8,
    sockets: u32,
}

impl Farm {
    fn new(delay_us: u64) -> Farm {
        let worlds = [0, 1].map(|index| {
            let mut world = World::numbered(index, 64, AllowList::private(), usize::MAX);
            world.lane.space = None;
            world
        });
        let settings = CoordinatorSettings {
            jobs: job_settings(),
            nodes: 1,
            retry: RetryPolicy::default(),
            template_silence_micros: 120 * SECOND,
            no_work: NoWork::Park,
        };
        let now = worlds[0].now;
        let mut farm = Farm {
            worlds,
            coordinator: Coordinator::new(settings, Kernel::detect(), now).expect("four bytes"),
            now,
            delay_us,
            to_farm: VecDeque::new(),
            to_shard: VecDeque::new(),
            tip: 0,
            sockets: 0,
        };
        (0..2).for_each(|shard| farm.tell(Input::ShardStarted(ShardIndex(shard))));
        farm.new_tip();
        farm.pass(SECOND);
        farm
    }

    fn new_tip(&mut self) {
        self.tip += 1;
        self.refresh();
    }

    /// Another job on the same tip.
    fn refresh(&mut self) {
        self.tell(Input::Template(template(self.tip, BITS, self.now).into()));
    }

    /// The next life of a shard, which knows nothing.
    fn begin_anew(&mut self, shard: u16) {
        let mut world = World::numbered(shard, 64, AllowList::private(), usize::MAX);
        world.lane.space = None;
        self.worlds[usize::from(shard)] = world;
        self.to_farm.retain(|(_, of, _)| *of != shard);
        self.to_shard.retain(|(_, of, _)| *of != shard);
        self.tell(Input::ShardStarted(ShardIndex(shard)));
    }

    fn tell(&mut self, input: Input) {
        self.coordinator.handle(self.now, input);
        while let Some(output) = self.coordinator.poll() {
            if let Output::ToShard(shard, message) = output {
                let at = self.now.plus_micros(self.delay_us);
                self.to_shard.push_back((at, shard.0, message));
            }
        }
    }

    /// Everything that happens within a millisecond.
    fn step(&mut self) {
        self.now = self.now.plus_micros(1_000);
        while self.to_farm.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, shard, message) = self.to_farm.pop_front().expect("it was just seen");
            self.tell(Input::FromShard(ShardIndex(shard), message));
        }
        while self.to_shard.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, shard, message) = self.to_shard.pop_front().expect("it was just seen");
            self.worlds[usize::from(shard)].lane.to_shard.push_back(message);
        }
        let mut prefixes = BTreeSet::new();
        for (shard, world) in (0..2).zip(&mut self.worlds) {
            world.now = self.now;
            world.turn();
            world.turn();
            if world.lane.room > 0 {
                let at = self.now.plus_micros(self.delay_us);
                let sent = world.lane.from_shard.drain(..);
                self.to_farm.extend(sent.map(|message| (at, shard, message)));
            }
            let held = world.shard.connections().filter_map(|connection| connection.prefix);
            held.for_each(|prefix| assert!(prefixes.insert(prefix), "{prefix:?} is used twice"));
        }
    }

    fn pass(&mut self, micros: u64) {
        (0..micros.div_ceil(1_000)).for_each(|_| self.step());
    }

    /// Connects from this address, and says this.
    fn connect(&mut self, shard: usize, address: &str, hello: &[u8]) -> ConnId {
        self.sockets += 1;
        let world = &mut self.worlds[shard];
        world.ring.connect(self.sockets, address.parse::<IpAddr>().expect("an address"));
        world.turn();
        let conn = world.ring.adopted[&self.sockets];
        world.ring.deliver(conn, hello);
        conn
    }

    /// A miner at work: its session and its job.
    fn miner(&mut self, shard: usize, address: &str) -> (ConnId, Session, String) {
        let conn = self.connect(shard, address, HANDSHAKE);
        self.pass(SECOND);
        let text = self.worlds[shard].ring.read(conn);
        let job = job_id(&text).expect("a job").to_owned();
        (conn, Session::of(&text).expect("a session"), job)
    }

    fn submit(&mut self, shard: usize, conn: ConnId, job: &str, nonce: u32) -> String {
        let world = &mut self.worlds[shard];
        world.ring.read(conn);
        world.ring.deliver(conn, submit(9, job, nonce).as_bytes());
        self.pass(2_000);
        let text = self.worlds[shard].ring.read(conn);
        let answer = text.lines().find(|line| line.starts_with("{\"id\":9,"));
        answer.expect("an answer").to_owned()
    }

    fn cut(&mut self, shard: usize, conn: ConnId) {
        reset(&mut self.worlds[shard], conn);
        self.pass(5 * SECOND);
    }
}

const HOME: &str = "10.0.0.1";

#[test]
fn a_session_moves_from_shard_to_shard_and_back() {
    let mut farm = Farm::new(200);
    let (mut conn, session, job) = farm.miner(0, HOME);
    assert!(farm.submit(0, conn, &job, 1).contains("true"));
    let mut nonce = 1;
    for shard in [1, 0, 1, 1, 0] {
        let before = usize::from(conn_shard(&farm, conn, &session));
        farm.cut(before, conn);
        conn = farm.connect(shard, HOME, hello(&session).as_bytes());
        farm.pass(10_000);
        let text = farm.worlds[shard].ring.read(conn);
        assert_eq!(Session::of(&text).as_ref(), Some(&session), "on shard {shard}");
        for counted in 1..=nonce {
            assert!(farm.submit(shard, conn, &job, counted).contains("[22,"), "counted already");
        }
        nonce += 1;
        assert!(farm.submit(shard, conn, &job, nonce).contains("true"), "in flight until now");
    }
    farm.pass(3 * SECOND);
    let by_shard = farm.worlds.each_ref().map(|world| shares(world, ShareOutcome::Accepted));
    assert_eq!(by_shard, [3, 3], "credited by the shard that serves it");
    let status = farm.coordinator.status();
    assert_eq!((status.totals.accepted, status.connections), (6, 1));
    assert_eq!(status.space.faults, 0);
    let moved: u64 = farm.worlds.iter().map(|world| world.counters.sessions_moved.value()).sum();
    assert_eq!(moved, 4);
}

/// The shard that serves a session.
fn conn_shard(farm: &Farm, conn: ConnId, session: &Session) -> u16 {
    let id = u64::from_str_radix(&session.id, 16).expect("an id");
    let serves = |world: &World| {
        let mut held = world.shard.connections();
        held.any(|held| held.conn == conn && held.session_id.is_some_and(|held| held.0 == id))
    };
    farm.worlds.iter().position(serves).expect("somebody serves it") as u16
}

#[test]
fn a_half_open_connection_elsewhere_is_closed_before_the_answer() {
    let mut farm = Farm::new(200);
    let (half_open, session, job) = farm.miner(0, HOME);
    let conn = farm.connect(1, HOME, hello(&session).as_bytes());
    while farm.worlds[0].ring.closed.is_empty() {
        farm.step();
        assert_eq!(farm.worlds[1].ring.read(conn), "", "not while the other one lives");
    }
    assert_eq!(farm.worlds[0].ring.closed, [half_open]);
    farm.pass(5_000);
    assert_eq!(Session::of(&farm.worlds[1].ring.read(conn)), Some(session));
    assert!(farm.submit(1, conn, &job, 1).contains("true"));
}

#[test]
fn a_thief_on_another_shard_gets_a_new_session_and_its_victim_hears_nothing() {
    let mut farm = Farm::new(200);
    let (victim, session, job) = farm.miner(0, HOME);
    for (shard, address) in [(0, "10.9.9.9"), (1, "10.9.9.8")] {
        let thief = farm.connect(shard, address, hello(&session).as_bytes());
        farm.pass(10_000);
        let got = Session::of(&farm.worlds[shard].ring.read(thief)).expect("its own");
        assert_ne!((got.id, got.extranonce1), (session.id.clone(), session.extranonce1.clone()));
    }
    assert!(farm.worlds.iter().all(|world| world.ring.closed.is_empty()));
    assert!(farm.submit(0, victim, &job, 1).contains("true"));
    farm.cut(0, victim);
    let conn = farm.connect(1, HOME, hello(&session).as_bytes());
    farm.pass(10_000);
    assert_eq!(Session::of(&farm.worlds[1].ring.read(conn)), Some(session), "still its own");
}

#[test]
fn a_late_question_takes_nothing_from_a_newer_connection() {
    let mut farm = Farm::new(200);
    let (conn, session, _) = farm.miner(0, HOME);
    farm.cut(0, conn);
    // Its lane is full, so that it asks later than the connection after it.
    farm.worlds[1].lane.room = 0;
    let old = farm.connect(1, HOME, hello(&session).as_bytes());
    farm.pass(10_000);
    let new = farm.connect(0, HOME, hello(&session).as_bytes());
    farm.pass(10_000);
    assert_eq!(Session::of(&farm.worlds[0].ring.read(new)).as_ref(), Some(&session));
    farm.worlds[1].lane.room = usize::MAX;
    farm.pass(10_000);
    let got = Session::of(&farm.worlds[1].ring.read(old)).expect("a session of its own");
    assert_ne!(got.id, session.id);
    assert_eq!(farm.worlds[0].ring.closed, [conn], "the newer one is still served");
}

#[test]
fn what_comes_too_late_is_kept_for_the_next_time() {
    let mut farm = Farm::new(200);
    let (conn, session, job) = farm.miner(0, HOME);
    farm.cut(0, conn);
    farm.delay_us = 400_000;
    let conn = farm.connect(1, HOME, hello(&session).as_bytes());
    farm.pass(RESUME_US_MAX + 10_000);
    let fresh = Session::of(&farm.worlds[1].ring.read(conn)).expect("after a second");
    assert_ne!(fresh, session);
    farm.pass(2 * SECOND);
    farm.cut(1, conn);
    let conn = farm.connect(1, HOME, hello(&session).as_bytes());
    farm.pass(2_000);
    assert_eq!(Session::of(&farm.worlds[1].ring.read(conn)), Some(session), "without a question");
    assert!(farm.submit(1, conn, &job, 1).contains("true"));
    assert_eq!(farm.coordinator.status().space.faults, 0);
}

#[test]
fn a_full_lane_delays_a_resume_and_then_ends_it() {
    let mut farm = Farm::new(200);
    let (conn, session, _) = farm.miner(0, HOME);
    farm.cut(0, conn);
    farm.worlds[1].lane.room = 0;
    let conn = farm.connect(1, HOME, hello(&session).as_bytes());
    farm.pass(500_000);
    assert_eq!(farm.worlds[1].ring.read(conn), "", "it waits for room");
    farm.worlds[1].lane.room = usize::MAX;
    farm.pass(10_000);
    assert_eq!(Session::of(&farm.worlds[1].ring.read(conn)).as_ref(), Some(&session));

    farm.cut(1, conn);
    // The shard that has it cannot send it: it keeps it, and the other one gives up.
    farm.worlds[1].lane.room = 0;
    let conn = farm.connect(0, HOME, hello(&session).as_bytes());
    farm.pass(RESUME_US_MAX + 10_000);
    let fresh = Session::of(&farm.worlds[0].ring.read(conn)).expect("a new one");
    assert_ne!(fresh.id, session.id);
    let parked = |world: &World| {
        world.shard.levels().iter().find(|level| level.name == "parked sessions").unwrap().held
    };
    assert_eq!(farm.worlds.each_ref().map(parked), [0, 1]);
    farm.worlds[1].lane.room = usize::MAX;
    farm.pass(SECOND);
    assert_eq!(farm.worlds.each_ref().map(parked), [1, 0], "it arrives all the same");
}

#[test]
fn a_shard_that_died_has_nothing_left_and_its_prefixes_rest() {
    let mut farm = Farm::new(200);
    let (conn, session, _) = farm.miner(0, HOME);
    farm.cut(0, conn);
    // Asked for, and dead before it answers; its next life knows nothing.
    let conn = farm.connect(1, HOME, hello(&session).as_bytes());
    farm.step();
    let leased = farm.coordinator.status().space.leased;
    farm.begin_anew(0);
    let status = farm.coordinator.status().space;
    assert!(status.leased < leased && status.resting > 0, "{status:?}");
    farm.pass(RESUME_US_MAX + 10_000);
    let fresh = Session::of(&farm.worlds[1].ring.read(conn)).expect("a new one");
    assert_ne!((fresh.id, fresh.extranonce1), (session.id, session.extranonce1));
    let mut served = farm.worlds[1].shard.connections();
    assert!(served.all(|connection| connection.state == MinerState::Mining));
}

#[test]
fn a_shard_that_has_begun_anew_counts_shares_of_former_jobs() {
    let mut farm = Farm::new(200);
    let (conn, session, former) = farm.miner(0, HOME);
    farm.cut(0, conn);
    farm.refresh();
    farm.begin_anew(1);
    farm.pass(SECOND);
    let conn = farm.connect(1, HOME, hello(&session).as_bytes());
    farm.pass(SECOND);
    let text = farm.worlds[1].ring.read(conn);
    assert_eq!(Session::of(&text), Some(session));
    assert_ne!(job_id(&text).expect("a job"), former);
    assert!(farm.submit(1, conn, &former, 7).contains("\"result\":true"));
}

#[test]
fn a_shard_that_dies_with_a_session_under_way_to_it_leaves_its_prefix_to_rest() {
    let mut farm = Farm::new(20_000);
    let (conn, session, _) = farm.miner(0, HOME);
    farm.cut(0, conn);
    farm.connect(1, HOME, hello(&session).as_bytes());
    let came = |(_, shard, message): &(Tick, u16, ToShard)| {
        *shard == 1 && matches!(message, ToShard::Resumed { parked: Some(_), .. })
    };
    while !farm.to_shard.iter().any(came) {
        farm.step();
    }
    farm.begin_anew(1);
    let held = farm.coordinator.status().space;
    assert_eq!(held.free + held.leased + held.resting, held.capacity);
    let conn = farm.connect(0, HOME, hello(&session).as_bytes());
    farm.pass(SECOND);
    let fresh = Session::of(&farm.worlds[0].ring.read(conn)).expect("a new one");
    assert_ne!((fresh.id, fresh.extranonce1), (session.id, session.extranonce1));
    assert_eq!(farm.coordinator.status().space.faults, 0);
}
