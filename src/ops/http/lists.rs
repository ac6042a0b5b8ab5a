//! The two long lists, of miners and of workers. They are asked of the farm at most once a second,
//! whatever is asked of us: whoever comes meanwhile gets the list that there is, and whoever comes
//! while one is made waits for that one. So a page costs the shards the same for one reader as for
//! sixty-four, and at most two lists of a kind are in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use axum::http::StatusCode;
use axum::response::Response;
use engine::ListError;
use farm::extranonce::ShardIndex;
use farm::ledger::WorkerStatus;
use farm::messages::MinerRow;
use session::Tick;
use tokio::sync::Mutex;

use super::api::error;
use crate::view::View;

/// The shards answer within milliseconds; this is less than a request's deadline.
const LIST_LIMIT: Duration = Duration::from_secs(3);
/// A list is shown again for so long, in µs: the accounts behind it move once a second.
pub(super) const FRESH_MICROS: u64 = 1_000_000;

/// A connection and its shard.
pub(super) type Miner = (ShardIndex, MinerRow);

/// What the pages are made of.
#[derive(Clone)]
pub(super) struct Pages {
    view: Arc<dyn View>,
    miners: Arc<Kept<Miner>>,
    workers: Arc<Kept<WorkerStatus>>,
}

impl FromRef<Pages> for Arc<dyn View> {
    fn from_ref(pages: &Pages) -> Arc<dyn View> {
        pages.view.clone()
    }
}

/// The newest list of a kind, and when it was made.
type Kept<T> = Mutex<Option<(Tick, List<T>)>>;

/// A list that several pages may be cut from.
pub(crate) type List<T> = Arc<Vec<T>>;

impl Pages {
    pub(super) fn new(view: Arc<dyn View>) -> Pages {
        Pages { view, miners: Arc::default(), workers: Arc::default() }
    }

    pub(super) fn view(&self) -> &dyn View {
        &*self.view
    }

    /// All connections, in one order for all pages: otherwise a row could be on two or on none.
    pub(super) async fn miners(&self) -> Result<List<Miner>, Response> {
        self.list(&self.miners, |view| {
            let mut rows = view.list_miners(LIST_LIMIT)?;
            rows.sort_by_key(|(shard, row)| (*shard, row.connection));
            Ok(rows)
        })
        .await
    }

    /// All workers, by name.
    pub(super) async fn workers(&self) -> Result<List<WorkerStatus>, Response> {
        self.list(&self.workers, |view| {
            let mut rows = view.list_workers(LIST_LIMIT)?;
            rows.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(rows)
        })
        .await
    }

    async fn list<T: Send + Sync + 'static>(
        &self,
        kept: &Kept<T>,
        make: fn(&dyn View) -> Result<Vec<T>, ListError>,
    ) -> Result<List<T>, Response> {
        let mut kept = kept.lock().await;
        if let Some((made, list)) = &*kept
            && self.view.now().since(*made) < FRESH_MICROS
        {
            return Ok(list.clone());
        }
        let view = self.view.clone();
        let made = tokio::task::spawn_blocking(move || (view.now(), make(&*view))).await;
        match made {
            Ok((now, Ok(rows))) => Ok(kept.insert((now, Arc::new(rows))).1.clone()),
            Ok((_, Err(reason))) => Err(no_list(reason)),
            Err(_) => Err(error(StatusCode::INTERNAL_SERVER_ERROR, "the list cannot be made")),
        }
    }
}

fn no_list(reason: ListError) -> Response {
    let code = match reason {
        ListError::Busy => StatusCode::TOO_MANY_REQUESTS,
        ListError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ListError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(code, &reason.to_string())
}
