//! `[node]`, `[[node.backup]]` and `[payout]`: what they mean, and every way to contradict oneself.

use std::path::PathBuf;

use node::payout::Network;

use super::*;

/// A bitcoind and who is paid.
const NODE: &str = "[node]\nrpc = \"http://127.0.0.1:8332\"\ncookie_file = \"/x/.cookie\"\n";
const PAID: &str = "[payout]\naddress = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"\n";

fn bitcoinds(text: &str) -> Nodes {
    match accepted(&format!("{text}{PAID}")).node {
        NodeConfig::Bitcoind(nodes) => nodes,
        NodeConfig::Simulated(_) => panic!("{text} names a bitcoind"),
    }
}

/// What is wrong with a `[node]` of these lines, at whose end somebody is paid.
#[track_caller]
fn refused_node(lines: &str, wanted: &str) {
    refused(&format!("[node]\n{lines}\n{PAID}"), &[&format!("farm.toml:{wanted}")]);
}

/// The same, with a way to log in on the second line.
#[track_caller]
fn refused_url(line: &str, wanted: &str) {
    refused_node(&format!("cookie_file = \"/c\"\n{line}"), &format!("3:{wanted}"));
}

#[test]
fn a_bitcoind_and_its_backups_are_read_in_order() {
    let text = format!(
        "{NODE}zmq_hashblock = \"tcp://127.0.0.1:28332\"\n\
         [[node.backup]]\nrpc = \"http://node-2.farm:8332/\"\nuser = \"h\"\npassword = \"p\"\n\
         [[node.backup]]\nrpc = \"http://[::1]:8332\"\nuser = \"h\"\npassword_file = \"/p\"\n\
         network = \"main\"\n"
    );
    let nodes = bitcoinds(&text);
    assert_eq!(nodes.network, Network::Main);
    let [first, second, third] = nodes.nodes.as_slice() else { panic!("{nodes:?}") };
    assert_eq!(
        (first.name.as_str(), first.url.as_str()),
        ("127.0.0.1:8332", "http://127.0.0.1:8332")
    );
    assert_eq!(first.login, Login::Cookie(PathBuf::from("/x/.cookie")));
    assert_eq!(first.zmq_hashblock.as_deref(), Some("tcp://127.0.0.1:28332"));
    assert_eq!(second.url, "http://node-2.farm:8332", "a slash at the end is no path");
    let password = Secret("p".to_owned());
    assert_eq!(second.login, Login::Password { user: "h".to_owned(), password });
    assert_eq!(third.name, "[::1]:8332");
    assert_eq!(third.login, Login::PasswordFile { user: "h".to_owned(), path: "/p".into() });
    assert!(!format!("{second:?}").contains("\"p\""), "{second:?}");
}

#[test]
fn the_network_is_main_unless_it_is_named() {
    let networks = [
        ("main", Network::Main, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        ("test", Network::Test, "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"),
        ("testnet4", Network::Testnet4, "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"),
        ("regtest", Network::Regtest, "bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x"),
    ];
    for (name, network, address) in networks {
        let payout = format!("[payout]\naddress = \"{address}\"\n");
        let config = accepted(&format!("{NODE}network = \"{name}\"\n{payout}"));
        assert!(matches!(config.node, NodeConfig::Bitcoind(nodes) if nodes.network == network));
        assert!(config.payout.script.is_some());
    }
    let rows = [
        (
            "signet",
            "network \"signet\" cannot be mined: its blocks need a signature that only its makers \
             can give; use \"testnet4\" or \"regtest\"",
        ),
        ("mainnet", "network cannot be \"mainnet\"; did you mean \"main\"?"),
        ("testnet3", "network cannot be \"testnet3\"; did you mean \"test\"?"),
        ("regtst", "network cannot be \"regtst\"; did you mean \"regtest\"?"),
    ];
    for (name, wanted) in rows {
        let faults = Config::parse(
            Path::new(PATH),
            &format!("{NODE}network = \"{name}\"\n[payout]\nscript = \"51\"\n"),
        );
        let faults = faults.expect_err("no such network");
        assert_eq!(faults.lines(), [format!("farm.toml:4:11: {wanted}")]);
    }
}

#[test]
fn a_file_without_work_is_refused() {
    let remedy = "name your bitcoind: rpc = \"http://127.0.0.1:8332\" under [node]; or write \
                  simulated = true";
    let rows = [
        ("", "1:1: no source of work: [node] is missing"),
        ("[node]\n", "1:2: no source of work: [node] names no node"),
        ("[node]\nsimulated = false\n", "2:13: simulated = false, and no rpc"),
        ("[node]\nnetwork = \"main\"\n", "1:2: no source of work: [node] names no node"),
    ];
    for (text, wanted) in rows {
        refused(text, &[&format!("farm.toml:{wanted}; {remedy}")]);
    }
}

#[test]
fn a_simulated_node_and_a_bitcoind_exclude_each_other() {
    refused_node(
        "simulated = true\nrpc = \"http://127.0.0.1:8332\"",
        "3:7: rpc and simulated = true contradict each other; keep the one that is meant",
    );
    let keys = ["cookie_file", "user", "password", "password_file", "zmq_hashblock"];
    for key in keys {
        refused(
            &format!("{LEAST}{key} = \"x\"\n"),
            &[&format!(
                "farm.toml:3:{}: {key} is of a bitcoind, and simulated = true; remove one of the \
                 two lines",
                key.len() + 4
            )],
        );
    }
    refused(
        &format!("{LEAST}network = \"main\"\n"),
        &["farm.toml:3:11: network \"main\" is not what the simulated node is; write \"regtest\" \
           or remove the line"],
    );
    let backup = "[[node.backup]]\nrpc = \"http://127.0.0.1:8332\"\ncookie_file = \"/c\"\n";
    let faults = Config::parse(Path::new(PATH), &format!("{LEAST}{backup}"));
    let faults = faults.expect_err("a backup of a simulation");
    let wanted = "[[node.backup]] stands beside simulated = true; remove one of the two";
    assert_eq!(faults.lines().len(), 1, "{faults}");
    assert!(faults.lines()[0].starts_with("farm.toml:3:"), "{faults}");
    assert!(faults.lines()[0].ends_with(wanted), "{faults}");
    refused(
        &format!("{NODE}[node.simulation]\nseed = 1\n{PAID}"),
        &["farm.toml:4:7: [node.simulation] stands beside rpc; remove one of the two"],
    );
}

#[test]
fn a_url_that_is_none_is_refused_without_repeating_a_password() {
    let rows = [
        (
            "rpc = \"127.0.0.1:8332\"",
            "7: rpc \"127.0.0.1:8332\" does not begin with http://; write rpc = \
             \"http://127.0.0.1:8332\"",
        ),
        (
            "rpc = \"https://node:8332\"",
            "7: rpc is https, which bitcoind does not speak; write http://; through a tunnel \
             where others share the network",
        ),
        (
            "rpc = \"tcp://node:8332\"",
            "7: rpc \"tcp://node:8332\" is not http://HOST:PORT; write rpc = \"http://HOST:8332\"",
        ),
        (
            "rpc = \"http://user:hunter2@node:8332\"",
            "7: rpc holds a user and a password; write rpc = \"http://HOST:8332\", and user and \
             password apart",
        ),
        (
            "rpc = \"http://node:8332/wallet/w\"",
            "7: rpc has a path, \"/wallet/w\": mining needs no wallet; write rpc = \
             \"http://node:8332\"",
        ),
        ("rpc = \"http://node\"", "7: rpc names no port; write rpc = \"http://node:8332\""),
        ("rpc = \"http://::1\"", "7: rpc names no port; write rpc = \"http://[::1]:8332\""),
        ("rpc = \"http://node:0\"", "7: rpc has the port \"0\"; use 1 to 65535"),
        ("rpc = \"http://node:83320\"", "7: rpc has the port \"83320\"; use 1 to 65535"),
        (
            "rpc = \"http://no de:8332\"",
            "7: rpc \"http://no de:8332\" names no host; write rpc = \"http://127.0.0.1:8332\"",
        ),
        (
            "rpc = \"http://0.0.0.0:8332\"",
            "7: rpc is 0.0.0.0: where bitcoind listens, not where it is; write rpc = \
             \"http://127.0.0.1:8332\"",
        ),
    ];
    for (line, wanted) in rows {
        refused_url(line, wanted);
    }
    let network = "network = \"regtest\"\nrpc = \"http://node\"\n[payout]\nscript = \"51\"\n";
    refused(
        &format!("[node]\ncookie_file = \"/c\"\n{network}"),
        &["farm.toml:4:7: rpc names no port; write rpc = \"http://node:18443\""],
    );
}

#[test]
fn where_hashes_are_published_is_an_address_of_its_own() {
    let rows = [
        (
            "127.0.0.1:28332",
            "4:17: zmq_hashblock \"127.0.0.1:28332\" is not tcp://HOST:PORT; write \
             zmq_hashblock = \"tcp://127.0.0.1:28332\"",
        ),
        (
            "tcp://*:28332",
            "4:17: zmq_hashblock \"tcp://*:28332\" names no host; write zmq_hashblock = \
             \"tcp://127.0.0.1:28332\"",
        ),
        (
            "tcp://0.0.0.0:28332",
            "4:17: zmq_hashblock is 0.0.0.0: where bitcoind listens, not where it is; write \
             zmq_hashblock = \"tcp://127.0.0.1:28332\"",
        ),
        (
            "tcp://127.0.0.1:8332",
            "4:17: zmq_hashblock is the node's RPC port; write the port of its \
             -zmqpubhashblock, or remove the line",
        ),
    ];
    for (address, wanted) in rows {
        let text = format!("{NODE}zmq_hashblock = \"{address}\"\n{PAID}");
        refused(&text, &[&format!("farm.toml:{wanted}")]);
    }
}

#[test]
fn there_is_one_way_to_log_in() {
    let remedy = "keep cookie_file alone, or user with password or password_file";
    let rows = [
        (
            "",
            "2:7: how to log in to the node is not said; add cookie_file = \"…/.cookie\", or user \
             with password or password_file"
                .to_owned(),
        ),
        (
            "cookie_file = \"/c\"\nuser = \"u\"\npassword = \"p\"",
            format!("5:12: cookie_file, user, password contradict each other; {remedy}"),
        ),
        (
            "user = \"u\"\npassword = \"p\"\npassword_file = \"/p\"",
            format!("5:17: user, password, password_file contradict each other; {remedy}"),
        ),
        ("user = \"u\"", "3:8: user has no password; add password_file or password".to_owned()),
        ("password = \"p\"", "3:12: password has no user; add user".to_owned()),
        (
            "user = \"u\"\npassword = \"\"",
            "4:12: password is empty; write what bitcoind's rpcauth has".to_owned(),
        ),
        (
            "user = \"u:p\"\npassword = \"p\"",
            "3:8: user has a colon, which ends a name; write the name alone, and the password \
             under its own key"
                .to_owned(),
        ),
        (
            "cookie_file = \"~/.bitcoin/.cookie\"",
            "3:15: cookie_file \"~/.bitcoin/.cookie\" is no path: nobody replaces ~ or $ here; \
             write the whole path, from / on"
                .to_owned(),
        ),
    ];
    for (lines, wanted) in rows {
        refused_node(&format!("rpc = \"http://127.0.0.1:8332\"\n{lines}"), &wanted);
    }
}

#[test]
fn backups_are_other_nodes_of_the_same_network() {
    refused(
        &format!("{NODE}[[node.backup]]\ncookie_file = \"/c\"\n{PAID}"),
        &["farm.toml:4:1: [[node.backup]] does not say where the node is; add rpc = \
           \"http://HOST:8332\""],
    );
    let backup = "[[node.backup]]\nrpc = \"http://127.0.0.1:8332\"\ncookie_file = \"/c\"\n";
    refused(
        &format!("{NODE}{backup}{PAID}"),
        &["farm.toml:5:7: the node 127.0.0.1:8332 is named twice; name each node once"],
    );
    let other = backup.replace("8332", "8333");
    refused(
        &format!("{NODE}{other}network = \"regtest\"\n{PAID}"),
        &["farm.toml:7:11: the backup is of another network than [node], main; remove the line: \
           all nodes are of one network"],
    );
}

#[test]
fn somebody_is_paid_and_only_one() {
    refused(
        NODE,
        &["farm.toml:1:1: nobody is paid for a block: [payout] names nobody; add [payout] with \
           address, script or descriptor"],
    );
    refused(
        &format!("{NODE}[payout]\nsignature = \"/x/\"\n"),
        &["farm.toml:4:2: nobody is paid for a block: [payout] names nobody; add [payout] with \
           address, script or descriptor"],
    );
    refused(
        &format!("{NODE}{PAID}script = \"51\"\n"),
        &["farm.toml:6:10: address and script are both given; keep the one that is meant"],
    );
    let paid = |line: &str| accepted(&format!("{NODE}[payout]\n{line}\n")).payout.script;
    let program = paid("address = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"");
    assert_eq!(paid("script = \"0014751e76e8199196d454941c45d1b3a323f1433bd6\""), program);
    let body = "addr(bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4)";
    assert_eq!(paid(&format!("descriptor = \"{body}\"")), program);
}

#[test]
fn a_payout_that_pays_nobody_is_refused_where_it_stands() {
    let extended = "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8\
                    YtGqsefD265TMg7usUDFdp6W1EGMcet8";
    let rows = [
        (
            "address = \"tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx\"".to_owned(),
            "11: the address is not of the network that is mined, main; use an address of main",
        ),
        (
            "script = \"6a00\"".to_owned(),
            "10: the output script executes OP_RETURN, which always fails: the coins would be \
             lost; use a script that your wallet can spend",
        ),
        (
            format!("descriptor = \"wpkh({extended}/0/*)\""),
            "14: the descriptor is ranged: it names many scripts, and a coinbase pays one; use \
             the descriptor of one address: addr(ADDRESS), or the public key itself",
        ),
        (
            format!("descriptor = \"wpkh({extended}/0/7)\""),
            "14: the descriptor has an extended key, from which others derive; use addr(ADDRESS), \
             or the derived public key in hex in place of the extended one",
        ),
        (
            "descriptor = \"raw(deadbeef)#89f8spxn\"".to_owned(),
            "14: the descriptor's checksum does not belong to its text; copy the descriptor again, \
             all of it; the part from # on may be left out",
        ),
        (
            "descriptor = \"combo(02)\"".to_owned(),
            "14: descriptor combo() does not name one script that is known here; use one of \
             addr(), raw(), pk(), pkh(), wpkh(), sh(), wsh(), tr()",
        ),
    ];
    for (line, wanted) in rows {
        refused(&format!("{NODE}[payout]\n{line}\n"), &[&format!("farm.toml:5:{wanted}")]);
    }
}

#[test]
fn coins_for_anybody_are_a_warning_where_they_are_worth_something() {
    let warned = |text: &str| {
        let config = accepted(text);
        payout::warning(&config.payout, &config.node)
    };
    let anybody = "[payout]\nscript = \"51\"\n";
    let warning = warned(&format!("{NODE}{anybody}")).expect("money");
    assert!(warning.contains("anybody can take the coins"), "{warning}");
    assert_eq!(warned(&format!("{NODE}{PAID}")), None);
    assert_eq!(warned(&format!("{NODE}network = \"regtest\"\n{anybody}")), None);
    assert_eq!(warned(&format!("{LEAST}{anybody}")), None);
}
