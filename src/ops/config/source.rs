//! What `[node]` and `[[node.backup]]` mean: the embedded chain, or bitcoinds in the order in which
//! they are asked. Whether they answer is not known here; `check --peers` asks.

use std::fmt;
use std::path::PathBuf;

use node::payout::Network;

use super::fault::Fault;
use super::keys;
use super::meaning::simulation;
use super::raw::{RawConfig, RawTable};
use super::value::Reader;

/// Where work comes from and where blocks go to.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeConfig {
    /// The embedded chain.
    Simulated(node::simulated::Parameters),
    /// The farm's own nodes.
    Bitcoind(Nodes),
}

impl NodeConfig {
    /// The name of the chain that is mined: each has a block journal of its own.
    pub fn chain(&self) -> String {
        match self {
            NodeConfig::Simulated(_) => "simulated".to_owned(),
            NodeConfig::Bitcoind(nodes) => nodes.network.to_string(),
        }
    }
}

/// Bitcoinds of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// The network that all of them must be of.
    pub network: Network,
    /// In order of preference: `[node]`, then each `[[node.backup]]`; never empty.
    pub nodes: Vec<Bitcoind>,
}

/// One bitcoind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitcoind {
    /// `HOST:PORT` of its RPC: what logs and metrics call it.
    pub name: String,
    /// `http://HOST:PORT`.
    pub url: String,
    /// How to log in.
    pub login: Login,
    /// Where it publishes block hashes, `tcp://HOST:PORT`.
    pub zmq_hashblock: Option<String>,
}

/// How to log in to a bitcoind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// The cookie that it writes at each start.
    Cookie(PathBuf),
    /// A user of its `rpcauth`.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// The same, with the password in a file of its own.
    PasswordFile {
        /// The name.
        user: String,
        /// The file with the password and nothing else.
        path: PathBuf,
    },
}

/// A text that no log and no panic repeats.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// Keys that mean something only where a bitcoind is meant.
const BITCOIND_KEYS: [&str; 5] =
    ["cookie_file", "user", "password", "password_file", "zmq_hashblock"];
const NO_SOURCE: &str =
    "name your bitcoind: rpc = \"http://127.0.0.1:8332\" under [node]; or write simulated = true";

/// Reads all sections of nodes; `None` only if there is none to read, which is then in `faults`.
pub(super) fn node(raw: &RawConfig<'_>, faults: &mut Vec<Fault>) -> Option<NodeConfig> {
    let reader = &mut Reader { table: raw.table("node"), faults };
    if reader.table.is_none() {
        reader.fault("node", "no source of work: [node] is missing", NO_SOURCE);
        return None;
    }
    let simulated = reader.flag("simulated", false);
    let rpc = reader.raw("rpc").is_some();
    match (simulated, rpc) {
        (true, true) => {
            let what = "rpc and simulated = true contradict each other";
            reader.fault("rpc", what, "keep the one that is meant");
            None
        }
        (true, false) => {
            only_simulated(raw, faults);
            Some(NodeConfig::Simulated(simulation(raw, faults)))
        }
        (false, true) => Some(NodeConfig::Bitcoind(bitcoinds(raw, faults))),
        (false, false) if reader.raw("simulated").is_some() => {
            reader.fault("simulated", "simulated = false, and no rpc", NO_SOURCE);
            None
        }
        (false, false) => {
            reader.fault("", "no source of work: [node] names no node", NO_SOURCE);
            None
        }
    }
}

/// What a simulated node has no use for.
fn only_simulated(raw: &RawConfig<'_>, faults: &mut Vec<Fault>) {
    let reader = &mut Reader { table: raw.table("node"), faults };
    for key in BITCOIND_KEYS {
        if reader.raw(key).is_some() {
            let what = format!("{key} is of a bitcoind, and simulated = true");
            reader.fault(key, what, "remove one of the two lines");
        }
    }
    if let Some(network) = reader.text("network")
        && network != "regtest"
    {
        let what = format!("network \"{network}\" is not what the simulated node is");
        reader.fault("network", what, "write \"regtest\" or remove the line");
    }
    for table in raw.tables("node.backup") {
        let what = "[[node.backup]] stands beside simulated = true";
        faults.push(Fault::new(table.offset, what, "remove one of the two"));
    }
}

fn bitcoinds(raw: &RawConfig<'_>, faults: &mut Vec<Fault>) -> Nodes {
    let network = configured_network(&mut Reader { table: raw.table("node"), faults });
    if let Some(table) = raw.table("node.simulation") {
        let what = "[node.simulation] stands beside rpc";
        faults.push(Fault::new(table.offset, what, "remove one of the two"));
    }
    let tables = raw.table("node").into_iter().chain(raw.tables("node.backup"));
    let mut nodes: Vec<Bitcoind> = Vec::new();
    for table in tables {
        let reader = &mut Reader { table: Some(table), faults };
        let backup = table.section.name == "node.backup";
        if backup && reader.raw("network").is_some() && configured_network(reader) != network {
            let what = format!("the backup is of another network than [node], {network}");
            reader.fault("network", what, "remove the line: all nodes are of one network");
        }
        let Some(node) = bitcoind(table, network, faults) else { continue };
        if nodes.iter().any(|other| other.name == node.name) {
            let reader = &mut Reader { table: Some(table), faults };
            let what = format!("the node {} is named twice", node.name);
            reader.fault("rpc", what, "name each node once");
        }
        nodes.push(node);
    }
    Nodes { network, nodes }
}

fn configured_network(reader: &mut Reader<'_, '_>) -> Network {
    let networks = [
        ("main", Network::Main),
        ("test", Network::Test),
        ("testnet4", Network::Testnet4),
        ("regtest", Network::Regtest),
    ];
    let given = reader.raw("network").and_then(|raw| raw.value.as_str());
    let meant = match given {
        Some("signet") => {
            let what = "network \"signet\" cannot be mined: its blocks need a signature that only \
                        its makers can give";
            reader.fault("network", what, "use \"testnet4\" or \"regtest\"");
            return Network::Signet;
        }
        Some("mainnet" | "bitcoin") => "main",
        Some("testnet" | "testnet3") => "test",
        _ => return reader.word("network", &networks, Network::Main),
    };
    let what = format!("network cannot be \"{}\"", given.unwrap_or_default());
    reader.fault("network", what, format!("did you mean \"{meant}\"?"));
    Network::Main
}

fn bitcoind(table: &RawTable<'_>, network: Network, faults: &mut Vec<Fault>) -> Option<Bitcoind> {
    let reader = &mut Reader { table: Some(table), faults };
    if reader.raw("rpc").is_none() {
        let section = keys::written(table.section);
        let what = format!("{section} does not say where the node is");
        reader.fault("rpc", what, format!("add rpc = \"http://HOST:{}\"", rpc_port(network)));
    }
    let name = rpc(reader, network);
    let zmq_hashblock = zmq(reader, name.as_deref());
    let login = login(reader)?;
    let name = name?;
    Some(Bitcoind { url: format!("http://{name}"), name, login, zmq_hashblock })
}

/// The port that bitcoind itself takes where nobody says otherwise.
fn rpc_port(network: Network) -> u16 {
    match network {
        Network::Main => 8_332,
        Network::Test => 18_332,
        Network::Testnet4 => 48_332,
        Network::Signet => 38_332,
        Network::Regtest => 18_443,
    }
}

/// `HOST:PORT` out of `rpc`. What stands there is repeated only where it can hold no password.
fn rpc(reader: &mut Reader<'_, '_>, network: Network) -> Option<String> {
    let given = reader.text("rpc")?;
    let usual = rpc_port(network);
    if given.contains('@') {
        let what = "rpc holds a user and a password";
        let remedy = format!("write rpc = \"http://HOST:{usual}\", and user and password apart");
        reader.fault("rpc", what, remedy);
        return None;
    }
    let Some(rest) = given.strip_prefix("http://") else {
        let (what, remedy) = match given.split_once("://") {
            Some(("https", _)) => (
                "rpc is https, which bitcoind does not speak".to_owned(),
                "write http://; through a tunnel where others share the network".to_owned(),
            ),
            Some(_) => (
                format!("rpc \"{given}\" is not http://HOST:PORT"),
                format!("write rpc = \"http://HOST:{usual}\""),
            ),
            None => (
                format!("rpc \"{given}\" does not begin with http://"),
                format!("write rpc = \"http://{given}\""),
            ),
        };
        reader.fault("rpc", what, remedy);
        return None;
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        let what = format!("rpc has a path, \"/{path}\": mining needs no wallet");
        reader.fault("rpc", what, format!("write rpc = \"http://{authority}\""));
        return None;
    }
    host_and_port(reader, "rpc", "http", authority, usual)
}

fn zmq(reader: &mut Reader<'_, '_>, rpc: Option<&str>) -> Option<String> {
    const USUAL: u16 = 28_332;
    let given = reader.text("zmq_hashblock")?;
    let Some(rest) = given.strip_prefix("tcp://") else {
        let what = format!("zmq_hashblock \"{given}\" is not tcp://HOST:PORT");
        let remedy = format!("write zmq_hashblock = \"tcp://127.0.0.1:{USUAL}\"");
        reader.fault("zmq_hashblock", what, remedy);
        return None;
    };
    let name = host_and_port(reader, "zmq_hashblock", "tcp", rest, USUAL)?;
    if rpc == Some(name.as_str()) {
        let what = "zmq_hashblock is the node's RPC port";
        let remedy = "write the port of its -zmqpubhashblock, or remove the line";
        reader.fault("zmq_hashblock", what, remedy);
        return None;
    }
    Some(format!("tcp://{name}"))
}

/// Checks `HOST:PORT` of a URL.
fn host_and_port(
    reader: &mut Reader<'_, '_>,
    key: &str,
    scheme: &str,
    authority: &str,
    usual: u16,
) -> Option<String> {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of a bare IPv6 address is no port's.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let (host, bare) = match host.parse::<std::net::Ipv6Addr>() {
        Ok(_) => (format!("[{host}]"), true),
        Err(_) => (host.to_owned(), false),
    };
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let good = inside.map_or(named, |inside| inside.parse::<std::net::Ipv6Addr>().is_ok());
    if host.is_empty() || !good {
        let what = format!("{key} \"{scheme}://{authority}\" names no host");
        reader.fault(key, what, format!("write {key} = \"{scheme}://127.0.0.1:{usual}\""));
        return None;
    }
    let Some(port) = port.filter(|_| !bare) else {
        let what = format!("{key} names no port");
        reader.fault(key, what, format!("write {key} = \"{scheme}://{host}:{usual}\""));
        return None;
    };
    if !port.parse::<u16>().is_ok_and(|port| port != 0) {
        let what = format!("{key} has the port \"{port}\"");
        reader.fault(key, what, "use 1 to 65535");
        return None;
    }
    if ["0.0.0.0", "[::]"].contains(&host.as_str()) {
        let what = format!("{key} is {host}: where bitcoind listens, not where it is");
        reader.fault(key, what, format!("write {key} = \"{scheme}://127.0.0.1:{port}\""));
        return None;
    }
    Some(format!("{host}:{port}"))
}

fn login(reader: &mut Reader<'_, '_>) -> Option<Login> {
    let cookie = path(reader, "cookie_file");
    let user = reader.text("user");
    let password = reader.text("password");
    let password_file = path(reader, "password_file");
    let given: Vec<&str> = ["cookie_file", "user", "password", "password_file"]
        .into_iter()
        .filter(|key| reader.raw(key).is_some())
        .collect();
    let remedy = "keep cookie_file alone, or user with password or password_file";
    match given.as_slice() {
        [] => {
            let what = "how to log in to the node is not said";
            let remedy = "add cookie_file = \"…/.cookie\", or user with password or password_file";
            reader.fault("rpc", what, remedy);
            return None;
        }
        ["cookie_file"] | ["user", "password"] | ["user", "password_file"] => {}
        ["user"] => {
            reader.fault("user", "user has no password", "add password_file or password");
        }
        ["password"] | ["password_file"] => {
            reader.fault(given[0], format!("{} has no user", given[0]), "add user");
        }
        [.., last] => {
            let what = format!("{} contradict each other", given.join(", "));
            reader.fault(last, what, remedy);
        }
    }
    for (key, value) in [("user", &user), ("password", &password)] {
        if value.as_ref().is_some_and(String::is_empty) {
            reader.fault(key, format!("{key} is empty"), "write what bitcoind's rpcauth has");
        }
    }
    if user.as_ref().is_some_and(|user| user.contains(':')) {
        let what = "user has a colon, which ends a name";
        reader.fault("user", what, "write the name alone, and the password under its own key");
    }
    match (cookie, user, password, password_file) {
        (Some(path), ..) => Some(Login::Cookie(path)),
        (_, Some(user), Some(password), _) => {
            Some(Login::Password { user, password: Secret(password) })
        }
        (_, Some(user), _, Some(path)) => Some(Login::PasswordFile { user, path }),
        _ => None,
    }
}

/// A path as the file system has it: no shell will replace anything in it.
fn path(reader: &mut Reader<'_, '_>, key: &str) -> Option<PathBuf> {
    let given = reader.text(key)?;
    if given.is_empty() {
        reader.fault(key, format!("{key} is empty"), "write the path of a file");
    } else if given.starts_with(['~', '$']) {
        let what = format!("{key} \"{given}\" is no path: nobody replaces ~ or $ here");
        reader.fault(key, what, "write the whole path, from / on");
    }
    Some(PathBuf::from(given))
}
