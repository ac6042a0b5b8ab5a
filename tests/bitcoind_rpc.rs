//! `node::rpc` against a real bitcoind: every template that we would mine is proposed to it and
//! valid, blocks made of them are accepted, and its faults are told apart.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use node::payout::Network;
use node::rpc::{
    Auth, CallLimits, Client, Endpoint, RpcError, TemplateError, TemplateFacts, TemplateReader,
    TipHeader, coinbase_only, subsidy,
};
use pow::{
    Coinbase, CoinbaseParts, Hash256, Header, Kernel, Target, Template, assemble_block,
    full_coinbase, merkle_root,
};
use regtest::Bitcoind;
use serde_json::json;

/// A machine that builds other things beside is slow at times.
const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(60),
    stall: Duration::from_secs(60),
    ..CallLimits::TEMPLATE
};
/// Whoever waits for something waits no longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where our blocks pay to: `OP_TRUE`.
const PAYOUT: [u8; 1] = [0x51];
const SIGNATURE: &[u8] = b"/farm-7/";

/// One node, our connection to it, and the reader of its templates.
struct Peer {
    node: Bitcoind,
    client: Client,
    reader: TemplateReader,
}

impl Peer {
    fn start(options: &[&str]) -> Option<Peer> {
        Bitcoind::start(options).map(Peer::of)
    }

    fn of(node: Bitcoind) -> Peer {
        let client = Client::new(&node.endpoint());
        Peer { node, client, reader: TemplateReader::new(Network::Regtest) }
    }

    fn tip(&mut self) -> TipHeader {
        self.client.best_header(LIMITS).expect("a tip")
    }

    fn template(&mut self) -> (Template, TemplateFacts) {
        let tip = self.tip();
        let answer = self.client.template(None, LIMITS).expect("a template");
        let (template, facts) = self.reader.read(answer.json()).expect("a good template");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        assert_eq!(self.reader.fits(&template, &tip, now as u32), Ok(()));
        (template, facts)
    }

    fn propose(&mut self, template: &Template) -> Option<String> {
        self.client.propose(&block(template, 0).1, LIMITS).expect("a verdict")
    }

    fn submit(&mut self, block: &[u8]) -> Option<String> {
        let mut begins = 0;
        let answer = self.client.submit_block(block, LIMITS, &mut || begins += 1);
        assert_eq!(begins, 1, "its first byte goes out once");
        answer.expect("a verdict")
    }

    /// Proposes a template, finds a block on it and has that accepted.
    fn mine(&mut self, template: &Template) {
        assert_eq!(self.propose(template), None, "at height {}", template.height);
        let (hash, block) = block(template, u64::from(template.height));
        assert_eq!(self.submit(&block), None, "at height {}", template.height);
        assert_eq!(self.client.best_hash(LIMITS), Ok(hash));
    }
}

/// A block on a template that meets the target, as the farm would make it.
fn block(template: &Template, extranonce: u64) -> (Hash256, Vec<u8>) {
    let kernel = Kernel::detect();
    let extranonce = extranonce.to_le_bytes();
    let parts = CoinbaseParts {
        template,
        prefix: &[],
        extranonce_size: extranonce.len(),
        payout_script: &PAYOUT,
        signature: SIGNATURE,
    };
    let Coinbase { first, second } = Coinbase::new(&parts).expect("a coinbase");
    let stripped = [&first[..], &extranonce, &second].concat();
    let root = merkle_root(kernel, kernel.sha256d(&stripped), &template.merkle_path);
    let has_witness = template.witness_commitment.is_some();
    let coinbase = full_coinbase(&first, &extranonce, &second, has_witness);
    let target = Target::from_compact(template.bits).expect("good bits");
    let found = (0..=u32::MAX).find_map(|nonce| {
        let header = Header {
            version: template.version,
            prev_hash: template.prev_hash,
            merkle_root: root,
            ntime: template.curtime,
            bits: template.bits,
            nonce,
        };
        let hash = header.hash(kernel);
        target.is_met_by(&hash).then(|| (hash, header.to_bytes()))
    });
    let (hash, header) = found.expect("every second nonce will do");
    (hash, assemble_block(&header, &coinbase, &template.transactions))
}

#[test]
fn templates_of_every_size_become_blocks() {
    let Some(mut peer) = Peer::start(&[]) else { return };
    for count in [0, 1, 100, 4_100] {
        peer.node.fill_mempool(count);
        let (template, facts) = peer.template();
        assert_eq!(template.transactions.len(), count);
        assert_eq!(facts.fees, 1_000 * count as u64);
        assert_eq!(
            template.coinbase_value,
            subsidy(template.height, Network::Regtest) + facts.fees
        );
        // Known transactions are not read again, and the result is the same.
        let (again, _) = peer.template();
        assert_eq!((&again.merkle_path, again.weight), (&template.merkle_path, template.weight));
        peer.mine(&template);
        let block = peer.node.tip();
        let block = peer.node.rpc("getblock", json!([block, 2]));
        assert_eq!(block["tx"].as_array().map(Vec::len), Some(1 + count));
        let output = &block["tx"][0]["vout"][0];
        assert_eq!(output["scriptPubKey"]["hex"], "51");
        let satoshis = output["value"].as_f64().map(|value| (value * 1e8).round() as u64);
        assert_eq!(satoshis, Some(template.coinbase_value), "the whole reward");
    }
}

#[test]
fn heights_at_which_numbers_change_their_form() {
    let Some(mut peer) = Peer::start(&[]) else { return };
    for height in [1, 16, 17, 128, 150] {
        peer.node.mine_to(height - 1);
        let (template, _) = peer.template();
        assert_eq!(u64::from(template.height), height);
        // From the header alone, as before the node has a template on that tip.
        let tip = peer.tip();
        let bare = coinbase_only(&tip, &template, Network::Regtest, Duration::ZERO);
        let bare = bare.expect("regtest is fine");
        assert_eq!(bare.min_ntime, template.min_ntime, "one value per tip");
        assert_eq!((bare.bits, bare.version), (template.bits, template.version));
        assert_eq!(peer.propose(&bare), None, "coinbase only, at height {height}");
        peer.mine(&template);
    }
    // And a block without commitment and witness is taken as well.
    let (last, _) = peer.template();
    let bare = coinbase_only(&peer.tip(), &last, Network::Regtest, Duration::ZERO);
    peer.mine(&bare.expect("the same period"));
}

#[test]
fn blocks_that_are_not_the_next_tip_are_told_apart() {
    let Some(mut peer) = Peer::start(&[]) else { return };
    peer.node.mine_to(10);
    let (template, _) = peer.template();
    let (_, rival) = block(&template, 1);
    let (hash, mined) = block(&template, 2);
    assert_eq!(peer.client.header_of(&hash, LIMITS), Ok(None));
    assert_eq!(peer.submit(&mined), None);
    assert_eq!(peer.submit(&mined).as_deref(), Some("duplicate"));
    assert_eq!(peer.submit(&rival).as_deref(), Some("inconclusive"));
    let stale = peer.client.propose(&block(&template, 3).1, LIMITS).expect("a verdict");
    assert_eq!(stale.as_deref(), Some("inconclusive-not-best-prevblk"));
    assert_eq!(peer.client.header_of(&hash, LIMITS), Ok(Some(1)));
    peer.node.invalidate(&hash.to_string());
    assert_eq!(peer.client.header_of(&hash, LIMITS), Ok(Some(-1)));
    peer.node.reconsider(&hash.to_string());
    assert_eq!(peer.client.best_hash(LIMITS), Ok(hash));

    let (next, _) = peer.template();
    let mut weak = block(&next, 4).1;
    let target = Target::from_compact(next.bits).expect("good bits");
    while target.is_met_by(&Kernel::detect().sha256d(&weak[..80])) {
        weak[76] = weak[76].wrapping_add(1);
    }
    assert_eq!(peer.submit(&weak).as_deref(), Some("high-hash"));
    let undecodable = peer.client.submit_block(&[0; 80], LIMITS, &mut || {});
    assert!(matches!(undecodable, Err(RpcError::Rpc { code: -22, .. })), "{undecodable:?}");
    let greedy = Template { coinbase_value: next.coinbase_value + 1, ..next };
    assert_eq!(peer.propose(&greedy).as_deref(), Some("bad-cb-amount"));
}

#[test]
fn a_block_on_one_that_is_invalid_for_a_while_is_taken_after_that() {
    let Some(mut peer) = Peer::start(&[]) else { return };
    let parent = peer.node.mine(10).pop().expect("ten blocks");
    let (template, _) = peer.template();
    let (hash, mined) = block(&template, 1);
    // Of the other one the node has heard the header, as from a peer, and not yet the body.
    let (_, known) = block(&template, 2);
    let header: String = known[..80].iter().map(|byte| format!("{byte:02x}")).collect();
    peer.node.rpc("submitheader", json!([header]));
    peer.node.invalidate(&parent);
    assert_eq!(peer.submit(&mined).as_deref(), Some("bad-prevblk"));
    assert_eq!(peer.submit(&known).as_deref(), Some("duplicate-invalid"));
    peer.node.reconsider(&parent);
    assert_eq!(peer.submit(&mined), None);
    assert_eq!(peer.client.best_hash(LIMITS), Ok(hash));
    assert_eq!(peer.submit(&known).as_deref(), Some("inconclusive"), "it needed its body");
}

#[test]
fn a_tip_between_two_waits_is_not_missed_and_a_long_poll_ends_with_it() {
    let Some(mut peer) = Peer::start(&[]) else { return };
    peer.node.mine_to(3);
    let known = peer.tip();
    let short = Duration::from_millis(50);
    let same = peer.client.wait_new_block(&known.hash, short, LIMITS).expect("a tip");
    assert_eq!((same.hash, same.is_new), (known.hash, false));

    let (_, facts) = peer.template();
    let mut waiter = Client::new(&peer.node.endpoint());
    let poll = thread::spawn(move || {
        let answer = waiter.template(facts.longpollid.as_deref(), LIMITS).expect("an answer");
        let read = TemplateReader::new(Network::Regtest).read(answer.json());
        read.expect("a good template").0
    });
    peer.node.mine(1);
    let started = Instant::now();
    let new = peer.client.wait_new_block(&known.hash, PATIENCE, LIMITS).expect("a tip");
    assert!(new.is_new && started.elapsed() < PATIENCE / 2, "{new:?}");
    assert_eq!(new.hash.to_string(), peer.node.tip());
    let template = poll.join().expect("it ends");
    assert_eq!((template.height, template.prev_hash), (5, new.hash));
    // An id of another node's, or of long ago, is answered at once.
    let stale = format!("{}7", Hash256::ZERO);
    assert!(peer.client.template(Some(&stale), LIMITS).is_ok());
}

#[test]
fn what_a_node_says_about_itself() {
    let Some(node) = Bitcoind::start_with_zmq(&[]) else { return };
    let mut peer = Peer::of(node);
    peer.node.fill_mempool(3);
    let chain = peer.client.blockchain_info(LIMITS).expect("an answer");
    assert_eq!(chain.network(), Some(Network::Regtest));
    assert_eq!((chain.blocks, chain.headers), (102, 102));
    assert_eq!(chain.best_hash, peer.tip().hash);
    assert!(!chain.initial_download && chain.progress > 0.99, "{chain:?}");
    let network = peer.client.network_info(LIMITS).expect("an answer");
    assert_eq!((network.connections, network.timeoffset), (0, 0));
    assert!(network.subversion.starts_with('/') && network.version > 0, "{network:?}");
    let mempool = peer.client.mempool_info(LIMITS).expect("an answer");
    assert!(mempool.size == 3 && mempool.bytes > 3 * 60, "{mempool:?}");
    let published = peer.client.zmq_notifications(LIMITS).expect("an answer");
    assert_eq!(published.len(), 1, "{published:?}");
    assert_eq!(published[0].kind, "pubhashblock");
    assert_eq!(published[0].address, peer.node.zmq());
    let genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
    assert_eq!(peer.node.rpc("getblockhash", json!([0])), genesis);
}

#[test]
fn a_rule_that_we_do_not_know_refuses_the_node() {
    let Some(mut node) = Bitcoind::prepare(&["-testactivationheight=blake2b@105"]) else {
        return;
    };
    if !node.knows("blake2b") {
        eprintln!("skipped: this bitcoind has no rule that we do not know");
        return;
    }
    node.run();
    let mut peer = Peer::of(node);
    peer.node.mine_to(103);
    assert!(peer.client.template(None, LIMITS).is_ok(), "height 104 is before the rule");
    peer.node.mine_to(104);
    let refused = peer.client.template(None, LIMITS).expect_err("the rule is in force");
    assert_eq!(refused, RpcError::UnknownRule("blake2b".to_owned()));
}

#[test]
fn the_right_to_ask_is_proved_again_after_a_restart_and_a_wrong_one_is_named() {
    let Some(mut peer) = Peer::start(&[]) else { return };
    let old = std::fs::read(peer.node.cookie()).expect("a cookie");
    assert!(peer.client.best_hash(LIMITS).is_ok());
    peer.node.stop();
    let gone = peer.client.best_hash(LIMITS);
    assert!(matches!(gone, Err(RpcError::Unreachable(_))), "{gone:?}");
    let mut fresh = Client::new(&peer.node.endpoint());
    let no_cookie = fresh.best_hash(LIMITS);
    assert!(matches!(no_cookie, Err(RpcError::Cookie(_))), "{no_cookie:?}");
    peer.node.run();
    assert_ne!(std::fs::read(peer.node.cookie()).expect("a cookie"), old);
    assert!(peer.client.best_hash(LIMITS).is_ok(), "the cookie is read again");

    let auth = Auth::User { user: "farm".to_owned(), password: "wrong".to_owned() };
    let endpoint = Endpoint::new(&peer.node.url(), auth).expect("a good one");
    assert_eq!(Client::new(&endpoint).best_hash(LIMITS), Err(RpcError::Unauthorized));
}

#[test]
fn a_node_that_starts_says_so() {
    let Some(mut peer) = Peer::start(&[]) else { return };
    peer.node.mine_to(300);
    peer.node.stop();
    peer.node.run_unready(&["-reindex", "-checkblocks=0", "-checklevel=4"]);
    let (since, mut warming) = (Instant::now(), 0);
    loop {
        assert!(since.elapsed() < PATIENCE, "it does not start");
        match peer.client.best_hash(LIMITS) {
            Ok(_) => break,
            Err(RpcError::Warming(what)) => warming += usize::from(!what.is_empty()),
            Err(RpcError::Unreachable(_) | RpcError::Unauthorized | RpcError::Cookie(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(warming > 0, "no -28 was seen");
}

#[test]
fn a_full_work_queue_is_busy() {
    let Some(mut peer) = Peer::start(&["-rpcthreads=1", "-rpcworkqueue=1"]) else { return };
    peer.node.mine_to(1);
    let tip = peer.tip().hash;
    let patience = Duration::from_secs(3);
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Client::new(&peer.node.endpoint());
            thread::spawn(move || client.wait_new_block(&tip, patience, LIMITS).map(|_| ()))
        })
        .collect();
    let results: Vec<_> = waiters.into_iter().map(|one| one.join().expect("it ends")).collect();
    assert!(results.contains(&Err(RpcError::Busy)), "{results:?}");
    assert!(results.contains(&Ok(())), "{results:?}");
    assert!(peer.client.best_hash(LIMITS).is_ok(), "it passes");
}

#[test]
fn a_node_without_peers_and_one_that_loads_the_chain() {
    let alone = ["-connect=0"];
    let Some(mut node) = Bitcoind::prepare_on("main", &alone) else { return };
    node.run();
    let mut client = Client::new(&node.endpoint());
    let info = client.blockchain_info(LIMITS).expect("an answer");
    assert_eq!((info.network(), info.blocks), (Some(Network::Main), 0));
    assert!(info.initial_download, "{info:?}");
    assert_eq!(client.template(None, LIMITS).err(), Some(RpcError::NoPeers));

    // A second node of that chain, with the first as its only peer.
    let peer = format!("-connect={}", node.p2p());
    let mut second = Bitcoind::prepare_on("main", &[&peer]).expect("as the first");
    second.run();
    let since = Instant::now();
    while client.network_info(LIMITS).expect("an answer").connections == 0 {
        assert!(since.elapsed() < PATIENCE, "they do not meet");
    }
    assert_eq!(client.template(None, LIMITS).err(), Some(RpcError::InitialDownload));
}

#[test]
fn a_signet_is_refused_with_the_reason() {
    let Some(mut node) = Bitcoind::prepare_on("signet", &["-connect=0"]) else { return };
    node.run();
    let mut client = Client::new(&node.endpoint());
    let info = client.blockchain_info(LIMITS).expect("an answer");
    assert_eq!(info.network(), Some(Network::Signet));
    assert_eq!(client.template(None, LIMITS).err(), Some(RpcError::UnknownRule("signet".into())));
    // Asked with the rule it would give a template, which is refused as well.
    let params = json!([{"rules": ["segwit", "signet"]}]);
    let template = client.call("getblocktemplate", &params, LIMITS).expect("a template");
    for network in [Network::Signet, Network::Main] {
        let read = TemplateReader::new(network).read(&template.to_string());
        assert_eq!(read.err(), Some(TemplateError::Signet));
    }
}
