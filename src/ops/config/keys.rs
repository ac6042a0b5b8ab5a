//! The one table of everything that a configuration file may say. The reader refuses what is not
//! in it, `generate config` prints it, and typing errors are measured against it; so a key that
//! is added here is known everywhere. A key of the contract whose feature does not exist yet is
//! listed as such: it is refused by name, never ignored.

/// How a section may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `[name]`, once.
    Table,
    /// `[name]` once, or several `[[name]]`.
    TableOrSeveral,
}

/// Whether this version does what the key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    Yes,
    NotYet,
}

/// One section of the file.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) built: Built,
    /// Whether its being there means something: the sample then shows it as a comment.
    pub(crate) optional: bool,
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [Key],
}

/// One key of a section.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) built: Built,
    /// What the sample says: the default, or an example where there is none.
    pub(crate) sample: Sample,
    pub(crate) what: &'static str,
}

/// What `generate config` writes after the equals sign.
#[derive(Debug)]
pub(crate) enum Sample {
    /// The default, in TOML.
    Default(&'static str),
    /// The key has no fixed default: an example, written as a comment.
    Example(&'static str),
    /// Not in the sample, because it is not in this version.
    Hidden,
}

const fn key(name: &'static str, default: &'static str, what: &'static str) -> Key {
    Key { name, built: Built::Yes, sample: Sample::Default(default), what }
}

const fn example(name: &'static str, example: &'static str, what: &'static str) -> Key {
    Key { name, built: Built::Yes, sample: Sample::Example(example), what }
}

const fn not_yet(name: &'static str) -> Key {
    Key { name, built: Built::NotYet, sample: Sample::Hidden, what: "" }
}

const fn section(name: &'static str, what: &'static str, keys: &'static [Key]) -> Section {
    Section { name, shape: Shape::Table, built: Built::Yes, optional: false, what, keys }
}

const fn absent(name: &'static str) -> Section {
    let (shape, built) = (Shape::TableOrSeveral, Built::NotYet);
    Section { name, shape, built, optional: true, what: "", keys: &[] }
}

impl Section {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// The section's head, as a file has it.
pub(crate) fn written(section: &Section) -> String {
    match (section.optional, section.shape) {
        (true, Shape::TableOrSeveral) => format!("[[{}]]", section.name),
        _ => format!("[{}]", section.name),
    }
}

/// The section of this name; one inside another is written `outer.inner`.
pub(crate) fn find(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// Every section, in the order in which the sample shows them.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        name: "listen",
        shape: Shape::TableOrSeveral,
        built: Built::Yes,
        optional: false,
        what: "Where miners connect; or several [[listen]], each with its own values.",
        keys: LISTEN,
    },
    absent("listen.noise"),
    absent("listen.tls"),
    section("state", "What must survive a restart.", STATE),
    section("shards", "Threads that serve miners, each pinned to a core of its own.", SHARDS),
    section("difficulty", "The difficulty of the shares that miners send.", DIFFICULTY),
    section("failover", "What happens when work runs out.", FAILOVER),
    absent("upstream"),
    section("node", "Where work comes from and where blocks go.", NODE),
    section("node.simulation", "The embedded chain.", SIMULATION),
    Section {
        name: "node.backup",
        shape: Shape::TableOrSeveral,
        built: Built::Yes,
        optional: true,
        what: "Further nodes: templates come from the first that is well, blocks go to all.",
        keys: BACKUP,
    },
    section("payout", "Who is paid for a block.", PAYOUT),
    absent("declarator"),
    absent("template_provider"),
    section("http", "The page, health, metrics and the API.", HTTP),
    absent("pool"),
    section("log", "", LOG),
    section("alerts", "Who hears of blocks and of silent miners; docs/alerts.md.", ALERTS),
    section("limits", "", LIMITS),
];

const LISTEN: &[Key] = &[
    key("address", r#"["0.0.0.0:3333"]"#, "IP:PORT; port 0 takes a free one and logs it"),
    key("allow", r#"["private"]"#, r#"who may connect: networks (CIDR), "private" or "any""#),
    key("proxy_protocol_from", "[]", "networks whose connections must begin with a PROXY header"),
    key("extranonce2_size", "4", "bytes that a miner may roll in the coinbase"),
];

const STATE: &[Key] = &[example(
    "directory",
    r#""/var/lib/headframe""#,
    "default: $STATE_DIRECTORY, else $XDG_STATE_HOME/headframe",
)];

const SHARDS: &[Key] = &[
    key("count", "0", "0: every core but the last, which is the coordinator's"),
    example("cores", "[0, 1]", "the cores to use; the last is the coordinator's"),
    key("gather", "true", "let more requests gather for up to 500 us where the kernel can"),
    key("host", r#""glommio""#, r#"or "thread": a bare pinned thread"#),
    key("kernel", r#""auto""#, "SHA-256 kernel: the fastest, or one by name"),
];

const DIFFICULTY: &[Key] = &[
    key("shares_per_minute", "12.0", "what each miner's difficulty is made to follow"),
    key("start", "16384.0", "of a miner nobody knows yet; one CPU wants about 0.001"),
    key("minimum", "1.0", "never easier (default: 1, or start where that is lower)"),
    example("maximum", "1000000.0", "never harder; like minimum and start: fixed"),
];

const FAILOVER: &[Key] = &[
    not_yet("fallback_solo"),
    key("no_work", r#""release""#, r#"miners are let go, to their other pools; or "park": kept"#),
];

const RPC: Key =
    example("rpc", r#""http://127.0.0.1:8332""#, "or your bitcoind, in place of simulated");
const COOKIE_FILE: Key = example(
    "cookie_file",
    r#""/var/lib/bitcoind/.cookie""#,
    "how to log in there; or user, and one of the next two",
);
const USER: Key = example("user", r#""headframe""#, "as in bitcoind's rpcauth");
const PASSWORD: Key = example("password", r#""…""#, "then let nobody else read this file");
const PASSWORD_FILE: Key =
    example("password_file", r#""/etc/headframe/rpc-password""#, "a file with nothing else in it");
const ZMQ_HASHBLOCK: Key = example(
    "zmq_hashblock",
    r#""tcp://127.0.0.1:28332""#,
    "bitcoind's -zmqpubhashblock: the fastest news of a block",
);

const NODE: &[Key] = &[
    key("simulated", "true", "the embedded chain: real blocks on a regtest of its own"),
    RPC,
    COOKIE_FILE,
    USER,
    PASSWORD,
    PASSWORD_FILE,
    ZMQ_HASHBLOCK,
    example("network", r#""main""#, "main (the default), test, testnet4 or regtest"),
    not_yet("ipc"),
    not_yet("template_provider"),
];

const BACKUP: &[Key] = &[
    RPC,
    COOKIE_FILE,
    USER,
    PASSWORD,
    PASSWORD_FILE,
    ZMQ_HASHBLOCK,
    Key {
        name: "network",
        built: Built::Yes,
        sample: Sample::Hidden,
        what: "of all nodes the same",
    },
    not_yet("ipc"),
    not_yet("template_provider"),
];

const SIMULATION: &[Key] = &[
    key("difficulty", "1.0", "of a block; 1 is about 4 billion hashes"),
    key("block_seconds", "30.0", "between blocks by somebody else; 0: never"),
    key("spacing", r#""poisson""#, r#"of those: "poisson" (as mining is) or "fixed""#),
    key("transactions", "4000", "in a template"),
    key("reorgs", "0.0", "part of somebody else's blocks that replace the tip, 0 to 1"),
    key("seed", "1", "of everything random in the chain"),
    key("start_height", "200", "blocks that stand at the start; below 101 no coin is mature"),
    key("template_seconds", "30.0", "between templates on one tip, while the mempool grows"),
    key("answer_seconds", "0.0", "until the node answers for a block that was found"),
];

const PAYOUT: &[Key] = &[
    example("address", r#""bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x""#, "of any type"),
    example("script", r#""51""#, "or the output script in hex"),
    example("descriptor", r#""raw(51)""#, "or addr() raw() pk() pkh() wpkh() sh() wsh() tr()"),
    key("signature", r#""/headframe/""#, "in the coinbase, after the extranonce"),
];

const HTTP: &[Key] =
    &[key("address", r#""127.0.0.1:9332""#, "IP:PORT; port 0 takes a free one and logs it")];

const LOG: &[Key] = &[
    key("level", r#""info""#, "error, warn, info, debug or trace"),
    key("format", r#""text""#, r#"or "json", or "journald" for its fields"#),
];

const ALERTS: &[Key] = &[
    example("webhook", r#""http://127.0.0.1:8080/alert""#, "gets each alert as a POST of JSON"),
    example("command", r#""/usr/local/bin/on-alert""#, "is run with the JSON on standard input"),
    key("silent_minutes", "10.0", "without a connection or a share, until a miner is silent"),
];

const LIMITS: &[Key] = &[
    example("connections", "50000", "miners in all (default: as open files allow, at most this)"),
    example("unauthenticated", "25000", "of these, not authorized yet (default: half of them)"),
    example("per_source", "25000", "of those, per source address and shard (default: as many)"),
    key("fingerprints", "4096", "shares remembered per miner, against duplicates"),
    key("worker_series", "0", "workers with metrics of their own; the API has all of them"),
];
