//! What a miner can say, typed. No parsing and no judging here.
//!
//! Texts borrow from the line, and own only where JSON escapes had to be undone. Hexadecimal
//! fields stay text: their lengths are known only to the session, [`crate::hex`] reads them.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use super::Id;

/// One line from a miner.
#[derive(Clone, Debug, PartialEq)]
pub struct Message<'a> {
    /// To be echoed in the answer.
    pub id: Id<'a>,
    /// What is asked.
    pub request: Request<'a>,
}

/// What a miner asks, or answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// `mining.authorize`.
    Authorize {
        /// The worker's name as sent; may be empty or hold blanks.
        user: Cow<'a, str>,
        /// The password; numbers and booleans as their JSON text.
        password: Option<Cow<'a, str>>,
    },
    /// `mining.configure` (BIP310).
    Configure(Configure<'a>),
    /// `mining.extranonce.subscribe`.
    ExtranonceSubscribe,
    /// `client.get_version`: some firmware asks the server for its version.
    GetVersion,
    /// A field is missing, of the wrong type, or not a value. To be answered with error 20.
    Invalid(Reason),
    /// The same of a `mining.submit`: what was meant as a share is counted as one.
    InvalidSubmit(Reason),
    /// `mining.ping`.
    Ping,
    /// An answer to a request of ours (`mining.ping`, `client.get_version`).
    Response(Reply<'a>),
    /// `mining.submit`.
    Submit(Submit<'a>),
    /// `mining.subscribe`.
    Subscribe(Subscribe<'a>),
    /// `mining.suggest_difficulty`: finite and above zero.
    SuggestDifficulty(f64),
    /// `mining.suggest_target`: 32 bytes, the most significant first, not all zero.
    SuggestTarget([u8; 32]),
    /// Any other method.
    Unknown {
        /// Its name as sent.
        method: Cow<'a, str>,
    },
}

/// `mining.submit`: a share. Parameters after the sixth are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit<'a> {
    /// The worker's name as sent.
    pub worker: Cow<'a, str>,
    /// The id of the job that was announced.
    pub job_id: Cow<'a, str>,
    /// Hexadecimal, of the size that subscribe's answer gave.
    pub extranonce2: Cow<'a, str>,
    /// Hexadecimal, the most significant digit first.
    pub ntime: Cow<'a, str>,
    /// Hexadecimal, the most significant digit first; may lack leading zeros.
    pub nonce: Cow<'a, str>,
    /// Hexadecimal; absent or null in firmware that does not roll the version.
    pub version_bits: Option<Cow<'a, str>>,
}

/// `mining.subscribe`. Parameters after the second are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The firmware's name for itself, of any length and not to be trusted.
    pub user_agent: Option<Cow<'a, str>>,
    /// The session that the miner wants to resume, as sent: maybe not even hexadecimal.
    pub session_id: Option<Cow<'a, str>>,
}

/// `mining.configure`: which extensions are asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configure<'a> {
    /// `version-rolling`.
    pub version_rolling: Option<VersionRolling>,
    /// `minimum-difficulty`.
    pub minimum_difficulty: Option<MinimumDifficulty>,
    /// `subscribe-extranonce`.
    pub subscribe_extranonce: bool,
    /// Names of all others, each once, at most [`EXTENSIONS_UNKNOWN_MAX`].
    pub unknown: Vec<Cow<'a, str>>,
}

/// More unknown extensions than this are not answered: no firmware asks for that many, and each
/// is echoed in the reply.
pub const EXTENSIONS_UNKNOWN_MAX: usize = 8;

/// A longer name of an unknown extension is not answered: it would be echoed.
pub const EXTENSION_NAME_BYTES_MAX: usize = 64;

/// The options of `version-rolling`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRolling {
    /// The bits that the miner can roll; all where it did not say.
    pub mask: u32,
    /// How many bits it wants at least.
    pub min_bit_count: Option<u32>,
}

/// The options of `minimum-difficulty`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinimumDifficulty {
    /// Finite and above zero, where given.
    pub value: Option<f64>,
}

/// An answer to a request of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The miner answered with an error, or without a result.
    Failed,
    /// A result that is no string, as raw JSON text.
    Other(&'a str),
    /// A result that is a string: "pong", a version.
    Text(Cow<'a, str>),
}

/// Why a request is invalid: the field at fault by its name in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The right type, but no value that the field can have.
    BadValue(&'static str),
    /// Not there, or null.
    Missing(&'static str),
    /// A wrong JSON type.
    WrongType(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::BadValue(field) => write!(f, "Invalid {field}"),
            Reason::Missing(field) => write!(f, "Missing {field}"),
            Reason::WrongType(field) => write!(f, "Wrong type of {field}"),
        }
    }
}
