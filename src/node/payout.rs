//! From what a person writes under `[payout]` to the output script that a coinbase pays: an
//! address, a script in hex, or a descriptor. Here, because only this crate knows the `bitcoin`
//! crate. Called when a configuration is read; nothing here knows a file, so that whoever reads
//! one adds the line to each error.

mod descriptor;

use std::fmt;
use std::str::FromStr;

use bitcoin::address::{NetworkUnchecked, ParseError};
use bitcoin::opcodes::all::{OP_IF, OP_NOTIF};
use bitcoin::opcodes::{Class, ClassifyContext, Opcode};
use bitcoin::script::Instruction;
use bitcoin::{Address, Script};

pub use descriptor::{DescriptorError, descriptor_script};

/// What fits beside the template of a node that reserves as Core and Knots do: 8,000 weight units,
/// of which 1,708 bytes are left for outputs; 11 of them are this output's value and length.
pub const SCRIPT_BYTES_MAX: usize = 1_697;
/// The same nodes reserve 400 signature operations for the coinbase, and each legacy one counts
/// four times. One more could make a full block invalid.
pub const SIGNATURE_OPERATIONS_MAX: usize = 100;

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

/// Why nobody can be paid by what was written: always the writer's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayoutError {
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
    /// It is not pairs of hexadecimal digits.
    NotHex,
    /// A script without a byte: whoever sees the block first takes the coins.
    Empty,
    /// Nobody could ever spend it: it executes an operation that always fails.
    Unspendable {
        /// The operation's name, such as `OP_RETURN`.
        operation: String,
    },
    /// Nobody could ever spend it: it ends within a push.
    CutShort,
    /// More than [`SCRIPT_BYTES_MAX`]: a full block would be too heavy.
    TooLong {
        /// The script's bytes.
        bytes: usize,
    },
    /// More than [`SIGNATURE_OPERATIONS_MAX`]: a full block would have too many.
    TooManySignatureOperations {
        /// Legacy signature operations of the script.
        count: usize,
    },
    /// The descriptor cannot be paid.
    Descriptor(DescriptorError),
}

/// The output script of `address`, of whatever type: pay to public key hash, to script hash, to
/// witness programs of any version.
///
/// # Errors
/// It is no address, or one of another chain.
pub fn address_script(address: &str, network: Network) -> Result<Vec<u8>, PayoutError> {
    let unchecked = Address::<NetworkUnchecked>::from_str(address.trim())
        .map_err(|error| PayoutError::NotAnAddress { reason: reason(&error) })?;
    let checked = unchecked
        .require_network(network.into())
        .map_err(|_| PayoutError::OtherNetwork { wanted: network })?;
    payable(checked.script_pubkey().into_bytes())
}

/// The output script that is written in hex.
///
/// # Errors
/// It is not hex, or a block that pays it would not be worth anything.
pub fn hex_script(text: &str) -> Result<Vec<u8>, PayoutError> {
    payable(hex(text.trim()).ok_or(PayoutError::NotHex)?)
}

/// Why the coins of this script are anybody's, if they are: a witness version without rules, or a
/// script that asks for nothing. Allowed, because it is of use on test chains and in the future.
pub fn anybody_can_spend(script: &[u8]) -> Option<&'static str> {
    const OP_TRUE: u8 = 0x51;
    let known = Script::from_bytes(script);
    if script == [OP_TRUE] {
        return Some("the script asks for no signature");
    }
    let program = known.is_witness_program();
    let ruled = known.is_p2wpkh() || known.is_p2wsh() || known.is_p2tr();
    (program && !ruled).then_some("no rule protects this witness version and length yet")
}

/// The address of a script, as a person knows it; none where a script has no address.
pub fn address_of(script: &[u8], network: Network) -> Option<String> {
    let address = Address::from_script(Script::from_bytes(script), bitcoin::Network::from(network));
    address.ok().map(|address| address.to_string())
}

/// The script, if a coinbase that pays it can be part of every block.
fn payable(script: Vec<u8>) -> Result<Vec<u8>, PayoutError> {
    if script.len() > SCRIPT_BYTES_MAX {
        return Err(PayoutError::TooLong { bytes: script.len() });
    }
    if script.is_empty() {
        return Err(PayoutError::Empty);
    }
    spendable(Script::from_bytes(&script))?;
    let count = Script::from_bytes(&script).count_sigops_legacy();
    if count > SIGNATURE_OPERATIONS_MAX {
        return Err(PayoutError::TooManySignatureOperations { count });
    }
    Ok(script)
}

/// Refuses what can never be spent, as far as it shows without running the script: one that does
/// not parse to its end, which fails wherever that is, and an operation that always fails where it
/// is executed in any case, which is before the first branch.
fn spendable(script: &Script) -> Result<(), PayoutError> {
    let mut branched = false;
    for instruction in script.instructions() {
        let Instruction::Op(operation) = instruction.map_err(|_| PayoutError::CutShort)? else {
            continue;
        };
        branched |= [OP_IF, OP_NOTIF].contains(&operation);
        if !branched && always_fails(operation) {
            return Err(PayoutError::Unspendable { operation: operation.to_string() });
        }
    }
    Ok(())
}

fn always_fails(operation: Opcode) -> bool {
    let class = operation.classify(ClassifyContext::Legacy);
    matches!(class, Class::ReturnOp | Class::IllegalOp)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

impl PayoutError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            PayoutError::NotAnAddress { .. } => "copy the address again".to_owned(),
            PayoutError::OtherNetwork { wanted } => format!("use an address of {wanted}"),
            PayoutError::NotHex => "write pairs of 0-9 and a-f, as in \"0014…\"".to_owned(),
            PayoutError::Empty => "write the output script of your wallet".to_owned(),
            PayoutError::Unspendable { .. } => "use a script that your wallet can spend".to_owned(),
            PayoutError::CutShort => "copy the script again, to its end".to_owned(),
            PayoutError::TooLong { .. } => {
                "pay its hash: a sh() or wsh() descriptor, or its address".to_owned()
            }
            PayoutError::TooManySignatureOperations { .. } => {
                "pay its hash: a wsh() descriptor, or its address".to_owned()
            }
            PayoutError::Descriptor(error) => error.remedy(),
        }
    }
}

impl fmt::Display for PayoutError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayoutError::NotAnAddress { reason } => write!(out, "not a Bitcoin address: {reason}"),
            PayoutError::OtherNetwork { wanted } => {
                write!(out, "the address is not of the network that is mined, {wanted}")
            }
            PayoutError::NotHex => out.write_str("the output script is not in hex"),
            PayoutError::Empty => {
                out.write_str("the output script is empty: anybody could take the coins")
            }
            PayoutError::Unspendable { operation } => write!(
                out,
                "the output script executes {operation}, which always fails: the coins would be \
                 lost"
            ),
            PayoutError::CutShort => {
                out.write_str("the output script ends within a push: the coins would be lost")
            }
            PayoutError::TooLong { bytes } => write!(
                out,
                "the output script has {bytes} bytes, and a node leaves room for \
                 {SCRIPT_BYTES_MAX}"
            ),
            PayoutError::TooManySignatureOperations { count } => write!(
                out,
                "the output script counts as {count} signature operations, and a node leaves room \
                 for {SIGNATURE_OPERATIONS_MAX}"
            ),
            PayoutError::Descriptor(error) => write!(out, "{error}"),
        }
    }
}

impl std::error::Error for PayoutError {}

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
mod tests;
