//! The lists of `/api/v1`: miners, workers, jobs, blocks. Each takes `offset`, `limit` and filters
//! of its own, and says how many rows the filters leave in all.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use farm::ledger::WorkerStatus;
use farm::messages::{MinerRow, MinerState};
use serde_json::{Value, json};
use session::Tick;

use super::super::lists::Pages;
use super::super::query::{Asked, NameFilter, Nonsense, Rows};
use super::{hex, job, record, seconds, totals};
use crate::view::View;

/// The states of a connection, by the API's words.
const STATES: [(&str, MinerState); 3] = [
    ("connected", MinerState::Connected),
    ("subscribed", MinerState::Subscribed),
    ("mining", MinerState::Mining),
];
/// The last words on a block.
const OUTCOMES: [(&str, &str); 5] = [
    ("submitted", "submitted"),
    ("accepted", "accepted"),
    ("duplicate", "duplicate"),
    ("stale", "stale"),
    ("refused", "refused"),
];

/// A page of a list: what it is called, and its rows.
fn page(name: &str, rows: Rows, (total, shown): (usize, Vec<Value>)) -> Response {
    Json(json!({ "total": total, "offset": rows.offset, name: shown })).into_response()
}

/// Connections, by shard and number.
pub(crate) async fn miners(State(pages): State<Pages>, asked: Asked) -> Response {
    let filter = match MinerFilter::of(asked) {
        Ok(filter) => filter,
        Err(nonsense) => return nonsense.into(),
    };
    let list = match pages.miners().await {
        Ok(list) => list,
        Err(answer) => return answer,
    };
    let now = pages.view().now();
    let found = list.iter().filter(|(shard, row)| filter.takes(shard.0, row));
    page("miners", filter.rows, filter.rows.of(found, |(shard, row)| miner(shard.0, row, now)))
}

struct MinerFilter {
    worker: NameFilter,
    address: Option<IpAddr>,
    state: Option<MinerState>,
    shard: Option<u16>,
    rows: Rows,
}

impl MinerFilter {
    fn of(mut asked: Asked) -> Result<MinerFilter, Nonsense> {
        Ok(MinerFilter {
            worker: NameFilter::of(&mut asked, "worker")?,
            address: asked.value("address", "an IP address")?,
            state: asked.word("state", &STATES)?,
            shard: asked.value("shard", "the number of a shard")?,
            rows: asked.rows()?,
        })
    }

    fn takes(&self, shard: u16, row: &MinerRow) -> bool {
        self.worker.takes(&row.worker)
            && self.address.is_none_or(|address| address == row.peer)
            && self.state.is_none_or(|state| state == row.state)
            && self.shard.is_none_or(|wanted| wanted == shard)
    }
}

fn miner(shard: u16, row: &MinerRow, now: Tick) -> Value {
    let state = STATES.iter().find(|(_, state)| *state == row.state);
    json!({
        "shard": shard,
        "connection": row.connection,
        "address": row.peer.to_string(),
        "state": state.map(|(name, _)| name),
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

/// Workers, by name.
pub(crate) async fn workers(State(pages): State<Pages>, mut asked: Asked) -> Response {
    let read = || {
        let worker = NameFilter::of(&mut asked, "worker")?;
        let connected: Option<bool> = asked.value("connected", "true or false")?;
        Ok::<_, Nonsense>((worker, connected, asked.rows()?))
    };
    let (worker, connected, rows) = match read() {
        Ok(read) => read,
        Err(nonsense) => return nonsense.into(),
    };
    let list = match pages.workers().await {
        Ok(list) => list,
        Err(answer) => return answer,
    };
    let now = pages.view().now();
    let found = list.iter().filter(|row| {
        worker.takes(&row.name) && connected.is_none_or(|wanted| wanted == (row.connections > 0))
    });
    page("workers", rows, rows.of(found, |row| account(row, now)))
}

fn account(row: &WorkerStatus, now: Tick) -> Value {
    json!({
        "worker": &*row.name,
        "connections": row.connections,
        "hashes_per_second": row.hashes_per_second,
        "hashes_per_second_1h": row.long_rates.hour,
        "hashes_per_second_24h": row.long_rates.day,
        "shares": totals(&row.totals),
        "blocks": row.totals.blocks,
        "best_difficulty": row.best_difficulty,
        "last_share_age_seconds": row.last_share.map(|tick| seconds(now.since(tick))),
    })
}

/// The newest jobs, the newest first.
pub(crate) async fn jobs(State(view): State<Arc<dyn View>>, mut asked: Asked) -> Response {
    let read = || Ok::<_, Nonsense>((asked.value::<u32>("height", "a height")?, asked.rows()?));
    let (height, rows) = match read() {
        Ok(read) => read,
        Err(nonsense) => return nonsense.into(),
    };
    let (status, now) = (view.status(), view.now());
    let newest = status.jobs.iter().rev();
    let found = newest.filter(|job| height.is_none_or(|height| height == job.height));
    page("jobs", rows, rows.of(found, |made| job(made, now)))
}

/// The newest blocks, the newest first: what every node said, and how fast each went out.
pub(crate) async fn blocks(State(view): State<Arc<dyn View>>, mut asked: Asked) -> Response {
    let read = || {
        let worker = NameFilter::of(&mut asked, "worker")?;
        let outcome = asked.word("outcome", &OUTCOMES)?;
        Ok::<_, Nonsense>((worker, outcome, asked.rows()?))
    };
    let (worker, outcome, rows) = match read() {
        Ok(read) => read,
        Err(nonsense) => return nonsense.into(),
    };
    let (status, now) = (view.status(), view.now());
    let found = status.blocks.iter().rev().filter(|block| {
        worker.takes(&block.facts.worker)
            && outcome.is_none_or(|outcome| outcome == block.outcome.name())
    });
    let (total, shown) = rows.of(found, |block| record(&*view, block, now));
    let unsettled = status.blocks_unsettled;
    Json(json!({ "total": total, "offset": rows.offset, "unsettled": unsettled, "blocks": shown }))
        .into_response()
}
