//! Crowds that want no work, or read none of it: what honest miners notice of them, and what the
//! daemon holds for them and how long.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use perf::process::monotonic_ns;
use perf::sockets;
use perf::traffic::Miner;

use crate::crowd::Crowd;
use crate::daemon::{Daemon, Place, Setting, closes, kernel_socket_bytes, sum};
use crate::figures::{Figure, Latency};
use crate::power::WITNESSES;
use crate::{Found, Plan};

/// What the honest miners' p99 may be of the quiet one beside strangers that say nothing whole.
const STRANGERS_TIMES: f64 = 1.5;
/// After so long their descriptors are free: 15 s for a handshake, and a second.
const STRANGERS_FREE: Duration = Duration::from_secs(16);
/// Memory of a reader that has stopped.
const READER_BYTES: u64 = 64 << 10;
/// When it is closed, once nothing goes out to it any more.
const READER_CLOSED: Duration = Duration::from_secs(10);
/// Nothing comes sooner of a reader that will not be closed.
const READERS_LIMIT: Duration = Duration::from_secs(120);

/// A daemon with its witnesses, and their latency while nothing happens.
struct Watched {
    place: Place,
    daemon: Daemon,
    witnesses: Crowd,
    quiet: Latency,
    /// Files and sockets, theirs included.
    descriptors: usize,
}

impl Watched {
    fn new(plan: &Plan, setting: &Setting) -> Result<Watched, Box<dyn Error>> {
        let place = Place::new(setting)?;
        let daemon = Daemon::start(&place)?;
        let mut witnesses = Crowd::witnesses(&daemon, plan.clients(WITNESSES))?;
        thread::sleep(plan.watch(2));
        let from_ns = monotonic_ns();
        thread::sleep(plan.watch(8));
        let quiet = Latency::of(&witnesses.samples()?, from_ns, u64::MAX);
        let descriptors = daemon.descriptors()?;
        Ok(Watched { place, daemon, witnesses, quiet, descriptors })
    }

    /// What the witnesses noticed since a moment.
    fn since(&mut self, from_ns: u64) -> Result<Latency, Box<dyn Error>> {
        Ok(Latency::of(&self.witnesses.samples()?, from_ns, u64::MAX))
    }
}

/// Half of them send a request byte by byte, half send nothing.
pub(crate) fn strangers(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let mut watched = Watched::new(plan, &Setting::QUIET)?;
    let each = plan.clients(5_000);
    let from_ns = monotonic_ns();
    let daemon = &watched.daemon;
    let accepted = |daemon: &Daemon| daemon.metric("headframe_connections_accepted_total", "");
    let everybody = accepted(daemon)? + u64::from(2 * each);
    let dripping = Crowd::start(daemon, "drip", each, &[format!("rate={each}")])?;
    let silent = Crowd::start(daemon, "silent", each, &[])?;
    dripping.working()?;
    silent.working()?;
    // What the kernel has connected for them waits until the daemon takes it.
    daemon.until("all strangers", |daemon| Ok(accepted(daemon)? >= everybody))?;
    let connected = Instant::now();
    let most = daemon.descriptors()?;
    let free = watched.descriptors;
    daemon.until("the strangers' end", |daemon| Ok(daemon.descriptors()? <= free))?;
    let took = connected.elapsed();
    let closed = closes(&watched.daemon.get("/metrics")?.0);
    let storm = watched.since(from_ns)?;
    let honest = plan.clients(WITNESSES);
    let what = format!("{each} drip-fed and {each} silent connections");
    let figures = vec![
        Figure::p99(
            format!("{what}: p99 of {honest} honest miners"),
            storm,
            watched.quiet,
            Some(STRANGERS_TIMES),
        ),
        Figure::time(format!("{what}: fds free again"), took, STRANGERS_FREE).noting(format!(
            "after the last was accepted; {free} fds before, {most} with them; closed: {closed}"
        )),
    ];
    drop((dripping, silent, watched.place));
    Ok(Found { figures, pictures: Vec::new() })
}

/// One that does what its habit says for a while.
fn flood(
    plan: &Plan,
    setting: &Setting,
    habit: &str,
    clients: u32,
    rate: f64,
    says: &str,
) -> Result<Found, Box<dyn Error>> {
    let mut watched = Watched::new(plan, setting)?;
    let options = [format!("rate={}", rate * plan.scale)];
    let clients = plan.clients(clients);
    let mut crowd = Crowd::start(&watched.daemon, habit, clients, &options)?;
    crowd.working()?;
    let from_ns = monotonic_ns();
    let before = crowd.counts()?;
    thread::sleep(plan.watch(6));
    let after = crowd.counts()?;
    let storm = watched.since(from_ns)?;
    let seconds = (monotonic_ns() - from_ns) as f64 / 1e9;
    let per_second = |count: u64| count as f64 / seconds;
    let done = format!(
        "{:.0} connects, {:.0} sent, {:.0} refused shares a second",
        per_second(after.connects - before.connects),
        per_second(after.sent - before.sent),
        per_second(after.rejected - before.rejected),
    );
    let level = watched.daemon.metric("headframe_overload_level", "")?;
    drop(crowd);
    let free = watched.descriptors;
    watched.daemon.until("its end", |daemon| Ok(daemon.descriptors()? <= free))?;
    let honest = plan.clients(WITNESSES);
    let what = format!("{says}: p99 of {honest} honest miners");
    let figure = Figure::p99(what, storm, watched.quiet, None);
    let note = format!("{done}; overload level {level} at the end; {}", figure.note);
    drop(watched.place);
    Ok(Found { figures: vec![figure.noting(note)], pictures: Vec::new() })
}

/// Connect and reset.
pub(crate) fn connects(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    flood(plan, &Setting::QUIET, "connects", 0, 5_000.0, "flood of 5,000 connects a second")
}

/// Lumps of 256 random bytes on fresh connections.
pub(crate) fn garbage(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    flood(
        plan,
        &Setting::QUIET,
        "garbage",
        2_000,
        5_000.0,
        "flood of 5,000 lumps of garbage a second",
    )
}

/// Well-formed shares whose hashes are above the target.
pub(crate) fn low_shares(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let setting = Setting { difficulty_max: 1e6, ..Setting::QUIET };
    flood(plan, &setting, "low", 1_000, 20_000.0, "flood of 20,000 low shares a second")
}

/// Readers with the smallest receive buffer that stop, while ten tips a second go out.
pub(crate) fn readers(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let setting = Setting { tip_seconds: 0.1, ..Setting::QUIET };
    let place = Place::new(&setting)?;
    let daemon = Daemon::start(&place)?;
    let count = plan.clients(1_000);
    let (before, kernel_before) = (daemon.steady_memory()?, kernel_socket_bytes());
    let readers = (0..count)
        .map(|number| stopped_reader(&daemon, number))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let (mut most, mut kernel_most) = (0, 0);
    let (mut sent, mut blocked) = (0, Instant::now());
    let since = Instant::now();
    let page = loop {
        let (page, _) = daemon.get("/metrics")?;
        let now = Instant::now();
        most = most.max(daemon.memory());
        kernel_most = kernel_most.max(kernel_socket_bytes());
        let closed = sum(&page, "headframe_connections_closed_total", "");
        let so_far = sum(&page, "headframe_sent_bytes_total", "");
        if so_far > sent {
            (sent, blocked) = (so_far, now);
        }
        if closed >= u64::from(count) {
            break page;
        }
        if since.elapsed() > READERS_LIMIT {
            return Err(format!("{closed} of {count} stopped readers were closed").into());
        }
        thread::sleep(Duration::from_millis(10));
    };
    let took = blocked.elapsed();
    let slow = sum(&page, "headframe_connections_closed_total", "reason=\"slow_reader\"");
    let closed = closes(&page);
    let each = most.saturating_sub(before) / u64::from(count);
    let kernel_each = kernel_most.saturating_sub(kernel_before) / u64::from(count);
    let what = format!("{count} readers that stop");
    let memory = format!("{:.1} KiB", each as f64 / 1_024.0);
    let last = format!("{what}: closed after the last byte went out");
    let mut closing = Figure::time(last, took, READER_CLOSED);
    closing.met = closing.met.map(|met| met && slow == u64::from(count));
    let figures = vec![
        Figure::holds(
            format!("{what}: user memory each"),
            memory,
            "≤ 64 KiB",
            each <= READER_BYTES,
        )
        .noting(format!(
            "the kernel's, both ends: {:.1} KiB; {:.1} KiB were written to each",
            kernel_each as f64 / 1_024.0,
            sent as f64 / f64::from(count) / 1_024.0
        )),
        closing.noting(format!("the last of them; closed: {closed}")),
    ];
    drop(readers);
    Ok(Found { figures, pictures: Vec::new() })
}

/// A miner that reads its first job and nothing more.
fn stopped_reader(daemon: &Daemon, number: u32) -> Result<OwnedFd, Box<dyn Error>> {
    let mut stream = TcpStream::from(sockets::connect_narrow(daemon.address, number)?);
    let (miner, mut hello) = (Miner::new(number), Vec::new());
    miner.write_subscribe(&mut hello);
    miner.write_authorize(&mut hello);
    stream.write_all(&hello)?;
    let (mut heard, mut bytes) = (Vec::new(), [0; 512]);
    let job = b"\"method\":\"mining.notify\"";
    while !heard.windows(job.len()).any(|window| window == job) {
        let read = stream.read(&mut bytes)?;
        if read == 0 {
            return Err("a reader was closed before it had work".into());
        }
        heard.extend_from_slice(&bytes[..read]);
    }
    Ok(stream.into())
}
