//! `/livez` and `/readyz`: 200 or 503, always with the reasons in JSON. Live means that every
//! shard and the coordinator take turns; ready, that miners can connect and get current work.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::view::{View, Work, hanging, template_age_micros, work};

pub(super) async fn livez(State(view): State<Arc<dyn View>>) -> Response {
    answer("live", &not_live(&*view))
}

pub(super) async fn readyz(State(view): State<Arc<dyn View>>) -> Response {
    let mut reasons = not_live(&*view);
    reasons.extend(not_ready(&*view));
    answer("ready", &reasons)
}

/// What keeps the process from being alive.
fn not_live(view: &dyn View) -> Vec<String> {
    hanging(view).iter().map(ToString::to_string).collect()
}

/// What keeps miners from having work.
fn not_ready(view: &dyn View) -> Vec<String> {
    let mut reasons = Vec::new();
    if view.listening().is_empty() {
        reasons.push("no listener is open".to_owned());
    }
    let status = view.status();
    match work(view, &status) {
        // A coordinator that hangs is a reason of its own.
        Work::Current | Work::Unknown => {}
        Work::None => reasons.push("no work has come from the node yet".to_owned()),
        Work::Silent => {
            let seconds = template_age_micros(view, &status).unwrap_or_default() / 1_000_000;
            reasons.push(format!("no work has come from the node for {seconds} s"));
        }
    }
    if status.draining {
        reasons.push("draining".to_owned());
    }
    reasons
}

fn answer(word: &str, reasons: &[String]) -> Response {
    let good = reasons.is_empty();
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ word: good, "reasons": reasons }))).into_response()
}
