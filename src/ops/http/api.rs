//! `/api/v1`: the farm's snapshot and the list of miners as JSON. Answers are bounded: a page of
//! miners, never all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::ListError;
use farm::blocks::{BlockRecord, Journaled, NodeRecord, Outcome};
use farm::ledger::{Reason, WorkerTotals};
use farm::messages::{MinerRow, MinerState};
use node::source::{NodeHealth, NodeState};
use serde_json::{Map, Value, json};
use session::Tick;

use crate::nodes::remedy;
use crate::version;
use crate::view::{
    View, coordinator_age_micros, coordinator_hangs, snapshot_age_micros, template_age_micros, work,
};

/// Rows of one page of miners.
const ROWS_MAX: usize = 1_000;
/// The shards answer within milliseconds; this is less than a request's deadline.
const LIST_LIMIT: Duration = Duration::from_secs(3);
/// Rows of a page that does not say how many.
const ROWS_DEFAULT: usize = 100;

/// Which page of miners: `offset` rows are left out, at most `limit` are shown.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Page {
    offset: Option<usize>,
    limit: Option<usize>,
}

/// An error as every page gives it.
pub(super) fn error(code: StatusCode, what: &str) -> Response {
    (code, Json(json!({ "error": what }))).into_response()
}

pub(super) async fn status(State(view): State<Arc<dyn View>>) -> Response {
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
    let job = status.job.as_ref().map(|job| {
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
    });
    let counts = &status.block_counts;
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
        ("job", json!(job)),
        ("jobs_made", json!(status.jobs_made)),
        ("template_age_seconds", json!(template_age_micros(view, status).map(seconds))),
        ("miners", json!(status.connections)),
        ("workers", json!(status.workers)),
        ("hashes_per_second", json!(status.hashes_per_second)),
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
    ];
    body.extend(more.map(|(name, value)| (name.to_owned(), value)));
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

/// The newest blocks, the newest first: what every node said, and how fast each went out.
pub(super) async fn blocks(State(view): State<Arc<dyn View>>) -> Response {
    let (status, now) = (view.status(), view.now());
    let blocks: Vec<Value> =
        status.blocks.iter().rev().map(|block| record(&*view, block, now)).collect();
    Json(json!({ "unsettled": status.blocks_unsettled, "blocks": blocks })).into_response()
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

pub(super) async fn miners(
    State(view): State<Arc<dyn View>>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(page)) = page else {
        return error(StatusCode::BAD_REQUEST, "offset and limit are whole numbers");
    };
    let limit = page.limit.unwrap_or(ROWS_DEFAULT);
    if !(1..=ROWS_MAX).contains(&limit) {
        return error(StatusCode::BAD_REQUEST, &format!("limit is 1 to {ROWS_MAX}"));
    }
    let asked = view.clone();
    let list = tokio::task::spawn_blocking(move || asked.list_miners(LIST_LIMIT));
    let mut rows = match list.await {
        Ok(Ok(rows)) => rows,
        Ok(Err(reason)) => return no_list(reason),
        Err(_) => return error(StatusCode::INTERNAL_SERVER_ERROR, "the list cannot be made"),
    };
    // One order for all pages: otherwise a row could be on two of them or on none.
    rows.sort_by_key(|(shard, row)| (*shard, row.connection));
    let now = view.now();
    let total = rows.len();
    let offset = page.offset.unwrap_or(0);
    let shown = rows.iter().skip(offset).take(limit);
    let shown: Vec<Value> = shown.map(|(shard, row)| miner(shard.0, row, now)).collect();
    Json(json!({ "total": total, "offset": offset, "miners": shown })).into_response()
}

fn no_list(reason: ListError) -> Response {
    let code = match reason {
        ListError::Busy => StatusCode::TOO_MANY_REQUESTS,
        ListError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ListError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(code, &reason.to_string())
}

fn miner(shard: u16, row: &MinerRow, now: Tick) -> Value {
    let state = match row.state {
        MinerState::Connected => "connected",
        MinerState::Subscribed => "subscribed",
        MinerState::Mining => "mining",
    };
    json!({
        "shard": shard,
        "connection": row.connection,
        "address": row.peer.to_string(),
        "state": state,
        "worker": &*row.worker,
        "user_agent": &*row.user_agent,
        "extranonce1": row.extranonce1.map(|prefix| hex(prefix.as_bytes())),
        "difficulty": row.difficulty,
        "accepted": row.accepted,
        "rejected": row.rejected,
        "connected_seconds": seconds(now.since(row.connected)),
        "last_share_age_seconds": row.last_share.map(|tick| seconds(now.since(tick))),
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
