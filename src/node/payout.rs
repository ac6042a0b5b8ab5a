//! From the address that a person writes to the output script that a coinbase pays. Here, because
//! only this crate knows the `bitcoin` crate. Called when a configuration is read.

use std::fmt;
use std::str::FromStr;

use bitcoin::Address;
use bitcoin::address::{NetworkUnchecked, ParseError};

/// The chains whose addresses are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The one with the money.
    Main,
    /// The third public test chain.
    Test,
    /// The fourth public test chain.
    Testnet4,
    /// The signed test chain.
    Signet,
    /// A private chain, such as the simulated node's.
    Regtest,
}

/// Why an address cannot be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It is no address at all: a slip of the pen, as its checksum shows, or something else.
    NotAnAddress {
        /// What the parser stumbled over.
        reason: String,
    },
    /// A good address, of a chain other than the one that is mined.
    OtherNetwork {
        /// The chain that is mined.
        wanted: Network,
    },
}

/// The output script of `address`, of whatever type: pay to public key hash, to script hash, to
/// witness programs of any version.
pub fn payout_script(address: &str, network: Network) -> Result<Vec<u8>, AddressError> {
    let unchecked = Address::<NetworkUnchecked>::from_str(address.trim())
        .map_err(|error| AddressError::NotAnAddress { reason: reason(&error) })?;
    let checked = unchecked
        .require_network(network.into())
        .map_err(|_| AddressError::OtherNetwork { wanted: network })?;
    Ok(checked.script_pubkey().into_bytes())
}

impl AddressError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            AddressError::NotAnAddress { .. } => "copy the address again".to_owned(),
            AddressError::OtherNetwork { wanted } => format!("use an address of {wanted}"),
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::NotAnAddress { reason } => write!(out, "not a Bitcoin address: {reason}"),
            AddressError::OtherNetwork { wanted } => {
                write!(out, "the address is not of the network that is mined, {wanted}")
            }
        }
    }
}

impl std::error::Error for AddressError {}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Network::Main => "main",
            Network::Test => "test",
            Network::Testnet4 => "testnet4",
            Network::Signet => "signet",
            Network::Regtest => "regtest",
        })
    }
}

impl From<Network> for bitcoin::Network {
    fn from(network: Network) -> bitcoin::Network {
        match network {
            Network::Main => bitcoin::Network::Bitcoin,
            Network::Test => bitcoin::Network::Testnet,
            Network::Testnet4 => bitcoin::Network::Testnet4,
            Network::Signet => bitcoin::Network::Signet,
            Network::Regtest => bitcoin::Network::Regtest,
        }
    }
}

/// The parser tries bech32 first and base58 after; whichever form was meant has the true reason.
fn reason(error: &ParseError) -> String {
    match error {
        ParseError::Bech32(error) => error.to_string(),
        ParseError::Base58(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_address_is_paid_by_its_own_script() {
        // From the examples of BIP173, BIP350 and the first addresses of the main chain.
        let rows = [
            (
                "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
                "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac",
            ),
            (
                "3P14159f73E4gFr7JterCCQh9QjiTjiZrG",
                "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87",
            ),
            (
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
                "0014751e76e8199196d454941c45d1b3a323f1433bd6",
            ),
            (
                "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
                "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            ),
        ];
        for (address, script) in rows {
            let bytes = payout_script(address, Network::Main).expect("a good address");
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, script, "{address}");
        }
    }

    #[test]
    fn a_wrong_letter_and_a_wrong_chain_are_told_apart() {
        let wrong_letter = payout_script("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", Network::Main);
        assert!(matches!(wrong_letter, Err(AddressError::NotAnAddress { .. })));
        let wrong_chain = payout_script("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", Network::Regtest);
        assert_eq!(wrong_chain, Err(AddressError::OtherNetwork { wanted: Network::Regtest }));
    }
}
