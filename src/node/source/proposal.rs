//! The block that a node is asked about before its templates are mined: the template with our real
//! coinbase, and everything but the work. What it refuses here it would refuse as a block.

use pow::header::HEADER_BYTES;
use pow::{
    Coinbase, CoinbaseError, CoinbaseParts, Header, Kernel, Template, assemble_block,
    full_coinbase, merkle_root,
};

/// Bytes that the farm puts before every miner's own: the number of the tip (`farm::jobs`).
const PREFIX: [u8; 2] = [0; 2];

/// What our coinbase has beside what the template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalParts {
    /// scriptPubKey that gets the whole value.
    pub payout_script: Vec<u8>,
    /// Bytes after the extranonce that say who made the block.
    pub signature: Vec<u8>,
    /// Bytes of extranonce1 and extranonce2 together.
    pub extranonce_size: usize,
}

/// The whole block of `template`, with an extranonce and a nonce of zeros.
///
/// # Errors
/// No coinbase can be made: the signature or the extranonce is too long for this template.
pub fn proposal(template: &Template, parts: &ProposalParts) -> Result<Vec<u8>, CoinbaseError> {
    let coinbase = Coinbase::new(&CoinbaseParts {
        template,
        prefix: &PREFIX,
        extranonce_size: parts.extranonce_size,
        payout_script: &parts.payout_script,
        signature: &parts.signature,
    })?;
    let extranonce = vec![0; parts.extranonce_size];
    let stripped = [&coinbase.first[..], &extranonce, &coinbase.second].concat();
    let kernel = Kernel::detect();
    let header = Header {
        version: template.version,
        prev_hash: template.prev_hash,
        merkle_root: merkle_root(kernel, kernel.sha256d(&stripped), &template.merkle_path),
        ntime: template.curtime,
        bits: template.bits,
        nonce: 0,
    };
    let header: [u8; HEADER_BYTES] = header.to_bytes();
    let has_witness = template.witness_commitment.is_some();
    let whole = full_coinbase(&coinbase.first, &extranonce, &coinbase.second, has_witness);
    Ok(assemble_block(&header, &whole, &template.transactions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::{Chain, Parameters, UnixMicros};

    #[test]
    fn what_is_proposed_is_a_block_but_for_its_work() {
        let now = UnixMicros(1_800_000_000_000_000);
        let parameters = Parameters { difficulty: 1e12, ..Parameters::default() };
        let mut chain = Chain::new(parameters, now).expect("good parameters");
        let template = chain.take_template().expect("the first one");
        let mut parts = ProposalParts {
            payout_script: vec![0x51],
            signature: b"/farm-7/".to_vec(),
            extranonce_size: 8,
        };
        let block = proposal(&template, &parts).expect("a good coinbase");
        let block: bitcoin::Block =
            bitcoin::consensus::deserialize(&block).expect("a whole block and nothing behind it");
        assert!(block.check_merkle_root());
        assert!(block.check_witness_commitment());
        assert_eq!(block.bip34_block_height(), Ok(u64::from(template.height)));
        assert_eq!(block.txdata.len(), 1 + template.transactions.len());
        assert_eq!(block.txdata[0].output[0].value.to_sat(), template.coinbase_value);
        parts.signature = vec![b'x'; 100];
        assert!(matches!(proposal(&template, &parts), Err(CoinbaseError::ScriptTooLong { .. })));
    }
}
