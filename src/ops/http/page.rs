//! `/`: a plain page that says what this is, how it fares, and where to look further.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;

use crate::version;
use crate::view::{View, coordinator_hangs, snapshot_age_micros};

pub(super) async fn page(State(view): State<Arc<dyn View>>) -> Html<String> {
    let addresses: Vec<String> = view.listening().iter().map(ToString::to_string).collect();
    let status = view.status();
    let height = status.job.as_ref().map_or(0, |job| job.height);
    let age = snapshot_age_micros(&*view, &status) as f64 / 1e6;
    let hangs = match coordinator_hangs(&*view) {
        true => "The coordinator hangs: ",
        false => "",
    };
    let state = format!(
        "{hangs}{} miners, {} shares accepted, {} rejected, {} blocks accepted; \
         seeking height {height}. Told {age:.1} s ago.",
        status.connections,
        status.totals.accepted,
        status.totals.rejected_all(),
        status.block_counts.accepted,
    );
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\"><title>headframe</title>\
         <h1>headframe {}</h1><p>Miners connect to {}.</p><p>{state}</p><ul>\
         <li><a href=/api/v1/status>status</a><li><a href=/api/v1/miners>miners</a>\
         <li><a href=/api/v1/workers>workers</a><li><a href=/api/v1/jobs>jobs</a>\
         <li><a href=/api/v1/blocks>blocks</a>\
         <li><a href=/metrics>metrics</a><li><a href=/livez>live?</a>\
         <li><a href=/readyz>ready?</a></ul></html>",
        version::LONG,
        addresses.join(", "),
    ))
}
