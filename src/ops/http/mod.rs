//! The HTTP side: health, metrics, the API and a small page, on the ops thread's own runtime.
//! Everything comes from a `View`; nothing here can make a shard wait. Each request has a
//! deadline, and connections are limited, because a port is a port even on loopback.

mod api;
mod health;
mod lists;
mod page;
mod query;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

pub(crate) use lists::List;
use lists::{FRESH_MICROS, Pages};
pub use serve::serve;

use crate::history::HistoryState;
use crate::view::View;

/// No page takes longer; the list of miners asks every shard and has the same.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// The pages of the API; `docs/openapi.json` describes each.
fn api_routes() -> [(&'static str, MethodRouter<Pages>); 5] {
    [
        ("/api/v1/status", get(api::status)),
        ("/api/v1/miners", get(api::miners)),
        ("/api/v1/workers", get(api::workers)),
        ("/api/v1/jobs", get(api::jobs)),
        ("/api/v1/blocks", get(api::blocks)),
    ]
}

/// The routes over one view.
pub fn router(view: Arc<dyn View>) -> Router {
    let beside = Router::new()
        .route("/", get(page::page))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics));
    let all = api_routes().into_iter().fold(beside, |all, (path, page)| all.route(path, page));
    all.fallback(|| async { api::error(StatusCode::NOT_FOUND, "there is no such page") })
        .layer(axum::middleware::from_fn(deadline))
        .with_state(Pages::new(view))
}

async fn metrics(State(pages): State<Pages>, State(view): State<Arc<dyn View>>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    // Without the accounts the page still says why they are not to be had.
    let workers = match view.worker_series() > 0 && totals_are_known(&*view) {
        true => pages.workers().await.ok(),
        false => None,
    };
    match crate::metrics::text(&view, workers) {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(_) => api::error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"),
    }
}

/// Whether lists of workers hold what earlier processes counted: a counter that got it later would
/// jump. Until then no list that was made before is shown any more.
fn totals_are_known(view: &dyn View) -> bool {
    let history = view.history();
    let known = history.learned.is_some_and(|at| view.now().since(at) > FRESH_MICROS);
    known || history.state == HistoryState::Off
}

async fn deadline(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let late = || api::error(StatusCode::GATEWAY_TIMEOUT, "this took too long");
    tokio::time::timeout(REQUEST_DEADLINE, next.run(request)).await.unwrap_or_else(|_| late())
}

#[cfg(test)]
mod tests;
