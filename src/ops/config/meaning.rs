//! The second stage: from what was written to what it means. Each section is read by one
//! function; what concerns several sections is judged at the end. A value that is wrong is
//! replaced by its default only so that the rest of the file can be judged too: the file as a
//! whole is refused.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use node::simulated::{
    ANSWER_SECONDS_MAX, BLOCK_SECONDS_MAX, BLOCK_SECONDS_MIN, Parameters, START_HEIGHT_MAX,
    Spacing, TEMPLATE_SECONDS_MAX, TRANSACTIONS_MAX,
};
use session::{PER_MINUTE_MAX, PER_MINUTE_MIN};
use shard::AllowList;

use super::fault::Fault;
use super::raw::{RawConfig, RawTable};
use super::value::Reader;
use super::{
    CONNECTIONS_DEFAULT, Config, Difficulty, Format, Host, Limits, Listen, Log, NoWork, Shards,
    alerts, payout, source,
};

/// Every hash meets anything below about 2.3e-10, so that nothing smaller means more.
const DIFFICULTY_MIN: f64 = 1e-12;
/// Ten times the network's of 2026: nothing beyond it is meant.
const DIFFICULTY_MAX: f64 = 1e15;
/// Below 2 bytes a large machine runs out of work within a second; 16 is what pools grant.
const SHARES_PER_MINUTE: f64 = 12.0;
/// 14 TH/s at 12 shares a minute: the largest machines send a few in their first seconds, and the
/// smallest that is no toy is not given up for silent.
const START: f64 = 16_384.0;
const EXTRANONCE2_SIZE: std::ops::RangeInclusive<u64> = 2..=16;
/// What the slot table can address, and more than a process may have open files.
const CONNECTIONS_MAX: u64 = 1 << 20;
/// Below this duplicates would pass at ordinary share rates; above it memory is the limit.
const FINGERPRINTS: std::ops::RangeInclusive<u64> = 64..=1 << 20;

/// Four series a worker: beyond this a scrape grows to megabytes, and the API serves better.
const WORKER_SERIES: std::ops::RangeInclusive<u64> = 0..=10_000;

/// Reads everything; `None` only if a required part is missing, which is then in `faults`.
pub(crate) fn config(raw: &RawConfig<'_>, faults: &mut Vec<Fault>) -> Option<Config> {
    let node = source::node(raw, faults);
    let mut listen = Vec::new();
    let mut places = Vec::new();
    for table in raw.tables("listen") {
        listen.push(listener(Some(table), faults, &mut places));
    }
    if listen.is_empty() {
        listen.push(listener(None, faults, &mut places));
    }
    one_extranonce2_size(raw, &listen, faults);
    let reader = &mut Reader { table: raw.table("http"), faults };
    let http = reader.address("address").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9332)));
    places.push((reader.offset("address"), http));
    once_each(&places, faults);
    let payout = payout::payout(raw, node.as_ref(), &listen, faults);
    let reader = &mut Reader { table: raw.table("state"), faults };
    let state_directory = state_directory(reader);
    Some(Config {
        listen,
        state_directory,
        shards: shards(&mut Reader { table: raw.table("shards"), faults }),
        difficulty: difficulty(&mut Reader { table: raw.table("difficulty"), faults }),
        no_work: no_work(&mut Reader { table: raw.table("failover"), faults }),
        node: node?,
        payout,
        http,
        log: log(&mut Reader { table: raw.table("log"), faults }),
        alerts: alerts::alerts(&mut Reader { table: raw.table("alerts"), faults }),
        limits: limits(&mut Reader { table: raw.table("limits"), faults }),
    })
}

fn listener(
    table: Option<&RawTable<'_>>,
    faults: &mut Vec<Fault>,
    places: &mut Vec<(usize, SocketAddr)>,
) -> Listen {
    let reader = &mut Reader { table, faults };
    let default = vec![(0, SocketAddr::from(([0, 0, 0, 0], 3333)))];
    let addresses = reader.addresses("address").unwrap_or(default);
    let allow = reader.networks("allow").unwrap_or_else(AllowList::private);
    let list = reader.raw("allow").and_then(|raw| raw.value.as_array());
    if list.is_some_and(|list| list.is_empty()) {
        reader.fault(
            "allow",
            "allow is empty: nobody could connect",
            "write allow = [\"private\"]",
        );
    }
    let proxy_from = reader.networks("proxy_protocol_from").unwrap_or_else(nobody);
    proxies_may_connect(reader, &allow);
    let extranonce2_size = reader.whole("extranonce2_size", EXTRANONCE2_SIZE).unwrap_or(4) as u8;
    places.extend(addresses.iter().copied());
    let addresses = addresses.into_iter().map(|(_, address)| address).collect();
    Listen { addresses, allow, proxy_from, extranonce2_size }
}

/// `allow` is about whoever connects, and that is the load balancer.
fn proxies_may_connect(reader: &mut Reader<'_, '_>, allow: &AllowList) {
    for (offset, network) in reader.texts("proxy_protocol_from", "[]").unwrap_or_default() {
        let first = network.split('/').next().and_then(|address| address.parse().ok());
        if first.is_some_and(|first: IpAddr| !allow.allows(first)) {
            let what = format!("\"{network}\" must send a PROXY header and may not connect");
            let remedy = "add it to allow: that list is about who connects, not whom they speak of";
            reader.faults.push(Fault::new(offset, what, remedy));
        }
    }
}

/// A list without a network.
fn nobody() -> AllowList {
    AllowList::parse([]).expect("no entry can be wrong")
}

/// The farm's jobs have one split of the extranonce in this version.
fn one_extranonce2_size(raw: &RawConfig<'_>, listen: &[Listen], faults: &mut Vec<Fault>) {
    for (table, listener) in raw.tables("listen").zip(listen).skip(1) {
        if listener.extranonce2_size != listen[0].extranonce2_size {
            let raw = table.values.get("extranonce2_size");
            faults.push(Fault::new(
                raw.map_or(table.offset, |raw| raw.offset),
                "an extranonce2_size of its own per listener is not in this version",
                format!("write extranonce2_size = {}", listen[0].extranonce2_size),
            ));
        }
    }
}

/// The same address twice would share its miners between two sets of rules by chance, and every
/// interface's includes each interface's.
fn once_each(places: &[(usize, SocketAddr)], faults: &mut Vec<Fault>) {
    const REMEDY: &str = "give each listener and [http] its own port";
    let mut seen: Vec<SocketAddr> = Vec::new();
    for (offset, address) in places.iter().filter(|(_, address)| address.port() != 0) {
        if seen.contains(address) {
            let what = format!("address \"{address}\" is used twice");
            faults.push(Fault::new(*offset, what, REMEDY));
        } else if let Some(other) = seen.iter().find(|other| overlap(**other, *address)) {
            let what =
                format!("address \"{address}\" is part of \"{other}\" or the other way round");
            faults.push(Fault::new(*offset, what, REMEDY));
        }
        seen.push(*address);
    }
}

/// Whether one of two addresses is that of every interface, on the same port. `[::]` leaves IPv4
/// alone where something listens there.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let every = one.ip().is_unspecified() || other.ip().is_unspecified();
    every && one.port() == other.port() && one.is_ipv4() == other.is_ipv4()
}

fn no_work(reader: &mut Reader<'_, '_>) -> NoWork {
    let words = [("release", NoWork::Release), ("park", NoWork::Park)];
    reader.word("no_work", &words, NoWork::Release)
}

fn state_directory(reader: &mut Reader<'_, '_>) -> Option<PathBuf> {
    let path = PathBuf::from(reader.text("directory")?);
    if path.as_os_str().is_empty() {
        reader.fault("directory", "directory is empty", "write the path of a folder");
    }
    Some(path)
}

fn shards(reader: &mut Reader<'_, '_>) -> Shards {
    let count = reader.whole("count", 0..=engine::SHARDS_MAX as u64).unwrap_or(0) as usize;
    let cores: Vec<usize> = reader
        .wholes("cores", 0..=4095)
        .map(|cores| cores.into_iter().map(|core| core as usize).collect())
        .unwrap_or_default();
    let mut sorted = cores.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != cores.len() {
        reader.fault("cores", "cores names a core twice", "name each core once");
    }
    let kernel = reader.text("kernel").filter(|name| name != "auto");
    if let Some(name) = &kernel
        && pow::Kernel::named(name).is_err()
    {
        let known: Vec<&str> = pow::Kernel::available().map(|kernel| kernel.name()).collect();
        reader.fault(
            "kernel",
            format!("this CPU has no SHA-256 kernel \"{name}\""),
            format!("use \"auto\" or one of {}", known.join(", ")),
        );
    }
    let host =
        reader.word("host", &[("glommio", Host::Glommio), ("thread", Host::Thread)], Host::Glommio);
    Shards { count, cores, gather: reader.flag("gather", true), host, kernel }
}

fn difficulty(reader: &mut Reader<'_, '_>) -> Difficulty {
    let range = DIFFICULTY_MIN..=DIFFICULTY_MAX;
    let pace = reader.number("shares_per_minute", PER_MINUTE_MIN..=PER_MINUTE_MAX);
    let start = reader.number("start", range.clone()).unwrap_or(START);
    let minimum = reader.number("minimum", range.clone());
    let maximum = reader.number("maximum", range).unwrap_or(DIFFICULTY_MAX);
    if let Some(minimum) = minimum.filter(|minimum| *minimum > start) {
        let what = format!("minimum {minimum} is above start {start}");
        reader.fault("minimum", what, "lower minimum or raise start");
    }
    if maximum < start {
        let what = format!("maximum {maximum} is below start {start}");
        reader.fault("maximum", what, "raise maximum or lower start");
    }
    Difficulty {
        shares_per_minute: pace.unwrap_or(SHARES_PER_MINUTE),
        start,
        start_by_class: start == START,
        minimum: minimum.unwrap_or(start.min(1.0)),
        maximum,
    }
}

/// What `[node.simulation]` says.
pub(super) fn simulation(raw: &RawConfig<'_>, faults: &mut Vec<Fault>) -> Parameters {
    let reader = &mut Reader { table: raw.table("node.simulation"), faults };
    use node::simulated::{DIFFICULTY_MAX, DIFFICULTY_MIN};
    let default = Parameters::default();
    let block_seconds =
        reader.number("block_seconds", 0.0..=BLOCK_SECONDS_MAX).unwrap_or(default.block_seconds);
    if block_seconds > 0.0 && block_seconds < BLOCK_SECONDS_MIN {
        let remedy = format!("use 0 (never) or {BLOCK_SECONDS_MIN} to {BLOCK_SECONDS_MAX}");
        reader.fault("block_seconds", format!("block_seconds cannot be {block_seconds}"), remedy);
    }
    let difficulty = reader.number("difficulty", DIFFICULTY_MIN..=DIFFICULTY_MAX);
    let template_seconds = reader.number("template_seconds", 0.1..=TEMPLATE_SECONDS_MAX);
    let answer_seconds = reader.number("answer_seconds", 0.0..=ANSWER_SECONDS_MAX);
    let small = |value: Option<u64>, default: u32| {
        value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
    };
    let transactions = reader.whole("transactions", 0..=u64::from(TRANSACTIONS_MAX));
    let start_height = reader.whole("start_height", 0..=u64::from(START_HEIGHT_MAX));
    let spacings = [("poisson", Spacing::Poisson), ("fixed", Spacing::Fixed)];
    Parameters {
        difficulty: difficulty.unwrap_or(default.difficulty),
        block_seconds,
        spacing: reader.word("spacing", &spacings, default.spacing),
        transactions: small(transactions, default.transactions),
        reorgs: reader.number("reorgs", 0.0..=1.0).unwrap_or(default.reorgs),
        seed: reader.whole("seed", 0..=u64::MAX).unwrap_or(default.seed),
        start_height: small(start_height, default.start_height),
        template_seconds: template_seconds.unwrap_or(default.template_seconds),
        answer_seconds: answer_seconds.unwrap_or(default.answer_seconds),
    }
}

fn log(reader: &mut Reader<'_, '_>) -> Log {
    use tracing::Level;
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let level = reader.word("level", &levels, Level::INFO);
    let formats = [("text", Format::Text), ("json", Format::Json), ("journald", Format::Journald)];
    Log { level, format: reader.word("format", &formats, Format::Text) }
}

fn limits(reader: &mut Reader<'_, '_>) -> Limits {
    let connections = reader.whole("connections", 1..=CONNECTIONS_MAX).map(|n| n as usize);
    let unauthenticated = reader.whole("unauthenticated", 1..=CONNECTIONS_MAX).map(|n| n as usize);
    let per_source = reader.whole("per_source", 1..=CONNECTIONS_MAX).map(|n| n as usize);
    let all = connections.unwrap_or(CONNECTIONS_DEFAULT);
    if let Some(unauthenticated) = unauthenticated.filter(|limit| *limit > all) {
        let what = format!("unauthenticated {unauthenticated} is above connections {all}");
        reader.fault("unauthenticated", what, "lower unauthenticated or raise connections");
    }
    let (outer, limit) = match unauthenticated {
        Some(limit) => ("unauthenticated", limit.min(all)),
        None => ("connections", all),
    };
    if let Some(per_source) = per_source.filter(|per_source| *per_source > limit) {
        let what = format!("per_source {per_source} is above {outer} {limit}");
        reader.fault("per_source", what, format!("lower per_source or raise {outer}"));
    }
    let fingerprints = reader.whole("fingerprints", FINGERPRINTS).unwrap_or(4_096) as usize;
    let worker_series = reader.whole("worker_series", WORKER_SERIES).unwrap_or(0) as usize;
    Limits { connections, unauthenticated, per_source, fingerprints, worker_series }
}
