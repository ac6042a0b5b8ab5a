//! What `[payout]` means: one output script, and the bytes in the coinbase that say whose block it
//! is. What a script is, `node::payout` knows; here it gets its line.

use node::payout::{
    Network, PayoutError, address_script, anybody_can_spend, descriptor_script, hex_script,
};

use super::fault::Fault;
use super::raw::RawConfig;
use super::source::NodeConfig;
use super::value::Reader;
use super::{Listen, Payout};

/// A consensus rule: a coinbase's scriptSig.
pub(crate) const SCRIPT_SIG_BYTES_MAX: usize = 100;
/// What `farm` puts before the extranonce, so that a tip that comes back makes other headers.
pub(crate) const TIP_BYTES: usize = 2;
/// BIP34: the height needs a length and four bytes until block 2,147,483,647.
pub(crate) const HEIGHT_PUSH_BYTES_MAX: usize = 5;
/// What tells our miners apart, before the bytes that they roll.
pub(crate) const EXTRANONCE1_BYTES: usize = 4;

/// The ways to say who is paid.
const WAYS: [&str; 3] = ["address", "script", "descriptor"];

/// Reads `[payout]`; `node` is what `[node]` means, if that could be read.
pub(super) fn payout(
    raw: &RawConfig<'_>,
    node: Option<&NodeConfig>,
    listen: &[Listen],
    faults: &mut Vec<Fault>,
) -> Payout {
    let reader = &mut Reader { table: raw.table("payout"), faults };
    let given: Vec<&str> = WAYS.into_iter().filter(|key| reader.raw(key).is_some()).collect();
    if let [first, .., last] = given.as_slice() {
        let what = format!("{first} and {last} are both given");
        reader.fault(last, what, "keep the one that is meant");
    }
    // Under a node that nobody can make out, an address would only be blamed for it.
    let network = match node {
        Some(NodeConfig::Simulated(_)) => Some(Network::Regtest),
        Some(NodeConfig::Bitcoind(nodes)) => Some(nodes.network),
        None => None,
    };
    let script = network.and_then(|network| {
        let ways = WAYS.into_iter().map(|key| script(reader, key, network));
        ways.collect::<Vec<_>>().into_iter().flatten().next()
    });
    if given.is_empty() && matches!(node, Some(NodeConfig::Bitcoind(_))) {
        let what = "nobody is paid for a block: [payout] names nobody";
        reader.fault("", what, "add [payout] with address, script or descriptor");
    }
    Payout { script, signature: signature(reader, listen) }
}

fn script(reader: &mut Reader<'_, '_>, key: &str, network: Network) -> Option<Vec<u8>> {
    let text = reader.text(key)?;
    let read = match key {
        "address" => address_script(&text, network),
        "script" => hex_script(&text),
        _ => descriptor_script(&text, network),
    };
    let complain = |error: PayoutError| reader.fault(key, error.to_string(), error.remedy());
    read.map_err(complain).ok()
}

/// Why nobody should be paid so where coins are worth something; nothing where that is all right.
pub(crate) fn warning(payout: &Payout, node: &NodeConfig) -> Option<String> {
    let NodeConfig::Bitcoind(nodes) = node else { return None };
    let reason = anybody_can_spend(payout.script.as_ref()?)?;
    (nodes.network != Network::Regtest).then(|| {
        format!("anybody can take the coins of a block: {reason}; pay an address of your wallet")
    })
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
