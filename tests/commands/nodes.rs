//! `check --peers` and `run` beside a real bitcoind: what is said of one that is well, of one that
//! is not what the file says, and of one that goes away and returns.

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use regtest::Bitcoind;

use crate::support::{Daemon, HEADFRAME, Home, get};

/// A node that goes away is noticed, and one that returns is used, within seconds.
const SOON: Duration = Duration::from_secs(30);
/// The key of the examples of BIP381.
const KEY: &str = "03a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd";
/// Transactions of 96 virtual bytes: above Knots' own 1,200,000 weight units or 300,000 bytes
/// with 200,000 weight units to spare, and below what any node fills a block with.
const MORE_THAN_KNOTS_TAKES: usize = 5_000;
/// Who is paid, one of each kind.
const PAYOUTS: [&str; 11] = [
    "address = \"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn\"",
    "address = \"2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc\"",
    "address = \"bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x\"",
    "script = \"51\"",
    "descriptor = \"pk(KEY)\"",
    "descriptor = \"pkh(KEY)\"",
    "descriptor = \"wpkh(KEY)\"",
    "descriptor = \"sh(wpkh(KEY))\"",
    "descriptor = \"wsh(pk(KEY))\"",
    "descriptor = \"tr(KEY)\"",
    "descriptor = \"raw(51ac)#f5ar6z5d\"",
];

/// A file of `node`, with these lines under `[node]` and `[payout]`.
fn file(home: &Home, node: &Bitcoind, more: &str, payout: &str) -> String {
    format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[http]\naddress = \"127.0.0.1:0\"\n\
         [state]\ndirectory = {:?}\n[node]\nrpc = \"{}\"\ncookie_file = {:?}\n{more}\n\
         [payout]\n{payout}\n[log]\nformat = \"json\"\n",
        home.path("state"),
        node.url(),
        node.cookie(),
    )
}

fn ask(home: &Home, text: &str) -> Child {
    let mut command = Command::new(HEADFRAME);
    command.args(["check", "--peers", "--config"]).arg(home.write(text));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
}

/// Exit code, and everything that was said.
fn said(child: Child) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its end");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout) + &text(stderr))
}

#[test]
fn a_node_that_is_well_would_take_blocks_of_every_payout() {
    let Some(mut node) = Bitcoind::start_with_zmq(&[]) else { return };
    node.mine(1);
    let zmq = format!("zmq_hashblock = {:?}\nnetwork = \"regtest\"", node.zmq());
    let homes: Vec<Home> = PAYOUTS.iter().map(|_| Home::new()).collect();
    let started = homes.iter().zip(PAYOUTS).map(|(home, payout)| {
        let payout = payout.replace("tr(KEY)", &format!("tr({})", &KEY[2..])).replace("KEY", KEY);
        (payout.clone(), ask(home, &file(home, &node, &zmq, &payout)))
    });
    for (payout, child) in started.collect::<Vec<_>>() {
        let (code, text) = said(child);
        assert_eq!(code, Some(0), "{payout}: {text}");
        assert!(text.contains("ready at height 1, a template in "), "{payout}: {text}");
        assert!(text.contains(", tips by zmq\n"), "{payout}: {text}");
    }
}

#[test]
fn a_node_whose_own_limit_leaves_fees_behind_is_told_the_settings() {
    for defaults in [true, false] {
        let Some(node) = Bitcoind::prepare(&[]) else { return };
        // Knots, whose help has this option, ends its blocks early; others fill them.
        let early = defaults && node.knows("-blockmaxsize=");
        let mut node = if defaults { node.with_default_blocks() } else { node };
        node.run();
        node.fill_mempool(MORE_THAN_KNOTS_TAKES);
        let home = Home::new();
        let text = file(&home, &node, "network = \"regtest\"", "script = \"51\"");
        let (code, text) = said(ask(&home, &text));
        assert_eq!(code, Some(0), "{text}");
        let warned = text.lines().any(|line| {
            line.contains("warning: templates end at ")
                && line.contains("blockmaxweight=3996000 and, in Knots, blockmaxsize=3996000")
        });
        assert_eq!(warned, early, "{text}");
    }
}

#[test]
fn a_node_that_is_not_what_the_file_says_is_69_with_the_line() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let zmq = free.local_addr().expect("bound");
    let rows = [
        (
            "network = \"testnet4\"".to_owned(),
            Some(69),
            ":10:11: ",
            "follows regtest, but testnet4 is configured; correct [node] network",
        ),
        (
            format!("network = \"regtest\"\nzmq_hashblock = \"tcp://{zmq}\""),
            Some(0),
            ":11:17: ",
            "warning: zmq_hashblock is configured, but the node publishes none: set ",
        ),
    ];
    for (more, wanted, place, what) in rows {
        let home = Home::new();
        let (code, text) = said(ask(&home, &file(&home, &node, &more, "script = \"51\"")));
        assert_eq!(code, wanted, "{text}");
        let line = text.lines().find(|line| line.contains(what));
        assert!(line.is_some_and(|line| line.contains(place)), "{place}{what}:\n{text}");
    }
    let home = Home::new();
    let text = file(&home, &node, "network = \"regtest\"", "script = \"51\"");
    let wrong = home.path("cookie");
    std::fs::write(&wrong, "__cookie__:wrong").expect("written");
    let text = text.replace(&format!("{:?}", node.cookie()), &format!("{wrong:?}"));
    let (code, text) = said(ask(&home, &text));
    assert_eq!(code, Some(69), "{text}");
    assert!(
        text.contains(":9:15: ") && text.contains("(HTTP 401); give its cookie_file"),
        "{text}"
    );
}

#[test]
fn readiness_follows_the_node_as_it_goes_and_returns() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let home = Home::new();
    let text = file(&home, &node, "network = \"regtest\"", "script = \"51\"");
    let mut daemon = Daemon::start(&home.write(&text));
    let pages = daemon.wait_for_address("pages are served here");
    daemon.until_ready(&pages);
    let until = |wanted: &str| {
        let since = Instant::now();
        loop {
            let page = get(&pages, "/readyz");
            if page.contains(wanted) {
                return page;
            }
            assert!(since.elapsed() < SOON, "{wanted}: {page}");
        }
    };
    node.stop();
    let page = until("\"ready\":false");
    assert!(page.contains("miners keep their last job"), "{page}");
    assert!(page.contains("\"state\":\"unreachable\"") && page.contains("server=1"), "{page}");
    node.run();
    until("\"ready\":true");
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
}
