//! Output descriptors (BIP380 and after) that name exactly one script. `addr()` and `raw()` are
//! read here, the rest by the crate `miniscript`. What could name several scripts is refused: a
//! coinbase pays one, and nobody here counts which address was used last.

use std::fmt;
use std::str::FromStr;

use bitcoin::bip32::Xpriv;
use miniscript::descriptor::DescriptorPublicKey;
use miniscript::descriptor::checksum::{self, verify_checksum};
use miniscript::{Descriptor, ForEachKey};

use super::{Network, PayoutError, address_script, hex_script, payable};

/// What a descriptor may begin with.
const KINDS: [&str; 8] = ["addr", "raw", "pk", "pkh", "wpkh", "sh", "wsh", "tr"];
/// A private key in base58 has 51 characters, or 52 where its public key is compressed.
const PRIVATE_KEY_CHARACTERS: std::ops::RangeInclusive<usize> = 51..=52;
/// How such a key begins, on the main chain and on test chains.
const PRIVATE_KEY_BEGINNINGS: [char; 5] = ['5', 'K', 'L', '9', 'c'];

/// Why a descriptor cannot be paid: the writer's fault. No text repeats a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescriptorError {
    /// The eight characters after `#` belong to another text: one of both has a slip.
    Checksum,
    /// A character that no descriptor has, at this place.
    Character {
        /// What stands there.
        character: char,
        /// Characters before it.
        position: usize,
    },
    /// It is not of the form `kind(…)`.
    NotADescriptor,
    /// A kind that is not known here, or does not name one script.
    Kind(String),
    /// It names a script for each number (`/*`) or for each of several paths (`<0;1>`).
    Ranged,
    /// It has an extended key, from which others derive.
    ExtendedKey,
    /// It has a private key, which belongs into no configuration.
    PrivateKey,
    /// Whatever else the parser refuses, in its words.
    Refused(String),
}

/// The one output script that a descriptor names. Its checksum is verified if it has one.
///
/// # Errors
/// It is none, names more than one script, or its script cannot be paid on this chain.
pub fn descriptor_script(text: &str, network: Network) -> Result<Vec<u8>, PayoutError> {
    let body = verify_checksum(text.trim()).map_err(|error| of_checksum(&error))?;
    let parts = body.split_once('(').and_then(|(kind, rest)| Some((kind, rest.strip_suffix(')')?)));
    let Some((kind, inside)) = parts else {
        return Err(DescriptorError::NotADescriptor.into());
    };
    match kind {
        "addr" => address_script(inside, network),
        "raw" => hex_script(inside),
        kind if KINDS.contains(&kind) => payable(script_of_keys(body)?),
        kind => Err(DescriptorError::Kind(kind.to_owned()).into()),
    }
}

fn script_of_keys(body: &str) -> Result<Vec<u8>, DescriptorError> {
    // First of all, because the parser's words could repeat what it stumbles over.
    if body.split(|c: char| !c.is_ascii_alphanumeric()).any(is_private) {
        return Err(DescriptorError::PrivateKey);
    }
    let refused =
        |error: miniscript::Error| DescriptorError::Refused(error.to_string().replace('\n', ", "));
    let descriptor = Descriptor::<DescriptorPublicKey>::from_str(body).map_err(refused)?;
    descriptor.sanity_check().map_err(refused)?;
    if descriptor.for_any_key(|key| key.has_wildcard() || key.is_multipath()) {
        return Err(DescriptorError::Ranged);
    }
    if !descriptor.for_each_key(|key| matches!(key, DescriptorPublicKey::Single(_))) {
        return Err(DescriptorError::ExtendedKey);
    }
    // Without wildcards every number gives the same script.
    let definite = descriptor.at_derivation_index(0).map_err(|_| DescriptorError::Ranged)?;
    Ok(definite.script_pubkey().into_bytes())
}

/// Whether a word is a private key, or was meant as one.
fn is_private(word: &str) -> bool {
    let single =
        PRIVATE_KEY_CHARACTERS.contains(&word.len()) && word.starts_with(PRIVATE_KEY_BEGINNINGS);
    single || word.starts_with("xprv") || word.starts_with("tprv") || Xpriv::from_str(word).is_ok()
}

fn of_checksum(error: &checksum::Error) -> DescriptorError {
    match error {
        checksum::Error::InvalidCharacter { ch, pos } => {
            DescriptorError::Character { character: *ch, position: *pos }
        }
        checksum::Error::InvalidChecksumLength { .. } | checksum::Error::InvalidChecksum { .. } => {
            DescriptorError::Checksum
        }
    }
}

impl DescriptorError {
    /// What to write instead.
    pub(super) fn remedy(&self) -> String {
        match self {
            DescriptorError::Checksum => {
                "copy the descriptor again, all of it; the part from # on may be left out"
            }
            DescriptorError::Character { .. } => "copy the descriptor again",
            DescriptorError::NotADescriptor => {
                "write for example \"wpkh(KEY)\" or \"addr(ADDRESS)\""
            }
            DescriptorError::Kind(_) => {
                return format!("use one of {}", KINDS.map(|kind| format!("{kind}()")).join(", "));
            }
            DescriptorError::Ranged => {
                "use the descriptor of one address: addr(ADDRESS), or the public key itself"
            }
            DescriptorError::ExtendedKey => {
                "use addr(ADDRESS), or the derived public key in hex in place of the extended one"
            }
            DescriptorError::PrivateKey => {
                "use the public key, and treat the private one as known to others"
            }
            DescriptorError::Refused(_) => {
                "copy the descriptor again, or use addr() with the address"
            }
        }
        .to_owned()
    }
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DescriptorError::Checksum => {
                out.write_str("the descriptor's checksum does not belong to its text")
            }
            DescriptorError::Character { character, position } => {
                write!(out, "no descriptor has a {character:?}, as at its character {position}")
            }
            DescriptorError::NotADescriptor => out.write_str("this is no descriptor"),
            DescriptorError::Kind(kind) => {
                write!(out, "descriptor {kind}() does not name one script that is known here")
            }
            DescriptorError::Ranged => out.write_str(
                "the descriptor is ranged: it names many scripts, and a coinbase pays one",
            ),
            DescriptorError::ExtendedKey => {
                out.write_str("the descriptor has an extended key, from which others derive")
            }
            DescriptorError::PrivateKey => out.write_str("the descriptor has a private key"),
            DescriptorError::Refused(reason) => write!(out, "the descriptor is refused: {reason}"),
        }
    }
}

impl std::error::Error for DescriptorError {}

impl From<DescriptorError> for PayoutError {
    fn from(error: DescriptorError) -> PayoutError {
        PayoutError::Descriptor(error)
    }
}
