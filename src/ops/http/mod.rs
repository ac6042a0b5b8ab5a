//! The HTTP side: health, metrics, the API and a small page, on the ops thread's own runtime.
//! Everything comes from a `View`; nothing here can make a shard wait. Each request has a
//! deadline, and connections are limited, because a port is a port even on loopback.

mod api;
mod health;
mod page;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

pub use serve::serve;

use crate::view::View;

/// No page takes longer; the list of miners asks every shard and has the same.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// The routes over one view.
pub fn router(view: Arc<dyn View>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/miners", get(api::miners))
        .route("/api/v1/blocks", get(api::blocks))
        .fallback(|| async { api::error(StatusCode::NOT_FOUND, "there is no such page") })
        .layer(axum::middleware::from_fn(deadline))
        .with_state(view)
}

async fn metrics(State(view): State<Arc<dyn View>>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match crate::metrics::text(&view) {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(_) => api::error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"),
    }
}

async fn deadline(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let late = || api::error(StatusCode::GATEWAY_TIMEOUT, "this took too long");
    tokio::time::timeout(REQUEST_DEADLINE, next.run(request)).await.unwrap_or_else(|_| late())
}

#[cfg(test)]
mod tests;
