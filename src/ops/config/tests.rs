//! Every way in which a file can be wrong, as a table: text in, the exact line out.

use super::*;

mod nodes;

const PATH: &str = "farm.toml";
/// The least that a file needs.
const LEAST: &str = "[node]\nsimulated = true\n";
/// The first example of BIP173.
const MAIN_ADDRESS: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

#[track_caller]
fn refused(text: &str, wanted: &[&str]) {
    let faults = Config::parse(Path::new(PATH), text).expect_err("the file is wrong");
    assert_eq!(faults.lines(), wanted, "of\n{text}");
}

/// As `refused`, with the least appended, so that only what is under test is wrong.
#[track_caller]
fn refused_line(text: &str, wanted: &str) {
    refused(&format!("{text}\n{LEAST}"), &[wanted]);
}

#[track_caller]
fn accepted(text: &str) -> Config {
    let read = Config::parse(Path::new(PATH), text);
    read.unwrap_or_else(|faults| panic!("{faults}\nof\n{text}")).0
}

#[test]
fn the_least_file_gets_every_default() {
    let config = accepted(LEAST);
    assert_eq!(config.listen.len(), 1);
    assert_eq!(config.listen[0].addresses, ["0.0.0.0:3333".parse().expect("an address")]);
    assert_eq!(config.listen[0].extranonce2_size, 4);
    let difficulty = Difficulty {
        shares_per_minute: 12.0,
        start: 16384.0,
        start_by_class: true,
        minimum: 1.0,
        maximum: 1e15,
    };
    assert_eq!(config.difficulty, difficulty);
    assert_eq!(config.payout.signature, b"/headframe/");
    assert_eq!(config.payout.script, None);
    assert_eq!(config.http, "127.0.0.1:9332".parse().expect("an address"));
    assert_eq!(config.limits.connections, None);
}

#[test]
fn the_sample_is_a_good_file_and_says_the_defaults() {
    let text = sample();
    assert_eq!(accepted(&text), accepted(LEAST), "{text}");
    // The examples are good too, as far as they do not exclude each other.
    let excluded = ["script", "descriptor", "user", "password", "password_file", "simulated"];
    let shown = |line: &&str| {
        let key = line.split(" = ").next().unwrap_or_default();
        (line.contains(" = ") || line.starts_with('[')) && !excluded.contains(&key)
    };
    let uncommented = text.replace("\n# ", "\n");
    let (nodes, rest) = uncommented.split_once("[node.simulation]").expect("its section");
    let (_, rest) = rest.split_once("[[node.backup]]").expect("its section");
    let rest = rest.replace("127.0.0.1:8332", "127.0.0.2:8332");
    let rest = rest.replace("bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x", MAIN_ADDRESS);
    let text = format!("{nodes}[[node.backup]]{rest}");
    let text: Vec<&str> = text.lines().filter(shown).collect();
    let config = accepted(&text.join("\n"));
    assert_eq!(config.shards.cores, [0, 1]);
    assert!(config.payout.script.is_some());
    let NodeConfig::Bitcoind(nodes) = config.node else { panic!("{:?}", config.node) };
    assert_eq!(nodes.nodes.len(), 2);
}

#[test]
fn the_sample_says_which_limit_each_shard_counts_for_itself() {
    let text = sample();
    let remark = |key: &str| {
        let line = text.lines().find(|line| line.trim_start_matches("# ").starts_with(key));
        line.expect("the key is in the sample").split("  # ").last().expect("a remark").to_owned()
    };
    assert!(remark("per_source = ").contains("per source address and shard"));
    assert!(remark("connections = ").contains("miners in all"));
}

#[test]
fn a_low_start_lowers_the_default_minimum() {
    let config = accepted(&format!("[difficulty]\nstart = 1e-9\n{LEAST}"));
    assert_eq!(config.difficulty.minimum, 1e-9);
    let fixed = "[difficulty]\nstart = 2\nminimum = 2\nmaximum = 2.0\n";
    let config = accepted(&format!("{fixed}{LEAST}"));
    let Difficulty { start, start_by_class, minimum, maximum, .. } = config.difficulty;
    assert_eq!((start, minimum, maximum), (2.0, 2.0, 2.0));
    assert!(!start_by_class, "a start that was chosen holds for all");
}

#[test]
fn several_listeners_have_their_own_values() {
    let config = accepted(&format!(
        "[[listen]]\naddress = \"127.0.0.1:1\"\n[[listen]]\naddress = [\"[::1]:2\"]\n\
         allow = [\"any\"]\n{LEAST}"
    ));
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.listen[1].allow, AllowList::any());
}

#[test]
fn proxies_are_nobody_unless_named() {
    let source = "10.0.0.7".parse().expect("an address");
    assert!(!accepted(LEAST).listen[0].proxy_from.allows(source));
    let text = format!("[listen]\nproxy_protocol_from = [\"10.0.0.0/8\"]\n{LEAST}");
    assert!(accepted(&text).listen[0].proxy_from.allows(source));
    refused_line(
        "[listen]\nproxy_protocol_from = [\"balancer\"]",
        "farm.toml:2:24: \"balancer\" is no network; write \"10.0.0.0/8\", \"private\" or \"any\"",
    );
}

#[test]
fn a_proxy_must_be_allowed_to_connect() {
    refused_line(
        "[listen]\nproxy_protocol_from = [\"127.0.0.1\", \"8.8.8.0/24\"]",
        "farm.toml:2:37: \"8.8.8.0/24\" must send a PROXY header and may not connect; add it to \
         allow: that list is about who connects, not whom they speak of",
    );
    let text = "[listen]\nproxy_protocol_from = [\"8.8.8.0/24\"]\nallow = [\"any\"]\n";
    accepted(&format!("{text}{LEAST}"));
}

#[test]
fn miners_are_released_without_work_unless_parked() {
    assert_eq!(accepted(LEAST).no_work, NoWork::Release);
    let text = format!("[failover]\nno_work = \"park\"\n{LEAST}");
    assert_eq!(accepted(&text).no_work, NoWork::Park);
    refused_line(
        "[failover]\nno_work = \"wait\"",
        "farm.toml:2:11: no_work cannot be \"wait\"; use one of release, park",
    );
}

#[test]
fn every_place_is_known_after_the_file_was_good() {
    let text = "[[listen]]\naddress = [\"0.0.0.0:1\",\n  \"0.0.0.0:2\"]\n\
                [[listen]]\naddress = \"0.0.0.0:3\"\n[node]\nsimulated = true\n";
    let (_, places) = Config::parse(Path::new(PATH), text).expect("a good file");
    let listen = |table, item| Spot { section: "listen", table, key: "address", item };
    assert_eq!(places.show(listen(0, 0)), "farm.toml:2:12");
    assert_eq!(places.show(listen(0, 1)), "farm.toml:3:3");
    assert_eq!(places.show(listen(1, 0)), "farm.toml:5:11");
    assert_eq!(places.show(Spot::of("node", "simulated")), "farm.toml:7:13");
    assert_eq!(places.show(Spot::of("node", "rpc")), "farm.toml:6:2", "the section");
    assert_eq!(places.show(Spot::of("http", "address")), "farm.toml:1:1", "the file");
    assert_eq!(places.show(Spot::FILE), "farm.toml:1:1");
}

#[test]
fn unknown_names_are_refused_with_what_was_meant() {
    refused_line(
        "[listen]\nadress = [\"0.0.0.0:1\"]",
        "farm.toml:2:1: unknown key \"adress\" in [listen]; did you mean \"address\"?",
    );
    refused_line(
        "[limts]\nconnections = 5",
        "farm.toml:1:2: unknown section \"limts\"; did you mean \"limits\"?",
    );
    refused_line(
        "connections = 5",
        "farm.toml:1:1: unknown section \"connections\"; \"connections\" belongs under [limits]",
    );
    refused_line(
        "[log]\ncolour = true",
        "farm.toml:2:1: unknown key \"colour\" in [log]; known here: level, format",
    );
    refused(
        "[node]\nsimulated = true\n[node.simulatoin]\nseed = 1\n",
        &["farm.toml:3:7: unknown key \"simulatoin\" in [node]; did you mean \"simulation\"?"],
    );
}

#[test]
fn wrong_types_and_units_are_refused() {
    let rows = [
        (
            "[difficulty]\nstart = \"16k\"",
            "2:9: start must be a number without quotes or unit, not a text; write for example \
             start = 1.5",
        ),
        (
            "[node.simulation]\nblock_seconds = \"5 min\"",
            "2:17: block_seconds must be a number without quotes or unit, not a text; write for \
             example block_seconds = 1.5",
        ),
        (
            "[listen]\naddress = 3333",
            "2:11: address must be a list of texts, not a whole number; write for example \
             address = [\"0.0.0.0:3333\"]",
        ),
        (
            "[limits]\nconnections = 1e3",
            "2:15: connections must be a whole number, not a number; write for example \
             connections = 1048576",
        ),
        (
            "[state]\ndirectory = true",
            "2:13: directory must be a text in quotes, not true or false; write for example \
             directory = \"…\"",
        ),
        (
            "[shards]\ngather = \"yes\"",
            "2:10: gather must be true or false, not a text; write for example gather = true",
        ),
        (
            "[shards]\ncores = [\"0-3\"]",
            "2:9: cores must be a list of numbers up to 4095; write cores = [0, 1]",
        ),
        (
            "http = \"127.0.0.1:1\"",
            "1:1: \"http\" is a section, not a value; write [http] on a line of its own, once",
        ),
        (
            "[[log]]\nlevel = \"info\"",
            "1:3: \"log\" is a section, not a value; write [log] on a line of its own, once",
        ),
    ];
    for (text, wanted) in rows {
        refused_line(text, &format!("farm.toml:{wanted}"));
    }
}

#[test]
fn wrong_values_are_refused() {
    let rows = [
        (
            "[listen]\naddress = \"0.0.0.0\"",
            "2:11: address \"0.0.0.0\" is not IP:PORT; add the port, as in \"0.0.0.0:3333\" or \
             \"[::]:3333\"",
        ),
        (
            "[listen]\naddress = [\":3333\"]",
            "2:12: address \":3333\" is not IP:PORT; for every interface write \"0.0.0.0:3333\" \
             or \"[::]:3333\"",
        ),
        ("[listen]\naddress = []", "2:11: address is empty; write address = [\"0.0.0.0:3333\"]"),
        (
            "[listen]\nallow = [\"10.0.0.1/8\"]",
            "2:10: \"10.0.0.1/8\" is no network; the network is \"10.0.0.0/8\"",
        ),
        (
            "[listen]\nallow = []",
            "2:9: allow is empty: nobody could connect; write allow = [\"private\"]",
        ),
        (
            "[listen]\naddress = [\"1.1.1.1:1\", \"1.1.1.1:1\"]",
            "2:25: address \"1.1.1.1:1\" is used twice; give each listener and [http] its own port",
        ),
        (
            "[listen]\naddress = [\"1.1.1.1:1\", \"0.0.0.0:1\"]",
            "2:25: address \"0.0.0.0:1\" is part of \"1.1.1.1:1\" or the other way round; give \
             each listener and [http] its own port",
        ),
        (
            "[listen]\naddress = \"127.0.0.1:9332\"",
            "1:1: address \"127.0.0.1:9332\" is used twice; give each listener and [http] its own \
             port",
        ),
    ];
    for (text, wanted) in rows {
        refused_line(text, &format!("farm.toml:{wanted}"));
    }
}

#[test]
fn wrong_values_elsewhere_are_refused() {
    let rows = [
        (
            "[difficulty]\nstart = 0",
            "2:9: start cannot be 0; use 0.000000000001 to 1000000000000000",
        ),
        (
            "[difficulty]\nstart = -1.5",
            "2:9: start cannot be -1.5; use 0.000000000001 to 1000000000000000",
        ),
        (
            "[difficulty]\nstart = inf",
            "2:9: start cannot be inf; use 0.000000000001 to 1000000000000000",
        ),
        (
            "[difficulty]\nstart = nan",
            "2:9: start cannot be nan; use 0.000000000001 to 1000000000000000",
        ),
        (
            "[difficulty]\nminimum = 99999.5",
            "2:11: minimum 99999.5 is above start 16384; lower minimum or raise start",
        ),
        (
            "[difficulty]\nmaximum = 2",
            "2:11: maximum 2 is below start 16384; raise maximum or lower start",
        ),
        (
            "[difficulty]\nshares_per_minute = 0",
            "2:21: shares_per_minute cannot be 0; use 0.1 to 600",
        ),
        (
            "[difficulty]\nshares_per_minute = 601.0",
            "2:21: shares_per_minute cannot be 601.0; use 0.1 to 600",
        ),
        ("[shards]\ncores = [1, 1]", "2:9: cores names a core twice; name each core once"),
        ("[log]\nlevel = \"inof\"", "2:9: level cannot be \"inof\"; did you mean \"info\"?"),
        (
            "[log]\nformat = \"xml\"",
            "2:10: format cannot be \"xml\"; use one of text, json, journald",
        ),
        (
            "[payout]\nscript = \"5g\"",
            "2:10: the output script is not in hex; write pairs of 0-9 and a-f, as in \"0014…\"",
        ),
        (
            "[payout]\naddress = \"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa\"",
            "2:11: the address is not of the network that is mined, regtest; use an address of \
             regtest",
        ),
    ];
    for (text, wanted) in rows {
        refused_line(text, &format!("farm.toml:{wanted}"));
    }
}

#[test]
fn impossible_limits_are_refused() {
    let rows = [
        ("[limits]\nconnections = 0", "2:15: connections cannot be 0; use 1 to 1048576"),
        ("[limits]\nconnections = -5", "2:15: connections cannot be -5; use 1 to 1048576"),
        (
            "[limits]\nconnections = 99999999999999999999",
            "2:15: connections cannot be 99999999999999999999; use 1 to 1048576",
        ),
        (
            "[limits]\nconnections = 10\nper_source = 11",
            "3:14: per_source 11 is above connections 10; lower per_source or raise connections",
        ),
        (
            "[limits]\nconnections = 10\nunauthenticated = 11",
            "3:19: unauthenticated 11 is above connections 10; lower unauthenticated or raise \
             connections",
        ),
        (
            "[limits]\nunauthenticated = 10\nper_source = 11",
            "3:14: per_source 11 is above unauthenticated 10; lower per_source or raise \
             unauthenticated",
        ),
        ("[limits]\nfingerprints = 1", "2:16: fingerprints cannot be 1; use 64 to 1048576"),
        ("[listen]\nextranonce2_size = 1", "2:20: extranonce2_size cannot be 1; use 2 to 16"),
        (
            "[[listen]]\n[[listen]]\naddress = \"1.1.1.1:1\"\nextranonce2_size = 8",
            "4:20: an extranonce2_size of its own per listener is not in this version; write \
             extranonce2_size = 4",
        ),
        ("[node.simulation]\nreorgs = 1.5", "2:10: reorgs cannot be 1.5; use 0 to 1"),
    ];
    for (text, wanted) in rows {
        refused_line(text, &format!("farm.toml:{wanted}"));
    }
    let signature = "x".repeat(88);
    refused_line(
        &format!("[payout]\nsignature = \"{signature}\""),
        "farm.toml:2:13: signature has 88 bytes; use at most 85: height, tip and extranonce take \
         15 of the 100 bytes of a coinbase's scriptSig",
    );
    accepted(&format!("[payout]\nsignature = \"{}\"\n{LEAST}", &signature[3..]));
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    let sections = [
        ("[[upstream]]\nname = \"x\"", "1:3: section [upstream]"),
        ("[listen.noise]", "1:9: section [listen.noise]"),
        ("[listen.tls]", "1:9: section [listen.tls]"),
        ("[declarator]", "1:2: section [declarator]"),
        ("[template_provider]", "1:2: section [template_provider]"),
        ("[pool]", "1:2: section [pool]"),
    ];
    for (text, wanted) in sections {
        let wanted = format!("farm.toml:{wanted} is not in this version; remove the section");
        refused_line(text, &wanted);
    }
    let keys = [("[failover]\nfallback_solo = true", "failover", "fallback_solo")];
    for (text, section, key) in keys {
        let wanted = format!(
            "farm.toml:2:1: key \"{key}\" in [{section}] is not in this version; remove the line"
        );
        refused_line(text, &wanted);
    }
    for key in ["ipc", "template_provider"] {
        refused(
            &format!("{LEAST}{key} = \"x\"\n"),
            &[&format!(
                "farm.toml:3:1: key \"{key}\" in [node] is not in this version; remove the line"
            )],
        );
    }
}

#[test]
fn all_findings_come_in_the_order_of_the_file() {
    refused(
        "[listen]\nadress = \"x\"\n[difficulty]\nstart = 0\n[pool]\n",
        &[
            "farm.toml:1:1: no source of work: [node] is missing; name your bitcoind: \
             rpc = \"http://127.0.0.1:8332\" under [node]; or write simulated = true",
            "farm.toml:2:1: unknown key \"adress\" in [listen]; did you mean \"address\"?",
            "farm.toml:4:9: start cannot be 0; use 0.000000000001 to 1000000000000000",
            "farm.toml:5:2: section [pool] is not in this version; remove the section",
        ],
    );
}

#[test]
fn what_is_not_toml_is_shown_where_it_breaks() {
    let faults = Config::parse(Path::new(PATH), "[listen\naddress = \n").expect_err("not TOML");
    assert!(faults.lines()[0].starts_with("farm.toml:1:8: not TOML: "), "{faults}");
    assert!(faults.lines().iter().all(|line| line.contains("; mend the syntax")), "{faults}");
    let faults = Config::parse(Path::new(PATH), "[log]\nlevel=\"info\"\nlevel=\"warn\"\n");
    let faults = faults.expect_err("a key twice");
    assert!(faults.lines()[0].starts_with("farm.toml:3:1: not TOML: duplicate key"), "{faults}");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.toml");
    let faults = Config::load(Some(&missing)).expect_err("missing");
    assert!(faults.to_string().contains("missing.toml:1:1: there is no such file; "), "{faults}");
    let faults = Config::load(Some(folder.path())).expect_err("a folder");
    assert!(faults.to_string().contains(":1:1: this is a directory; "), "{faults}");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"[log]\nlevel = \"\xff\"\n").expect("written");
    let faults = Config::load(Some(&binary)).expect_err("binary");
    assert!(faults.to_string().contains(":2:10: the file is not UTF-8 text; "), "{faults}");
    let huge = folder.path().join("huge.toml");
    std::fs::write(&huge, vec![b'#'; FILE_BYTES_MAX as usize + 1]).expect("written");
    let faults = Config::load(Some(&huge)).expect_err("huge");
    assert!(faults.to_string().contains("larger than 1048576 bytes"), "{faults}");
}

#[test]
fn the_searched_paths_are_listed() {
    let faults = Faults::not_found(&[PathBuf::from("a.toml"), PathBuf::from("/b.toml")]);
    assert!(faults.to_string().contains("looked for a.toml and /b.toml; "), "{faults}");
}
