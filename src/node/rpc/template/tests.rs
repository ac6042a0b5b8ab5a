//! Templates as nodes make them, and those that cannot be: each fault is named, and the reader
//! goes on with the next good one.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    WitnessMerkleNode, merkle_tree, transaction,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const TIP: &str = "00000000000000000000000000000000000000000000000000000000000000ab";

/// A transaction of its own for each number, on the coin `parent`.
fn transaction(number: u32, parent: Option<Txid>, has_witness: bool) -> Transaction {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&(number + 1).to_le_bytes());
    let parent = parent.unwrap_or_else(|| Txid::from_byte_array(seed));
    let witness = if has_witness { Witness::from_slice(&[[0x51_u8]]) } else { Witness::new() };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(parent, 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness,
        }],
        output: vec![TxOut {
            value: Amount::from_sat(1_000 + u64::from(number)),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51; 22]),
        }],
    }
}

/// BIP141's commitment, as the `bitcoin` crate computes it.
fn commitment(transactions: &[Transaction]) -> String {
    let zero = WitnessMerkleNode::all_zeros().to_raw_hash();
    let leaves = transactions.iter().map(|one| one.compute_wtxid().to_raw_hash());
    let leaves = std::iter::once(zero).chain(leaves);
    let root = merkle_tree::calculate_root(leaves).expect("there is a coinbase");
    let root = WitnessMerkleNode::from_raw_hash(root);
    let hash = Block::compute_witness_commitment(&root, &[0; 32]);
    let digits = hash.to_byte_array().map(|byte| format!("{byte:02x}"));
    format!("6a24aa21a9ed{}", digits.concat())
}

/// `getblocktemplate` of a regtest node with these transactions, of which each may depend on the
/// one before.
fn answer(transactions: &[Transaction], chained: bool) -> Value {
    let list: Vec<Value> = transactions
        .iter()
        .enumerate()
        .map(|(index, one)| {
            json!({
                "data": serialize_hex(one),
                "txid": one.compute_txid().to_string(),
                "hash": one.compute_wtxid().to_string(),
                "depends": if chained && index > 0 { vec![index] } else { vec![] },
                "fee": 100 + index, "sigops": 4, "weight": one.weight().to_wu(),
            })
        })
        .collect();
    let count = transactions.len() as u64;
    let fees = 100 * count + count * count.saturating_sub(1) / 2;
    json!({
        "capabilities": ["proposal"], "version": 0x2000_0000_u32,
        "rules": ["csv", "!segwit", "taproot"], "vbavailable": {"testdummy": 28}, "vbrequired": 0,
        "previousblockhash": TIP, "transactions": list, "coinbaseaux": {},
        "coinbasevalue": 5_000_000_000 + fees, "longpollid": "ab9", "target": "7fffff",
        "mintime": 1_700_000_001, "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff", "sigoplimit": 80_000, "sizelimit": 4_000_000,
        "weightlimit": 4_000_000, "curtime": 1_700_000_500, "bits": "207fffff", "height": 110,
        "default_witness_commitment": commitment(transactions),
    })
}

fn some(count: u32) -> Vec<Transaction> {
    (0..count).map(|number| transaction(number, None, number % 2 == 0)).collect()
}

fn read(value: &Value) -> Result<(Template, TemplateFacts), TemplateError> {
    TemplateReader::new(Network::Regtest).read(&value.to_string())
}

fn tip() -> TipHeader {
    let mut hash = [0; 32];
    hash[0] = 0xab;
    TipHeader {
        hash: Hash256(hash),
        prev_hash: Hash256::ZERO,
        height: 109,
        confirmations: 1,
        version: 0x2000_0000,
        bits: 0x207f_ffff,
        time: 1_700_000_400,
        median_time: 1_700_000_000,
    }
}

/// The error of a good template with one field changed; null takes it away.
fn fault(field: &str, value: &Value) -> String {
    let mut bad = answer(&some(3), false);
    bad[field] = value.clone();
    let Err(error) = read(&bad) else { panic!("{field} = {value} was taken") };
    error.to_string()
}

/// The same for a field of the second transaction.
fn transaction_fault(field: &str, value: &Value) -> String {
    let mut bad = answer(&some(3), false);
    bad["transactions"][1][field] = value.clone();
    match read(&bad) {
        Err(TemplateError::Transaction { index: 1, fault }) => fault,
        other => panic!("{field} = {value}: {other:?}"),
    }
}

#[test]
fn a_good_template_is_taken_whole() {
    for count in [0, 1, 2, 3, 7, 100] {
        let transactions = some(count);
        let (template, facts) = read(&answer(&transactions, false)).expect("a good one");
        assert_eq!((template.height, template.coinbase_locktime), (110, 109));
        assert_eq!((template.coinbase_version, template.coinbase_sequence), (2, 0xffff_fffe));
        assert_eq!((template.version, template.bits), (0x2000_0000, 0x207f_ffff));
        assert_eq!((template.curtime, template.min_ntime), (1_700_000_500, 1_700_000_001));
        assert_eq!(template.prev_hash, tip().hash);
        assert_eq!(template.coinbase_value, 5_000_000_000 + facts.fees);
        let bytes: Vec<Vec<u8>> = transactions.iter().map(bitcoin::consensus::serialize).collect();
        let kept: Vec<Vec<u8>> = template.transactions.iter().map(|one| one.to_vec()).collect();
        assert_eq!(kept, bytes);
        let weight: u64 = transactions.iter().map(|one| one.weight().to_wu()).sum();
        assert_eq!(template.weight, weight);
        let txids = transactions.iter().map(|one| Hash256(one.compute_txid().to_byte_array()));
        assert_eq!(template.merkle_path, merkle_path(&txids.collect::<Vec<_>>()));
        let script = template.witness_commitment.expect("as the node gives it");
        let hex: String = script.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, commitment(&transactions));
        assert_eq!(facts.sigops, 4 * u64::from(count));
        assert_eq!(facts.longpollid.as_deref(), Some("ab9"));
        assert_eq!(facts.rules, ["csv", "!segwit", "taproot", "testdummy"]);
    }
}

#[test]
fn a_node_without_segwit_gives_no_commitment() {
    let bare = [transaction(0, None, false)];
    let mut value = answer(&bare, false);
    value["default_witness_commitment"] = Value::Null;
    let (template, _) = read(&value).expect("none of them has a witness");
    assert_eq!(template.witness_commitment, None);
}

#[test]
fn numbers_that_cannot_be_are_named() {
    for (field, value, wanted) in [
        ("height", json!(-1), "height is negative: -1"),
        ("height", json!(0), "height is 0, below 1"),
        ("height", json!(500_000_000), "height is 500000000, above"),
        ("height", json!("110"), "height is \"110\", no whole number"),
        ("height", json!(110.5), "no whole number"),
        ("height", json!(1e300), "no whole number"),
        ("height", json!([[[]]]), "no whole number"),
        ("height", Value::Null, "height is missing"),
        ("coinbasevalue", json!(-5), "coinbasevalue is negative"),
        ("coinbasevalue", json!(5_000_000_304_u64), "above subsidy and fees, which are 5000000303"),
        ("coinbasevalue", json!(u64::MAX), "above 2100000000000000"),
        ("coinbasevalue", Value::Null, "coinbasevalue is missing"),
        ("version", json!(-536_870_912), "version is negative"),
        ("version", json!(3), "version is 3, below 4"),
        ("version", json!(4_294_967_296_u64), "version is 4294967296, above"),
        ("vbrequired", json!(0x2000), "vbrequired asks for 00002000, bits that miners roll"),
        ("vbrequired", json!(-1), "vbrequired is negative"),
        ("curtime", json!(4_294_967_296_u64), "curtime is 4294967296, above"),
        ("curtime", json!(1_700_000_000), "before mintime"),
        ("mintime", json!(-1), "mintime is negative"),
        ("mintime", Value::Null, "mintime is missing"),
        ("bits", json!("207fff"), "not eight digits"),
        ("bits", json!("+07fffff"), "which is no target"),
        ("bits", json!("xyz"), "not eight digits"),
        ("bits", json!(0x207f_ffff), "bits is of a wrong type"),
        ("bits", json!("217fffff"), "which is no target of regtest"),
        ("bits", json!("20ffffff"), "which is no target of regtest"),
        ("bits", json!("00000000"), "which is no target of regtest"),
        ("previousblockhash", json!("ab"), "previousblockhash is ab, no hash"),
        ("previousblockhash", json!("zz".repeat(32)), "no hash"),
        ("previousblockhash", json!(7), "previousblockhash is 7, no text"),
        ("previousblockhash", Value::Null, "previousblockhash is missing"),
        ("coinbaseaux", json!({"flags": "0"}), "coinbaseaux holds 0, not up to 80 bytes"),
        ("coinbaseaux", json!({"flags": "00".repeat(81)}), "not up to 80 bytes"),
        ("coinbaseaux", json!({"a": "00".repeat(41), "b": "00".repeat(40)}), "not up to 80"),
        ("coinbaseaux", json!([1]), "coinbaseaux is of a wrong type"),
        ("longpollid", json!({}), "longpollid is of a wrong type"),
        ("longpollid", json!("x".repeat(5_000)), "longpollid is longer than 4096 bytes"),
        ("rules", json!("segwit"), "rules is of a wrong type"),
        ("transactions", json!({}), "a list of transactions"),
        ("transactions", json!([1]), "invalid type: integer `1`"),
        ("transactions", Value::Null, "invalid type: null"),
    ] {
        let said = fault(field, &value);
        assert!(said.contains(wanted), "{field} = {value}: {said}");
    }
}

#[test]
fn commitments_that_do_not_commit() {
    let name = "default_witness_commitment";
    assert!(fault(name, &Value::Null).contains("is missing, but transactions have witnesses"));
    assert!(fault(name, &json!(commitment(&some(2)))).contains("does not commit to these"));
    assert!(fault(name, &json!("6a24aa21a9ed")).contains("no commitment of BIP141"));
    let other = commitment(&some(3)).replace("aa21a9ed", "aa21a9ee");
    assert!(fault(name, &json!(other)).contains("no commitment of BIP141"));
    let long = format!("{}{}", commitment(&some(3)), "00".repeat(63));
    assert!(fault(name, &json!(long)).contains("more than 100 bytes"));
    assert!(fault(name, &json!("6a2")).contains("no hex"));
    // What follows the hash is the node's business, and is kept.
    let mut value = answer(&some(3), false);
    value[name] = json!(format!("{}00", commitment(&some(3))));
    let (template, _) = read(&value).expect("a good one");
    assert_eq!(template.witness_commitment.map(|script| script.len()), Some(39));
}

#[test]
fn transactions_that_cannot_be_are_named() {
    let other = transaction(9, None, true);
    for (field, value, wanted) in [
        ("data", json!("00"), "its data is none"),
        ("data", json!("0"), "its data is no hex"),
        ("data", json!("xx"), "its data is no hex"),
        ("data", json!(5), "its data is 5, no text"),
        ("data", Value::Null, "its data is missing"),
        ("data", json!(serialize_hex(&other)), "its hash is "),
        ("data", json!(format!("{}00", serialize_hex(&some(2)[1]))), "its data is none"),
        ("txid", json!(other.compute_txid().to_string()), "its txid is "),
        ("txid", Value::Null, "its txid is missing"),
        ("hash", json!("00"), "its hash is 00, no hash"),
        ("fee", json!(-1), "its fee is negative"),
        ("fee", json!(2_100_000_000_000_001_u64), "its fee is 2100000000000001, above"),
        ("fee", Value::Null, "its fee is missing"),
        ("fee", json!("1"), "its fee is \"1\", no whole number"),
        ("sigops", json!(80_001), "its sigops is 80001, above 80000"),
        ("weight", json!(1), "its weight is "),
        ("weight", json!(4_000_001), "above 4000000"),
        ("depends", json!([2]), "it depends on number 2, but is itself number 2"),
        ("depends", json!([3]), "it depends on number 3, but is itself number 2"),
        ("depends", json!([1, 4_294_967_296_u64]), "it depends on number 4294967296"),
        ("depends", json!([0]), "it depends on number 0, the coinbase"),
        ("depends", json!([-1]), "its depends is no list of numbers"),
        ("depends", json!("1"), "its depends is no list of numbers"),
        ("depends", Value::Null, "its depends is missing"),
    ] {
        let said = transaction_fault(field, &value);
        assert!(said.contains(wanted), "{field} = {value}: {said}");
    }
    let mut twice = some(3);
    twice[2] = twice[1].clone();
    let said = read(&answer(&twice, false)).expect_err("the same twice").to_string();
    assert!(said.contains("transaction 2: it stands there twice"), "{said}");
    let coinbase = Transaction {
        input: vec![TxIn { previous_output: OutPoint::null(), ..some(1)[0].input[0].clone() }],
        ..some(1)[0].clone()
    };
    let said = read(&answer(&[coinbase], false)).expect_err("a coinbase").to_string();
    assert!(said.contains("transaction 0: it is a coinbase"), "{said}");
}

#[test]
fn depends_in_a_circle_and_in_a_row() {
    let mut circle = answer(&some(3), false);
    circle["transactions"][0]["depends"] = json!([2]);
    circle["transactions"][1]["depends"] = json!([1]);
    let said = read(&circle).expect_err("a circle").to_string();
    assert!(said.contains("transaction 0: it depends on number 2"), "{said}");
    let mut row = vec![transaction(0, None, true)];
    for number in 1..5 {
        let parent = row.last().map(Transaction::compute_txid);
        row.push(transaction(number, parent, true));
    }
    assert!(read(&answer(&row, true)).is_ok());
}

#[test]
fn totals_above_what_a_block_holds() {
    let mut heavy = transaction(0, None, true);
    heavy.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 998_000]);
    let (template, _) = read(&answer(&[heavy.clone()], false)).expect("just small enough");
    assert!(template.weight < 3_998_000);
    let mut light = transaction(1, None, true);
    light.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 2_000]);
    let said = read(&answer(&[heavy, light], false)).expect_err("too heavy").to_string();
    assert!(said.contains("and 3998000 at most leave a coinbase"), "{said}");
    let mut costly = answer(&some(3), false);
    for index in 0..3 {
        costly["transactions"][index]["sigops"] = json!(30_000);
    }
    let said = read(&costly).expect_err("too costly").to_string();
    assert!(said.contains("cost 90000 signature operations"), "{said}");
    let mut rich = answer(&some(3), false);
    for index in 0..3 {
        rich["transactions"][index]["fee"] = json!(1_500_000_000_000_000_u64);
    }
    let said = read(&rich).expect_err("more than there is").to_string();
    assert!(said.contains("pay 4500000000000000 in fees"), "{said}");
}

#[test]
fn more_transactions_than_a_block_holds_are_not_read() {
    let list = format!("[{}{{}}]", "{},".repeat(TRANSACTIONS_MAX));
    let mut text = answer(&[], false).to_string();
    text = text.replace("\"transactions\":[]", &format!("\"transactions\":{list}"));
    let said = TemplateReader::new(Network::Regtest).read(&text);
    let said = said.expect_err("too many").to_string();
    assert!(said.contains("more than 16666 transactions"), "{said}");
}

#[test]
fn rules_and_signets_are_refused_by_name() {
    let mut value = answer(&[], false);
    value["rules"] = json!(["csv", "!segwit", "!blake2b"]);
    assert_eq!(read(&value).err(), Some(TemplateError::UnknownRule("blake2b".into())));
    value["rules"] = json!(["csv", "!segwit", "blake2b"]);
    assert!(read(&value).is_ok(), "without a ! nothing is asked of us");
    value["rules"] = json!(["!segwit", "!signet"]);
    assert_eq!(read(&value).err(), Some(TemplateError::Signet));
    value["rules"] = json!(["!segwit"]);
    value["signet_challenge"] = json!("51");
    assert_eq!(read(&value).err(), Some(TemplateError::Signet));
}

#[test]
fn aux_and_required_bits_go_into_the_block() {
    let mut value = answer(&[], false);
    value["coinbaseaux"] = json!({"b": "0203", "a": "01"});
    value["vbrequired"] = json!(0x11);
    let (template, _) = read(&value).expect("a good one");
    assert_eq!(template.coinbase_aux, [1, 2, 3]);
    assert_eq!(template.version, 0x2000_0011);
}

/// What is wrong with a good template, changed so, on this tip and at this time.
fn misfit(
    network: Network,
    change: impl FnOnce(&mut Template),
    tip: &TipHeader,
    now: u32,
) -> Option<TemplateError> {
    let (mut template, _) = read(&answer(&[], false)).expect("a good one");
    change(&mut template);
    TemplateReader::new(network).fits(&template, tip, now).err()
}

/// What is wrong with a template's mintime on a tip, at a time when nothing else is.
fn wrong_mintime(min_ntime: u32, tip: &TipHeader) -> Option<String> {
    let change = |template: &mut Template| {
        template.min_ntime = min_ntime;
        template.curtime = template.curtime.max(min_ntime);
    };
    misfit(Network::Regtest, change, tip, tip.time).map(|error| error.to_string())
}

#[test]
fn a_height_that_jumps_is_seen_by_the_tips_header() {
    let of = |height| misfit(Network::Regtest, |_| (), &TipHeader { height, ..tip() }, tip().time);
    assert_eq!(of(109), None);
    for height in [0, 108, 110, 5_000, u32::MAX] {
        let jump = TemplateError::HeightJump { height: 110, tip_height: height };
        assert_eq!(of(height), Some(jump));
    }
}

#[test]
fn the_earliest_time_follows_from_the_tip() {
    let TipHeader { median_time, time, .. } = tip();
    for good in [median_time + 1, time - 600, time] {
        assert_eq!(wrong_mintime(good.max(median_time + 1), &tip()), None, "{good}");
    }
    let said = wrong_mintime(median_time, &tip()).expect("too early");
    assert!(said.contains("mintime is 1700000000, not after the median 1700000000"), "{said}");
    for late in [time + 1, time + 86_400, u32::MAX] {
        let said = wrong_mintime(late, &tip()).expect("too late");
        assert!(said.ends_with("and 1700000400 at most on that tip"), "{said}");
    }
    // Where the tip's own time is before its median, the median decides.
    let early = TipHeader { time: median_time - 3, ..tip() };
    assert_eq!(wrong_mintime(median_time + 1, &early), None);
    assert!(wrong_mintime(median_time + 2, &early).is_some());
}

#[test]
fn a_time_that_is_far_ahead_is_refused_by_a_clock_that_can_be_right() {
    let at = |curtime: u32, now: u32| {
        misfit(Network::Regtest, |template| template.curtime = curtime, &tip(), now)
    };
    let now = tip().time + 60;
    for good in [now - 60, now, now + 7_200] {
        assert_eq!(at(good, now), None);
    }
    for bad in [now + 7_201, now + 3 * 86_400, u32::MAX] {
        let said = at(bad, now).expect("too far ahead").to_string();
        assert!(said.contains("ahead of our clock"), "{said}");
    }
    // A clock that is behind the tip is ours to mend, and no reason to stop.
    assert_eq!(at(tip().time + 8_000, tip().time - 1), None);
    assert_eq!(at(tip().time + 8_000, 0), None);
}

#[test]
fn bits_may_change_only_at_a_retarget() {
    let tip = TipHeader { bits: 0x1703_4219, ..tip() };
    let of = |network, bits, height| {
        let change = |template: &mut Template| {
            (template.bits, template.height) = (bits, height);
        };
        misfit(network, change, &TipHeader { height: height - 1, ..tip }, tip.time)
    };
    assert_eq!(of(Network::Main, 0x1703_4219, 110), None);
    let said = of(Network::Main, 0x1703_4218, 110).expect("no retarget").to_string();
    assert!(said.contains("bits is 17034218, and 17034219 at the tip"), "{said}");
    assert_eq!(of(Network::Main, 0x1703_4218, 2_016), None);
    assert_eq!(of(Network::Testnet4, 0x1d00_ffff, 110), None, "they vary there");
}

#[test]
fn anything_but_the_whole_reward_is_refused() {
    let whole = 5_000_000_201_u64;
    for (value, side) in [(0, "below"), (whole - 1, "below"), (whole + 1, "above")] {
        let mut value_changed = answer(&some(2), false);
        value_changed["coinbasevalue"] = json!(value);
        let said = read(&value_changed).expect_err("not the reward").to_string();
        let wanted =
            format!("coinbasevalue is {value}, {side} subsidy and fees, which are {whole}");
        assert!(said.ends_with(&wanted), "{said}");
    }
}

#[test]
fn transactions_of_the_last_template_are_shared() {
    let mut reader = TemplateReader::new(Network::Regtest);
    let first = answer(&some(5), false).to_string();
    let (old, _) = reader.read(&first).expect("a good one");
    let (new, _) = reader.read(&answer(&some(7), false).to_string()).expect("a good one");
    for index in 0..5 {
        assert!(Arc::ptr_eq(&old.transactions[index], &new.transactions[index]));
    }
    // A known hash with another name, and a bad template in between, change nothing.
    let mut bad = answer(&some(5), false);
    bad["transactions"][3]["txid"] = json!("00".repeat(32));
    let said = reader.read(&bad.to_string()).expect_err("not its name").to_string();
    assert!(said.contains("transaction 3: its txid is "), "{said}");
    assert_eq!(reader.read(&first).expect("a good one").0, old);
}

#[test]
fn what_is_no_template_is_an_error() {
    let mut reader = TemplateReader::new(Network::Main);
    for text in ["", "null", "7", "\"x\"", "[]", "{}", "{\"transactions\":[]}", "\u{0}"] {
        assert!(reader.read(text).is_err(), "{text}");
    }
    let deep = format!("{{\"height\":{}", "[".repeat(100_000));
    assert!(reader.read(&deep).is_err());
}

proptest! {
    #[test]
    fn half_a_template_is_an_error(cut in 0.0..1.0_f64) {
        let whole = answer(&some(4), false).to_string();
        let cut = (whole.len() as f64 * cut) as usize;
        prop_assert!(TemplateReader::new(Network::Regtest).read(&whole[..cut]).is_err());
    }

    /// Whatever one character becomes: an error, or a template whose transactions are the ones
    /// that their hashes name.
    #[test]
    fn a_changed_character_never_changes_a_transaction(
        at in 0.0..1.0_f64,
        byte in prop_oneof![Just(b'0'), Just(b'f'), Just(b'"'), Just(b'-'), Just(b']'), 32..127_u8],
    ) {
        let good = answer(&some(4), false).to_string();
        let (wanted, _) = read(&answer(&some(4), false)).expect("a good one");
        let mut bytes = good.into_bytes();
        let at = (bytes.len() as f64 * at) as usize;
        bytes[at] = byte;
        let text = String::from_utf8(bytes).expect("ASCII");
        if let Ok((template, _)) = TemplateReader::new(Network::Regtest).read(&text) {
            prop_assert_eq!(template.transactions, wanted.transactions);
            prop_assert_eq!(template.merkle_path, wanted.merkle_path);
            prop_assert_eq!(template.witness_commitment, wanted.witness_commitment);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = TemplateReader::new(Network::Main).read(&text);
    }
}
