//! Whom a farm's blocks pay: every kind of payout, at the heights where a coinbase changes its
//! form, with all that waits in the mempool.

use std::collections::BTreeSet;

use bitcoin::script::Builder;
use bitcoin::{Amount, Block, Txid};
use regtest::Bitcoind;
use serde_json::{Value, json};

use crate::farm::{Farm, SHARES, SIGNATURE, assert_only_stale, block_at, config, until};
use crate::support::Home;

/// The key of the examples of BIP381, and what taproot takes of it.
const KEY: &str = "03a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd";
/// The tip's number, extranonce1 and extranonce2, which stand between height and signature.
const BETWEEN_BYTES: usize = 2 + 4 + 4;
/// Transactions that wait in the mempool, and what each pays, in satoshis.
const TRANSACTIONS: usize = 20;
const FEE: u64 = 1_000;

/// How the operator names who is paid.
enum Payout {
    /// The address of a descriptor.
    Address(&'static str),
    Descriptor(&'static str),
    /// A descriptor that has no address, and its script.
    Bare(&'static str, &'static str),
    /// The address of a descriptor, in a descriptor.
    Addr(&'static str),
    Script(&'static str),
}

impl Payout {
    /// The line of the configuration, and the script that bitcoind makes of it, in hex.
    fn resolve(&self, node: &mut Bitcoind) -> (String, String) {
        match self {
            Payout::Script(hex) => (format!("script = \"{hex}\""), (*hex).to_owned()),
            Payout::Descriptor(text) => {
                let text = with_key(text);
                let address = address_of(node, &text);
                let script = script_of(node, &address);
                (format!("descriptor = \"{text}\""), script)
            }
            Payout::Bare(text, script) => {
                (format!("descriptor = \"{}\"", with_key(text)), with_key(script))
            }
            Payout::Addr(text) => {
                let address = address_of(node, &with_key(text));
                let script = script_of(node, &address);
                (format!("descriptor = \"addr({address})\""), script)
            }
            Payout::Address(text) => {
                let address = address_of(node, &with_key(text));
                let script = script_of(node, &address);
                (format!("address = \"{address}\""), script)
            }
        }
    }
}

fn with_key(descriptor: &str) -> String {
    descriptor.replace("tr(KEY)", &format!("tr({})", &KEY[2..])).replace("KEY", KEY)
}

fn address_of(node: &mut Bitcoind, descriptor: &str) -> String {
    let info = node.rpc("getdescriptorinfo", json!([descriptor]));
    let addresses = node.rpc("deriveaddresses", json!([info["descriptor"]]));
    addresses[0].as_str().expect("an address").to_owned()
}

fn script_of(node: &mut Bitcoind, address: &str) -> String {
    let answer = node.rpc("validateaddress", json!([address]));
    answer["scriptPubKey"].as_str().expect("a script").to_owned()
}

#[test]
fn blocks_pay_every_kind_of_payout_at_heights_that_change_their_form() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    let home = Home::new();
    let empty = [
        (1, Payout::Address("pkh(KEY)")),
        (16, Payout::Address("sh(wpkh(KEY))")),
        (17, Payout::Address("wpkh(KEY)")),
    ];
    for (height, payout) in empty {
        node.mine_to(height - 1);
        mine_one(&mut node, &home, &payout, 0);
    }
    // From here on there are coins for transactions; this one only makes them.
    let full = [
        (128, Payout::Address("wsh(pk(KEY))")),
        (150, Payout::Address("tr(KEY)")),
        (152, Payout::Address("pkh(KEY)")),
        (154, Payout::Address("sh(wpkh(KEY))")),
        (156, Payout::Address("wpkh(KEY)")),
        (158, Payout::Script("51")),
        (160, Payout::Descriptor("tr(KEY)")),
        (162, Payout::Descriptor("wsh(pk(KEY))")),
        (164, Payout::Bare("pk(KEY)", "21KEYac")),
        (166, Payout::Descriptor("pkh(KEY)")),
        (168, Payout::Descriptor("wpkh(KEY)")),
        (170, Payout::Descriptor("sh(wpkh(KEY))")),
        (172, Payout::Bare("raw(51)", "51")),
        (174, Payout::Addr("wpkh(KEY)")),
    ];
    for (height, payout) in full {
        node.mine_to(height - 2);
        node.fill_mempool(TRANSACTIONS);
        // A node gives the same template for five seconds, unless it has a new tip.
        node.mine_empty();
        mine_one(&mut node, &home, &payout, TRANSACTIONS);
    }
}

/// Has the farm find the node's next block, and leaves the chain there.
fn mine_one(node: &mut Bitcoind, home: &Home, payout: &Payout, transactions: usize) {
    let height = node.height() + 1;
    let (line, script) = payout.resolve(node);
    let line = format!("{line}\nsignature = \"{SIGNATURE}\"");
    let file = home.write(&config(home, &node.url(), &node.cookie(), &line, SHARES));
    let waiting = node.rpc("getrawmempool", json!([]));
    let waiting: BTreeSet<Txid> = waiting.as_array().into_iter().flatten().map(txid).collect();
    assert_eq!(waiting.len(), transactions);
    let farm = Farm::start(&file);
    let fleet = farm.fleet(2);
    until("a block", || node.height() >= height);
    assert_only_stale(&fleet.stop());
    farm.end();
    let top = node.height();
    check(&block_at(node, height), height, &script, &waiting);
    for above in height + 1..=top {
        check(&block_at(node, above), above, &script, &BTreeSet::new());
    }
    if top > height {
        let next = node.rpc("getblockhash", json!([height + 1]));
        node.invalidate(next.as_str().expect("a hash"));
    }
}

/// A block of ours holds what was waiting, and its coinbase is as the operator wants it.
fn check(block: &Block, height: u64, script: &str, waiting: &BTreeSet<Txid>) {
    assert!(block.check_merkle_root() && block.check_witness_commitment(), "at {height}");
    let found: BTreeSet<Txid> = block.txdata[1..].iter().map(|one| one.compute_txid()).collect();
    assert_eq!(&found, waiting, "at {height}");
    let coinbase = &block.txdata[0];
    let subsidy = (50 * Amount::ONE_BTC.to_sat()) >> (height / 150);
    let reward = subsidy + FEE * found.len() as u64;
    let paid = &coinbase.output[0];
    assert_eq!(paid.script_pubkey.to_hex_string(), script, "at {height}");
    assert_eq!(paid.value.to_sat(), reward, "the whole reward at {height}");
    for other in &coinbase.output[1..] {
        assert!(other.script_pubkey.is_op_return() && other.value == Amount::ZERO, "{coinbase:?}");
    }
    let said = coinbase.input[0].script_sig.as_bytes();
    let push = Builder::new().push_int(height as i64).into_bytes();
    assert_eq!(said[..push.len()], push, "the height {height}");
    assert_eq!(said[push.len() + BETWEEN_BYTES..], *SIGNATURE.as_bytes(), "at {height}");
}

fn txid(value: &Value) -> Txid {
    value.as_str().expect("text").parse().expect("a txid")
}
