//! A bitcoind over JSON-RPC: what it is asked, and what of its answers is believed.
//!
//! `endpoint` is where a node is and who we are to it. `client` carries one request and one answer
//! at a time over one connection; `calls` are the questions that this project has, each with its
//! own type of answer. `template` makes a [`pow::Template`] of a `getblocktemplate` answer, and
//! `header` makes one of the tip's header alone: both are pure, and whatever they take from a node
//! they have checked.
//!
//! All of it blocks, and is called from a node's own threads only (`source`, `blocks`). Which node
//! is asked when, and what a fault means for the farm, is not decided here.

mod answer;
mod calls;
mod client;
mod endpoint;
mod error;
mod header;
mod template;
mod upload;

#[cfg(test)]
mod tests;

pub use calls::{
    ChainInfo, MempoolInfo, NetworkInfo, TemplateAnswer, TipHeader, TipSeen, ZmqNotification,
};
pub use client::{CallLimits, Client};
pub use endpoint::{Auth, Endpoint, UrlError};
pub use error::RpcError;
pub use header::{coinbase_only, subsidy};
pub use template::{TemplateError, TemplateFacts, TemplateReader};
