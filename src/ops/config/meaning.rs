//! The second stage: from what was written to what it means. Each section is read by one
//! function; what concerns several sections is judged at the end. A value that is wrong is
//! replaced by its default only so that the rest of the file can be judged too: the file as a
//! whole is refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use node::payout::{Network, payout_script};
use node::simulated::{
    BLOCK_SECONDS_MAX, BLOCK_SECONDS_MIN, Parameters, START_HEIGHT_MAX, Spacing,
    TEMPLATE_SECONDS_MAX, TRANSACTIONS_MAX,
};

use shard::AllowList;

use super::fault::Fault;
use super::raw::{RawConfig, RawTable};
use super::value::Reader;
use super::{
    CONNECTIONS_DEFAULT, Config, Difficulty, Format, Host, Limits, Listen, Log, Payout, Shards,
};

/// Every hash meets anything below about 2.3e-10, so that nothing smaller means more.
const DIFFICULTY_MIN: f64 = 1e-12;
/// Ten times the network's of 2026: nothing beyond it is meant.
const DIFFICULTY_MAX: f64 = 1e15;
/// Below 2 bytes a large machine runs out of work within a second; 16 is what pools grant.
const EXTRANONCE2_SIZE: std::ops::RangeInclusive<u64> = 2..=16;
/// A consensus rule: a coinbase's scriptSig.
const SCRIPT_SIG_BYTES_MAX: usize = 100;
/// What `farm` puts before the extranonce, so that a tip that comes back makes other headers.
const TIP_BYTES: usize = 2;
/// BIP34: the height needs a length and four bytes until block 2,147,483,647.
const HEIGHT_PUSH_BYTES_MAX: usize = 5;
/// What tells our miners apart, before the bytes that they roll.
const EXTRANONCE1_BYTES: usize = 4;
/// Consensus: no script above this can ever be spent.
const SCRIPT_BYTES_MAX: usize = 10_000;
/// What the slot table can address, and more than a process may have open files.
const CONNECTIONS_MAX: u64 = 1 << 20;
/// Below this duplicates would pass at ordinary share rates; above it memory is the limit.
const FINGERPRINTS: std::ops::RangeInclusive<u64> = 64..=1 << 20;

/// Reads everything; `None` only if a required part is missing, which is then in `faults`.
pub(crate) fn config(raw: &RawConfig<'_>, faults: &mut Vec<Fault>) -> Option<Config> {
    let simulation = node(raw, faults);
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
    let payout = payout(raw, &listen, faults);
    let reader = &mut Reader { table: raw.table("state"), faults };
    let state_directory = state_directory(reader);
    Some(Config {
        listen,
        state_directory,
        shards: shards(&mut Reader { table: raw.table("shards"), faults }),
        difficulty: difficulty(&mut Reader { table: raw.table("difficulty"), faults }),
        simulation: simulation?,
        payout,
        http,
        log: log(&mut Reader { table: raw.table("log"), faults }),
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
    let proxies = reader.raw("proxy_protocol_from");
    if proxies.is_some_and(|raw| raw.value.as_array().is_none_or(|list| !list.is_empty())) {
        reader.fault(
            "proxy_protocol_from",
            "proxy_protocol_from is not in this version",
            "remove the line",
        );
    }
    let extranonce2_size = reader.whole("extranonce2_size", EXTRANONCE2_SIZE).unwrap_or(4) as u8;
    places.extend(addresses.iter().copied());
    let addresses = addresses.into_iter().map(|(_, address)| address).collect();
    Listen { addresses, allow, extranonce2_size }
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

/// The same address twice would share its miners between two sets of rules by chance.
fn once_each(places: &[(usize, SocketAddr)], faults: &mut Vec<Fault>) {
    let mut seen = BTreeMap::new();
    for (offset, address) in places {
        if address.port() != 0 && seen.insert(address, offset).is_some() {
            let what = format!("address \"{address}\" is used twice");
            faults.push(Fault::new(*offset, what, "give each listener and [http] its own port"));
        }
    }
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
    let start = reader.number("start", range.clone()).unwrap_or(16_384.0);
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
    Difficulty { start, minimum: minimum.unwrap_or(start.min(1.0)), maximum }
}

fn node(raw: &RawConfig<'_>, faults: &mut Vec<Fault>) -> Option<Parameters> {
    let reader = &mut Reader { table: raw.table("node"), faults };
    let remedy = "add [node] with simulated = true";
    if reader.table.is_none() {
        reader.fault("node", "no source of work: [node] is missing", remedy);
        return None;
    }
    if reader.raw("simulated").is_none() {
        let what = "no source of work: [node] does not say simulated = true";
        reader.fault("simulated", what, remedy);
    } else if !reader.flag("simulated", true) {
        let what = "simulated = false needs a bitcoind, which is not in this version";
        reader.fault("simulated", what, "write simulated = true");
    }
    if let Some(network) = reader.text("network")
        && network != "regtest"
    {
        let what = format!("network \"{network}\" is not what the simulated node is");
        reader.fault("network", what, "write \"regtest\" or remove the line");
    }
    Some(simulation(&mut Reader { table: raw.table("node.simulation"), faults }))
}

fn simulation(reader: &mut Reader<'_, '_>) -> Parameters {
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
    }
}

fn payout(raw: &RawConfig<'_>, listen: &[Listen], faults: &mut Vec<Fault>) -> Payout {
    let reader = &mut Reader { table: raw.table("payout"), faults };
    let address = reader.text("address");
    let script = reader.text("script");
    if address.is_some() && script.is_some() {
        let what = "address and script are both given";
        reader.fault("script", what, "keep the one that is meant");
    }
    let from_address = address.and_then(|address| {
        let read = payout_script(&address, Network::Regtest);
        read.map_err(|error| reader.fault("address", error.to_string(), error.remedy())).ok()
    });
    let from_script = script.and_then(|script| {
        let bytes = hex(&script).filter(|bytes| (1..=SCRIPT_BYTES_MAX).contains(&bytes.len()));
        if bytes.is_none() {
            let what = "script is not an output script in hex";
            reader.fault("script", what, "write pairs of 0-9 and a-f, at most 10,000 bytes");
        }
        bytes
    });
    Payout { script: from_address.or(from_script), signature: signature(reader, listen) }
}

fn signature(reader: &mut Reader<'_, '_>, listen: &[Listen]) -> Vec<u8> {
    let signature = reader.text("signature").unwrap_or_else(|| "/headframe/".to_owned());
    let rolled = listen.iter().map(|listen| usize::from(listen.extranonce2_size)).max();
    let fixed = HEIGHT_PUSH_BYTES_MAX + TIP_BYTES + EXTRANONCE1_BYTES;
    let taken = fixed + rolled.unwrap_or(0);
    let room = SCRIPT_SIG_BYTES_MAX - taken;
    if signature.len() > room {
        let what = format!("signature has {} bytes", signature.len());
        let remedy = format!(
            "use at most {room}: height, tip and extranonce take {taken} of the \
             {SCRIPT_SIG_BYTES_MAX} bytes of a coinbase's scriptSig"
        );
        reader.fault("signature", what, remedy);
    }
    signature.into_bytes()
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
    if reader.raw("format").and_then(|raw| raw.value.as_str()) == Some("journald") {
        let what = "format \"journald\" is not in this version";
        reader.fault("format", what, "use \"text\" or \"json\": systemd collects both");
        return Log { level, format: Format::Text };
    }
    let formats = [("text", Format::Text), ("json", Format::Json)];
    Log { level, format: reader.word("format", &formats, Format::Text) }
}

fn limits(reader: &mut Reader<'_, '_>) -> Limits {
    let connections = reader.whole("connections", 1..=CONNECTIONS_MAX).map(|n| n as usize);
    let per_source = reader.whole("per_source", 1..=CONNECTIONS_MAX).map(|n| n as usize);
    let all = connections.unwrap_or(CONNECTIONS_DEFAULT);
    if let Some(per_source) = per_source.filter(|per_source| *per_source > all) {
        let what = format!("per_source {per_source} is above connections {all}");
        reader.fault("per_source", what, "lower per_source or raise connections");
    }
    let fingerprints = reader.whole("fingerprints", FINGERPRINTS).unwrap_or(4_096) as usize;
    Limits { connections, per_source, fingerprints }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}
