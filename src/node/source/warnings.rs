//! What an operator should change at a node that works: each warning names the settings.
//!
//! Pure: figures in, sentences out. `node_thread` asks the node for them now and then.

use crate::payout::Network;

/// Consensus: most weight of a block.
const BLOCK_WEIGHT_MAX: u64 = 4_000_000;
/// A template may leave so much of a block empty before it is worth a word: what a node keeps for
/// the coinbase (8,000), and what no waiting transaction fits into.
const WEIGHT_SPARED_MAX: u64 = 100_000;
/// The mempool must hold so much more than the template, or it was only busy changing.
const BACKLOG_MIN: u64 = 200_000;
/// Nodes and pools refuse blocks 2 h ahead; a minute shows that nobody keeps the clock.
const CLOCK_SECONDS_MAX: i64 = 60;
/// bitcoind itself warns at ten minutes; then it is late.
const PEER_CLOCK_SECONDS_MAX: i64 = 60;

/// What was seen of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The chain that it follows.
    pub network: Network,
    /// Weight of its newest template's transactions, in weight units.
    pub template_weight: u64,
    /// Their bytes.
    pub template_bytes: u64,
    /// Virtual bytes that wait in its mempool.
    pub mempool_vbytes: u64,
    /// How far its clock is ahead of ours, in seconds, where that can be told.
    pub clock_ahead: Option<i64>,
    /// How far its peers' clocks are ahead of its own, in seconds.
    pub peers_ahead: i64,
    /// Its peers.
    pub peers: u32,
    /// Whether it had no thread for us lately.
    pub was_busy: bool,
    /// What it warns of itself.
    pub own: Vec<String>,
}

/// What to look at, worst first.
pub fn warnings(sight: &Sight) -> Vec<String> {
    let found = [peers(sight), weight(sight), clock(sight), peer_clocks(sight), threads(sight)];
    let own = sight.own.iter().map(|words| format!("the node warns: {words}"));
    found.into_iter().flatten().chain(own).collect()
}

fn peers(sight: &Sight) -> Option<String> {
    if sight.peers > 0 || sight.network == Network::Regtest {
        return None;
    }
    let words = "no peers: a block that is found would reach nobody; let the node connect \
                 (addnode=, or its firewall)";
    Some(words.to_owned())
}

/// Knots' defaults end a template at 300,000 bytes or 1,200,000 weight units, and so give away
/// most of the fees. Seen by what it does, not by its name: any node can be set so.
fn weight(sight: &Sight) -> Option<String> {
    let (weight, waiting) = (sight.template_weight, sight.mempool_vbytes.saturating_mul(4));
    let room = BLOCK_WEIGHT_MAX.saturating_sub(weight) > WEIGHT_SPARED_MAX;
    let backlog = waiting > weight.saturating_add(BACKLOG_MIN);
    (room && backlog).then(|| {
        format!(
            "templates end at {weight} weight units ({} bytes) while {waiting} wait in the \
             mempool, so fees are lost: set blockmaxweight=3996000 and, in Knots, \
             blockmaxsize=3996000",
            sight.template_bytes
        )
    })
}

fn clock(sight: &Sight) -> Option<String> {
    let ahead = sight.clock_ahead.filter(|ahead| ahead.abs() > CLOCK_SECONDS_MAX)?;
    let (seconds, where_to) = (ahead.abs(), if ahead > 0 { "ahead of" } else { "behind" });
    Some(format!(
        "the node's clock is {seconds} s {where_to} ours: synchronise both (chrony or \
         systemd-timesyncd)"
    ))
}

fn peer_clocks(sight: &Sight) -> Option<String> {
    let ahead = sight.peers_ahead;
    (ahead.abs() > PEER_CLOCK_SECONDS_MAX).then(|| {
        let (seconds, where_to) = (ahead.abs(), if ahead > 0 { "behind" } else { "ahead of" });
        format!("the node's clock is {seconds} s {where_to} its peers': synchronise its host")
    })
}

fn threads(sight: &Sight) -> Option<String> {
    let words = "the node had no thread for a request: set rpcthreads=16 and rpcworkqueue=64";
    sight.was_busy.then(|| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Sight {
        Sight {
            network: Network::Main,
            template_weight: 3_991_000,
            template_bytes: 1_600_000,
            mempool_vbytes: 40_000_000,
            clock_ahead: Some(2),
            peers_ahead: -1,
            peers: 10,
            was_busy: false,
            own: Vec::new(),
        }
    }

    #[test]
    fn each_fault_has_its_sentence_with_the_setting() {
        assert_eq!(warnings(&healthy()), Vec::<String>::new());
        let knots = Sight { template_weight: 1_199_000, template_bytes: 299_000, ..healthy() };
        let rows = [
            (Sight { peers: 0, ..healthy() }, "addnode="),
            (knots, "blockmaxweight=3996000 and, in Knots, blockmaxsize=3996000"),
            (Sight { clock_ahead: Some(-61), ..healthy() }, "61 s behind ours"),
            (Sight { clock_ahead: Some(3_600), ..healthy() }, "3600 s ahead of ours"),
            (Sight { peers_ahead: 90, ..healthy() }, "90 s behind its peers"),
            (Sight { was_busy: true, ..healthy() }, "rpcthreads=16"),
            (Sight { own: vec!["unknown rules".into()], ..healthy() }, "warns: unknown rules"),
        ];
        for (sight, words) in rows {
            let found = warnings(&sight);
            assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
        }
    }

    #[test]
    fn an_empty_mempool_and_a_lonely_regtest_are_no_faults() {
        let quiet = Sight { template_weight: 80_000, mempool_vbytes: 21_000, ..healthy() };
        assert!(warnings(&quiet).is_empty());
        let growing = Sight { template_weight: 80_000, mempool_vbytes: 60_000, ..healthy() };
        assert!(warnings(&growing).is_empty());
        let regtest = Sight { network: Network::Regtest, peers: 0, ..healthy() };
        assert!(warnings(&regtest).is_empty());
    }
}
