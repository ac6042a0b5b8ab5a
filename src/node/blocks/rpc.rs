//! The way of a block to a bitcoind: `submitblock` over a connection of its own, made afresh.
//!
//! A block may be the first request for days. A connection that was kept for it may be dead
//! without anybody's knowing, and the wait for its answer would cost the block; a new one costs a
//! round trip. Where the verdict is missing, or does not say whether the block is in the chain, the
//! node is asked for its header.

use std::time::Duration;

use pow::Hash256;

use super::Submitter;
use crate::link::BlockOutcome;
use crate::rpc::{CallLimits, Client, Endpoint, RpcError};

/// One thread for any block, one for urgent ones alone (`queue`).
const SUBMITTERS: usize = 2;
/// bitcoind's `RPC_DESERIALIZATION_ERROR`: no other node will make a block of it either.
const DECODE_FAILED: i64 = -22;

/// A node checks and connects a full block within seconds; the next attempt brings the verdict if
/// it takes longer.
const SUBMIT: CallLimits = CallLimits {
    timeout: Duration::from_secs(15),
    stall: Duration::from_secs(5),
    answer_bytes_max: 64 << 10,
};

/// The header's answer is small, and comes at once or not at all.
const HEADER: CallLimits = CallLimits {
    timeout: Duration::from_secs(5),
    stall: Duration::from_secs(5),
    answer_bytes_max: 64 << 10,
};

/// The ways of blocks to one bitcoind, for [`super::start`].
pub fn submitters(endpoint: &Endpoint) -> Vec<Box<dyn Submitter>> {
    let to_node = || Box::new(ToNode { client: Client::new(endpoint) }) as Box<dyn Submitter>;
    std::iter::repeat_with(to_node).take(SUBMITTERS).collect()
}

struct ToNode {
    client: Client,
}

impl Submitter for ToNode {
    fn submit(&mut self, block: &[u8], hash: &Hash256, sent: &mut dyn FnMut()) -> BlockOutcome {
        self.client.disconnect();
        let answer = self.client.submit_block(block, SUBMIT, sent);
        let outcome = outcome_of(answer);
        let confirmations = match &outcome {
            // A node that cannot be asked for a block cannot be asked for a header.
            BlockOutcome::Unknown(_) | BlockOutcome::Duplicate | BlockOutcome::Inconclusive => {
                self.client.disconnect();
                self.client.header_of(hash, HEADER).ok().flatten()
            }
            BlockOutcome::Accepted | BlockOutcome::Rejected(_) => None,
        };
        confirmed(outcome, confirmations)
    }
}

/// What an answer means, before the header is asked for.
fn outcome_of(answer: Result<Option<String>, RpcError>) -> BlockOutcome {
    match answer {
        Ok(None) => BlockOutcome::Accepted,
        Ok(Some(reason)) => match reason.as_str() {
            "duplicate" => BlockOutcome::Duplicate,
            "inconclusive" => BlockOutcome::Inconclusive,
            _ => BlockOutcome::Rejected(reason.into()),
        },
        Err(RpcError::Rpc { code: DECODE_FAILED, message }) => {
            BlockOutcome::Rejected(message.into())
        }
        Err(error) => BlockOutcome::Unknown(error.to_string().into()),
    }
}

/// The outcome, with what the node's chain says of the block: a number of confirmations, or −1
/// beside the main chain.
fn confirmed(outcome: BlockOutcome, confirmations: Option<i64>) -> BlockOutcome {
    match (outcome, confirmations) {
        (BlockOutcome::Inconclusive, Some(1..)) => BlockOutcome::Accepted,
        (BlockOutcome::Unknown(_), Some(1..)) => BlockOutcome::Duplicate,
        // A header alone is known before the block is checked: the next attempt tells.
        (BlockOutcome::Duplicate, Some(..=-1)) => BlockOutcome::Inconclusive,
        (outcome, _) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_headers_make_outcomes() {
        let reason = |text: &str| outcome_of(Ok(Some(text.to_owned())));
        assert_eq!(outcome_of(Ok(None)), BlockOutcome::Accepted);
        assert_eq!(reason("duplicate"), BlockOutcome::Duplicate);
        assert_eq!(reason("inconclusive"), BlockOutcome::Inconclusive);
        for text in ["high-hash", "time-too-new", "bad-txnmrklroot", "duplicate-inconclusive"] {
            assert_eq!(reason(text), BlockOutcome::Rejected(text.to_owned().into()));
        }
        let decode = RpcError::Rpc { code: -22, message: "Block decode failed".to_owned() };
        let decode = outcome_of(Err(decode));
        assert_eq!(decode, BlockOutcome::Rejected("Block decode failed".into()));
        let open = [
            RpcError::Timeout,
            RpcError::Stalled,
            RpcError::Unauthorized,
            RpcError::Forbidden,
            RpcError::Busy,
            RpcError::Warming("Loading block index".to_owned()),
            RpcError::Unreachable("refused".to_owned()),
            RpcError::Rpc { code: -32601, message: "Method not found".to_owned() },
            RpcError::Garbage("half".to_owned()),
        ];
        for error in open {
            assert!(matches!(outcome_of(Err(error)), BlockOutcome::Unknown(_)));
        }
    }

    #[test]
    fn a_header_in_the_chain_settles_what_an_answer_left_open() {
        let unknown = || BlockOutcome::Unknown("the node did not answer in time".into());
        let table = [
            (unknown(), Some(1), BlockOutcome::Duplicate),
            (unknown(), Some(-1), unknown()),
            (unknown(), None, unknown()),
            (BlockOutcome::Inconclusive, Some(3), BlockOutcome::Accepted),
            (BlockOutcome::Inconclusive, Some(-1), BlockOutcome::Inconclusive),
            (BlockOutcome::Duplicate, Some(2), BlockOutcome::Duplicate),
            (BlockOutcome::Duplicate, Some(-1), BlockOutcome::Inconclusive),
            (BlockOutcome::Duplicate, None, BlockOutcome::Duplicate),
            (BlockOutcome::Accepted, None, BlockOutcome::Accepted),
        ];
        for (outcome, confirmations, wanted) in table {
            assert_eq!(confirmed(outcome, confirmations), wanted);
        }
    }
}
