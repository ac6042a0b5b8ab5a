//! Why a question to a node has no answer, so that each cause can be named and acted upon.

use std::fmt;

/// A call that gave no result. Which of them heal by themselves is for the caller to know; each
/// says whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpcError {
    /// Nobody listens there, or the connection broke. The node's, or the network's.
    Unreachable(String),
    /// The cookie file cannot be read: the node is down, or the path is wrong.
    Cookie(String),
    /// HTTP 401, with a cookie just read where there is one. The operator's.
    Unauthorized,
    /// HTTP 403: `rpcallowip` does not name us, or `rpcwhitelist` not the method. The operator's.
    Forbidden,
    /// HTTP 503, again and again: all the node's RPC threads and its queue are taken.
    Busy,
    /// −28: the node starts; its words.
    Warming(String),
    /// −10: initial block download.
    InitialDownload,
    /// −9: the node has no peers.
    NoPeers,
    /// −8: the node follows a rule that we do not know; its name.
    UnknownRule(String),
    /// Any other error of the node's.
    Rpc {
        /// bitcoind's `RPCErrorCode`.
        code: i64,
        /// Its words.
        message: String,
    },
    /// No answer began within the time allowed.
    Timeout,
    /// An answer began and did not end within the time allowed.
    Stalled,
    /// The answer is longer than allowed, in bytes.
    TooLarge(usize),
    /// The answer is not what such a question is answered with.
    Garbage(String),
}

/// The longest text of a node's that an error carries.
const TEXT_CHARS_MAX: usize = 200;

impl RpcError {
    /// The error object of an answer.
    pub(super) fn of_node(code: i64, message: &str) -> RpcError {
        match code {
            -28 => RpcError::Warming(printable(message)),
            -10 => RpcError::InitialDownload,
            -9 => RpcError::NoPeers,
            -8 => match unknown_rule(message) {
                Some(rule) => RpcError::UnknownRule(printable(rule)),
                None => RpcError::Rpc { code, message: printable(message) },
            },
            _ => RpcError::Rpc { code, message: printable(message) },
        }
    }

    /// What an operator can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            RpcError::Unreachable(_) => "start the node, or correct the address",
            RpcError::Cookie(_) => {
                "start the node, or correct cookie_file, and let this user read it"
            }
            RpcError::Unauthorized => "correct user and password, or cookie_file",
            RpcError::Forbidden => {
                "set rpcallowip and rpcwhitelist in bitcoin.conf; README.md lists the methods"
            }
            RpcError::Busy => "raise rpcthreads and rpcworkqueue in bitcoin.conf",
            RpcError::Warming(_) | RpcError::InitialDownload => "wait for the node",
            RpcError::NoPeers => "connect the node to its network",
            RpcError::UnknownRule(_) => "use a node without this rule",
            RpcError::Timeout | RpcError::Stalled => {
                "see why the node is slow: its disk, its CPU, the network in between"
            }
            RpcError::Rpc { .. } | RpcError::TooLarge(_) | RpcError::Garbage(_) => {
                "see that a bitcoind answers there"
            }
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RpcError::Unreachable(why) => write!(out, "the node cannot be reached: {why}"),
            RpcError::Cookie(why) => write!(out, "the node's cookie cannot be read: {why}"),
            RpcError::Unauthorized => out.write_str("the node does not know us (401)"),
            RpcError::Forbidden => out.write_str("the node refuses our address or method (403)"),
            RpcError::Busy => out.write_str("the node's work queue is full (503)"),
            RpcError::Warming(what) => write!(out, "the node starts: {what}"),
            RpcError::InitialDownload => out.write_str("the node is in initial block download"),
            RpcError::NoPeers => out.write_str("the node has no peers"),
            RpcError::UnknownRule(rule) => {
                write!(out, "the node follows the rule {rule}, which this version does not know")
            }
            RpcError::Rpc { code, message } => {
                write!(out, "the node answered with error {code}: {message}")
            }
            RpcError::Timeout => out.write_str("the node did not answer in time"),
            RpcError::Stalled => out.write_str("the node's answer stopped in the middle"),
            RpcError::TooLarge(bytes) => write!(out, "the node's answer exceeds {bytes} bytes"),
            RpcError::Garbage(why) => write!(out, "the node's answer makes no sense: {why}"),
        }
    }
}

impl std::error::Error for RpcError {}

/// A node's text as a log can bear it: short, and of one line.
pub(super) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.trim().chars().take(TEXT_CHARS_MAX).map(plain).collect();
    if text.trim().chars().nth(TEXT_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// The rule that a refused `getblocktemplate` is about, in the words of Core and of Knots:
/// "must be called with the segwit rule set", "Support for 'x' rule requires explicit client
/// support".
fn unknown_rule(message: &str) -> Option<&str> {
    if let Some((_, rest)) = message.split_once("Support for '") {
        return rest.split_once('\'').map(|(rule, _)| rule);
    }
    let (_, rest) = message.split_once("called with the ")?;
    rest.split_once(" rule").map(|(rule, _)| rule.trim_matches(['\'', '"']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_bitcoind_are_told_apart() {
        let of = RpcError::of_node;
        assert_eq!(
            of(-28, "Loading block index…"),
            RpcError::Warming("Loading block index…".into())
        );
        assert_eq!(of(-10, "x"), RpcError::InitialDownload);
        assert_eq!(of(-9, "x"), RpcError::NoPeers);
        assert_eq!(of(-5, "y"), RpcError::Rpc { code: -5, message: "y".into() });
        let unknown = RpcError::UnknownRule("blake2b".into());
        assert_eq!(of(-8, "Support for 'blake2b' rule requires explicit client support"), unknown);
        assert_eq!(of(-8, "getblocktemplate must be called with the blake2b rule set"), unknown);
        assert_eq!(
            of(-8, "Invalid mode"),
            RpcError::Rpc { code: -8, message: "Invalid mode".into() }
        );
    }

    #[test]
    fn a_nodes_words_stay_short_and_on_one_line() {
        assert_eq!(printable(" a\nb\u{1b}[1m "), "a b [1m");
        let long = "é".repeat(TEXT_CHARS_MAX + 1);
        assert_eq!(printable(&long).chars().count(), TEXT_CHARS_MAX + 1);
        assert_eq!(printable(&long[..TEXT_CHARS_MAX * 2]).chars().count(), TEXT_CHARS_MAX);
    }
}
