//! A job from the tip's header alone, ready long before the node has made a template.
//!
//! It holds no transactions but the coinbase, so it needs nothing that a header does not say: the
//! next height, the subsidy, the median time, the same bits. Where those would not do, there is
//! none, and the full template is waited for.

use std::sync::Arc;
use std::time::Duration;

use pow::Template;

use super::calls::TipHeader;
use crate::payout::Network;

/// Blocks between two halvings of the subsidy.
const HALVING_INTERVAL: u32 = 210_000;
const HALVING_INTERVAL_REGTEST: u32 = 150;
/// Satoshis that the first blocks brought.
const SUBSIDY_FIRST: u64 = 5_000_000_000;
/// Blocks between two retargets, and of one period of version bits.
const PERIOD: u32 = 2_016;
/// The same on regtest, whose periods are a day long, and whose target stays as it is.
const PERIOD_REGTEST: u32 = 144;
/// How far the first block of a period may be before the last one of the period before, in
/// seconds (BIP94, which nodes keep to in the templates of every network).
const TIMEWARP_SECONDS_MAX: u32 = 600;
/// What every template over RPC gets: the caller may rely on one value for all.
pub(super) const COINBASE_VERSION: u32 = 2;
/// A lock time counts only where the sequence is not final.
pub(super) const COINBASE_SEQUENCE: u32 = 0xffff_fffe;

/// The subsidy of a block, in satoshis.
pub fn subsidy(height: u32, network: Network) -> u64 {
    let interval = match network {
        Network::Regtest => HALVING_INTERVAL_REGTEST,
        _ => HALVING_INTERVAL,
    };
    SUBSIDY_FIRST.checked_shr(height / interval).unwrap_or(0)
}

/// The coinbase-only template on `tip`, as far as the header allows one.
///
/// `last` is the newest template of the same node, `elapsed` the time since it came; version,
/// clock and coinbase aux go on from there. None at a retarget and on chains whose bits may change
/// with any block (test, testnet4) or whose blocks need a signature (signet); none when `last` is
/// of another period, whose version may signal something else.
pub fn coinbase_only(
    tip: &TipHeader,
    last: &Template,
    network: Network,
    elapsed: Duration,
) -> Option<Template> {
    let height = tip.height.checked_add(1)?;
    let period = match network {
        Network::Main => PERIOD,
        Network::Regtest => PERIOD_REGTEST,
        Network::Test | Network::Testnet4 | Network::Signet => return None,
    };
    let begins = height.is_multiple_of(period);
    if begins && network == Network::Main || last.height / period != height / period {
        return None;
    }
    let mut min_ntime = tip.median_time.checked_add(1)?;
    if begins {
        min_ntime = min_ntime.max(tip.time.saturating_sub(TIMEWARP_SECONDS_MAX));
    }
    let elapsed = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
    Some(Template {
        height,
        prev_hash: tip.hash,
        version: last.version,
        bits: tip.bits,
        curtime: last.curtime.saturating_add(elapsed).max(min_ntime),
        min_ntime,
        coinbase_value: subsidy(height, network),
        coinbase_version: COINBASE_VERSION,
        coinbase_sequence: COINBASE_SEQUENCE,
        coinbase_locktime: height - 1,
        witness_commitment: None,
        coinbase_aux: last.coinbase_aux.clone(),
        merkle_path: Vec::new(),
        transactions: Arc::from([]),
        weight: 0,
    })
}

#[cfg(test)]
mod tests {
    use pow::Hash256;

    use super::*;

    fn tip(height: u32) -> TipHeader {
        TipHeader {
            hash: Hash256([7; 32]),
            prev_hash: Hash256::ZERO,
            height,
            confirmations: 1,
            version: 0x3fff_e000,
            bits: 0x1703_4219,
            time: 1_800_000_600,
            median_time: 1_799_997_000,
        }
    }

    fn last(height: u32) -> Template {
        Template {
            height,
            prev_hash: Hash256([1; 32]),
            version: 0x2000_0004,
            bits: 0x1703_4219,
            curtime: 1_800_000_000,
            min_ntime: 1_799_996_001,
            coinbase_value: 400_000_000,
            coinbase_version: 2,
            coinbase_sequence: 0xffff_fffe,
            coinbase_locktime: height - 1,
            witness_commitment: Some(vec![0x6a; 38]),
            coinbase_aux: vec![1, 9],
            merkle_path: vec![Hash256([3; 32])],
            transactions: Arc::from([Arc::from([0_u8; 60])]),
            weight: 240,
        }
    }

    fn made(height: u32, last_height: u32, network: Network) -> Option<Template> {
        coinbase_only(&tip(height - 1), &last(last_height), network, Duration::from_secs(650))
    }

    #[test]
    fn everything_comes_from_the_header_or_goes_on_from_the_last_template() {
        let template = made(900_001, 900_000, Network::Main).expect("an ordinary height");
        let wanted = Template {
            height: 900_001,
            prev_hash: Hash256([7; 32]),
            min_ntime: 1_799_997_001,
            curtime: 1_800_000_650,
            coinbase_value: 312_500_000,
            coinbase_locktime: 900_000,
            witness_commitment: None,
            merkle_path: Vec::new(),
            transactions: Arc::from([]),
            weight: 0,
            ..last(900_000)
        };
        assert_eq!(template, wanted);
    }

    #[test]
    fn the_time_is_never_before_what_the_network_takes() {
        let late = TipHeader { median_time: 1_900_000_000, ..tip(900_000) };
        let template = coinbase_only(&late, &last(900_000), Network::Main, Duration::ZERO);
        assert_eq!(
            template.map(|made| (made.curtime, made.min_ntime)),
            Some((1_900_000_001, 1_900_000_001))
        );
        let last_second = TipHeader { median_time: u32::MAX, ..tip(900_000) };
        assert!(
            coinbase_only(&last_second, &last(900_000), Network::Main, Duration::MAX).is_none()
        );
    }

    #[test]
    fn no_header_says_enough_at_a_retarget_nor_on_some_chains() {
        assert!(made(2_016 * 400, 2_016 * 400, Network::Main).is_none());
        assert!(made(2_016 * 400 - 1, 2_016 * 400 - 2, Network::Main).is_some());
        assert!(made(2_016 * 400 + 1, 2_016 * 400 - 1, Network::Main).is_none(), "other period");
        assert!(made(2_016 * 400 + 2, 2_016 * 400 + 9, Network::Main).is_some(), "a reorg");
        for network in [Network::Test, Network::Testnet4, Network::Signet] {
            assert!(made(900_001, 900_000, network).is_none(), "{network}");
        }
    }

    #[test]
    fn regtest_has_its_own_periods_and_no_retarget() {
        assert!(
            made(144, 144, Network::Regtest).is_some_and(|made| made.min_ntime == 1_800_000_000)
        );
        assert!(
            made(145, 144, Network::Regtest).is_some_and(|made| made.min_ntime == 1_799_997_001)
        );
        assert!(made(144, 143, Network::Regtest).is_none(), "another period");
        assert!(made(2_017, 2_017, Network::Regtest).is_some());
    }

    #[test]
    fn subsidies_halve_by_the_networks_own_interval() {
        for (height, network, value) in [
            (0, Network::Main, 5_000_000_000),
            (209_999, Network::Main, 5_000_000_000),
            (210_000, Network::Main, 2_500_000_000),
            (840_000, Network::Testnet4, 312_500_000),
            (33 * 210_000, Network::Main, 0),
            (64 * 210_000, Network::Main, 0),
            (u32::MAX, Network::Main, 0),
            (149, Network::Regtest, 5_000_000_000),
            (150, Network::Regtest, 2_500_000_000),
            (64 * 150, Network::Regtest, 0),
        ] {
            assert_eq!(subsidy(height, network), value, "{height} on {network}");
        }
    }
}
