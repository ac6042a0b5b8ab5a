//! `/api/v1`: the farm's snapshot as JSON, and lists of what it is made of (`rows`). Answers are
//! bounded: a page of a list, never all of it. `docs/openapi.json` describes every field; a test
//! holds the two together.

mod rows;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use farm::blocks::{BlockRecord, Journaled, NodeRecord, Outcome};
use farm::ledger::{Reason, WorkerTotals};
use farm::status::JobStatus;
use node::source::{NodeHealth, NodeState};
use serde_json::{Map, Value, json};
use session::Tick;

pub(super) use self::rows::{blocks, jobs, miners, workers};
use super::query::Asked;
use crate::history::BYTES_MAX;
use crate::nodes::remedy;
use crate::version;
use crate::view::{
    View, coordinator_age_micros, coordinator_hangs, snapshot_age_micros, template_age_micros, work,
};

/// An error as every page gives it.
pub(super) fn error(code: StatusCode, what: &str) -> Response {
    (code, Json(json!({ "error": what }))).into_response()
}

pub(super) async fn status(State(view): State<Arc<dyn View>>, asked: Asked) -> Response {
    if let Err(nonsense) = asked.nothing_else() {
        return nonsense.into();
    }
    let now = view.now();
    let shards: Vec<Value> = view
        .shards()
        .iter()
        .map(|shard| {
            let counters = &shard.counters;
            let age = now.as_micros().saturating_sub(counters.heartbeat_us.value());
            json!({
                "core": shard.core,
                "connections": counters.miners_setup.value() + counters.miners_mining.value()
                    + counters.miners_parked.value(),
                "turns": counters.turns.value(),
                "busy_seconds": seconds(counters.busy_us.value()),
                "heartbeat_age_seconds": seconds(age),
            })
        })
        .collect();
    let addresses: Vec<String> = view.listening().iter().map(ToString::to_string).collect();
    let nodes: Vec<Value> = view.nodes().iter().map(node).collect();
    let mut body = json!({
        "version": version::VERSION,
        "commit": version::COMMIT,
        "listening": addresses,
        "uptime_seconds": seconds(now.since(view.started())),
        "shards": shards,
        "nodes": nodes,
    });
    if let Some(body) = body.as_object_mut() {
        farm(&*view, body);
    }
    Json(body).into_response()
}

/// The part of the status that the coordinator knows, and whether it still learns anything: when
/// it hangs, all of this is as old as the snapshot.
fn farm(view: &dyn View, body: &mut Map<String, Value>) {
    let (status, now) = (&*view.status(), view.now());
    let (counts, history) = (&status.block_counts, view.history());
    let mut ever = status.totals;
    ever.add(&history.totals);
    let newest = status.blocks.iter().rev().map(|block| record(view, block, now));
    let more = [
        ("snapshot_age_seconds", json!(seconds(snapshot_age_micros(view, status)))),
        (
            "coordinator",
            json!({
                "hangs": coordinator_hangs(view),
                "heartbeat_age_seconds": seconds(coordinator_age_micros(view)),
            }),
        ),
        ("work", json!(work(view, status).name())),
        ("job", json!(status.job.as_ref().map(|made| job(made, now)))),
        ("jobs_made", json!(status.jobs_made)),
        ("template_age_seconds", json!(template_age_micros(view, status).map(seconds))),
        ("miners", json!(status.connections)),
        ("workers", json!(status.workers)),
        ("hashes_per_second", json!(status.hashes_per_second)),
        ("hashes_per_second_1h", json!(status.long_rates.hour)),
        ("hashes_per_second_24h", json!(status.long_rates.day)),
        ("shares", totals(&status.totals)),
        (
            "blocks",
            json!({
                "found": counts.found,
                "accepted": counts.accepted,
                "duplicate": counts.duplicate,
                "stale": counts.stale,
                "refused": counts.refused,
                "restored": counts.restored,
                "unsettled": status.blocks_unsettled,
                "newest": newest.collect::<Vec<_>>(),
            }),
        ),
        ("draining", json!(status.draining)),
        ("shares_ever", totals(&ever)),
        (
            "history",
            json!({
                "state": history.state.name(),
                "says": history.says,
                "bytes": history.bytes,
                "bytes_max": BYTES_MAX,
                "failures": history.failures,
                "written_age_seconds": history.written.map(|at| seconds(now.since(at))),
            }),
        ),
    ];
    body.extend(more.map(|(name, value)| (name.to_owned(), value)));
}

/// A job that miners have or had.
fn job(job: &JobStatus, now: Tick) -> Value {
    json!({
        "number": job.number,
        "tip": job.tip,
        "height": job.height,
        "previous_hash": hash(&job.prev_hash),
        "bits": format!("{:08x}", job.bits),
        "network_difficulty": job.network_difficulty,
        "coinbase_satoshi": job.coinbase_value,
        "transactions": job.transactions,
        "weight": job.weight,
        "age_seconds": seconds(now.since(job.received)),
    })
}

/// One bitcoind: how it is, what can be done about that, and what else to look at.
pub(super) fn node(state: &NodeState) -> Value {
    let (word, remedy) = match &state.health {
        NodeHealth::Connecting => ("connecting", None),
        NodeHealth::Ready => ("ready", None),
        NodeHealth::Fault(fault) => (fault.kind(), Some(remedy(fault))),
    };
    json!({
        "name": &*state.name,
        "state": word,
        "says": state.health.to_string(),
        "remedy": remedy,
        "source": state.is_source,
        "height": state.height,
        "tip": state.tip.as_ref().map(hash),
        "template_age_seconds": state.template_age.map(|age| age.as_secs_f64()),
        "template_seconds": state.latency.map(|latency| latency.as_secs_f64()),
        "tips_by": state.tip_source,
        "failures": state.failures,
        "warnings": state.warnings,
    })
}

fn totals(totals: &WorkerTotals) -> Value {
    let reasons: Map<String, Value> = Reason::ALL
        .into_iter()
        .map(|reason| (reason.label().to_owned(), json!(totals.rejected[reason as usize])))
        .collect();
    json!({
        "accepted": totals.accepted,
        "rejected": totals.rejected_all(),
        "rejected_by_reason": reasons,
        "difficulty_accepted": totals.difficulty_accepted,
        "difficulty_rejected": totals.difficulty_rejected,
    })
}

fn record(view: &dyn View, block: &BlockRecord, now: Tick) -> Value {
    let reason = match &block.outcome {
        Outcome::Refused(reason) => Some(&**reason),
        _ => None,
    };
    let not_journaled = match &block.journaled {
        Journaled::Failed(reason) => Some(&**reason),
        _ => None,
    };
    let nodes = block.nodes.iter().enumerate();
    let nodes: Vec<Value> = nodes.map(|(node, said)| answer_of(view, node, said, now)).collect();
    json!({
        "height": block.facts.height,
        "hash": hash(&block.facts.hash),
        "worker": &*block.facts.worker,
        "job": block.job_number,
        "age_seconds": seconds(now.since(block.found)),
        "late": block.late,
        "restored": block.restored,
        "outcome": block.outcome.name(),
        "reason": reason,
        "first_byte_us": block.first_byte_micros(),
        "first_byte_age_seconds": block.first_byte.map(|at| seconds(now.since(at))),
        "journal": block.journaled.name(),
        "journal_reason": not_journaled,
        "sent_before_journaled": block.sent_first,
        "nodes": nodes,
    })
}

/// What one node said of a block.
fn answer_of(view: &dyn View, node: usize, said: &NodeRecord, now: Tick) -> Value {
    json!({
        "node": &*view.node_name(node),
        "attempts": said.attempts,
        "answer": said.answer.as_ref().map(|answer| answer.name()),
        "reason": said.answer.as_ref().and_then(|answer| answer.reason()),
        "age_seconds": said.answered.map(|at| seconds(now.since(at))),
    })
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// A hash as everybody writes it: the number, highest digit first.
fn hash(hash: &pow::Hash256) -> String {
    hex(hash.0.iter().rev())
}

fn hex<'b>(bytes: impl IntoIterator<Item = &'b u8>) -> String {
    bytes.into_iter().map(|byte| format!("{byte:02x}")).collect()
}
