//! `/livez` and `/readyz`: 200 or 503, always with the reasons in JSON. Live means that every
//! shard and the coordinator take turns; ready, that miners can connect and get current work.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use farm::OutageStatus;
use node::source::{NodeHealth, NodeState};
use serde_json::{Value, json};

use super::api::node;
use crate::nodes::sentence;
use crate::view::{View, Work, hanging, template_age_micros, work};

/// For so long a source's templates may fail before miners count as without proper work: what
/// passes by itself, as a restart of its threads or a full queue, is over by then.
const TEMPLATES_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn livez(State(view): State<Arc<dyn View>>) -> Response {
    let reasons = not_live(&*view);
    answer(&reasons, json!({ "live": reasons.is_empty(), "reasons": reasons }))
}

pub(super) async fn readyz(State(view): State<Arc<dyn View>>) -> Response {
    let mut reasons = not_live(&*view);
    let states = view.nodes();
    reasons.extend(not_ready(&*view, &states));
    let nodes: Vec<Value> = states.iter().map(node).collect();
    let ready = reasons.is_empty();
    answer(&reasons, json!({ "ready": ready, "reasons": reasons, "nodes": nodes }))
}

/// What keeps the process from being alive.
fn not_live(view: &dyn View) -> Vec<String> {
    hanging(view).iter().map(ToString::to_string).collect()
}

/// What keeps miners from having work.
fn not_ready(view: &dyn View, nodes: &[NodeState]) -> Vec<String> {
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
    reasons.extend(status.outage.and_then(|outage| without_work(outage, reasons.is_empty())));
    if reasons.is_empty() {
        reasons.extend(nodes.iter().find_map(without_templates));
    }
    if !reasons.is_empty() {
        reasons.extend(nodes.iter().filter_map(missing));
    }
    if status.draining {
        reasons.push("draining".to_owned());
    }
    reasons
}

/// What an outage means for the miners; `first` if nothing else tells of it yet.
fn without_work(outage: OutageStatus, first: bool) -> Option<String> {
    let seconds = outage.micros / 1_000_000;
    match (outage.is_released, first) {
        (true, true) => Some(format!(
            "no node gives work for {seconds} s: miners are released to their other pools"
        )),
        (true, false) => Some("miners are released to their other pools".to_owned()),
        (false, true) => {
            Some(format!("no node gives work for {seconds} s: miners keep their last job"))
        }
        (false, false) => None,
    }
}

/// Says that the source tells of tips, at most, and gives no templates: what miners have pays no
/// fees from the next tip on. They are kept all the same, for it is work.
fn without_templates(node: &NodeState) -> Option<String> {
    let failing = node.failing_for.filter(|time| node.is_source && *time > TEMPLATES_PATIENCE)?;
    let (name, seconds) = (&node.name, failing.as_secs());
    Some(format!("the templates of {name} fail for {seconds} s: miners have what was there before"))
}

/// Why a node gives no work, with the remedy.
fn missing(node: &NodeState) -> Option<String> {
    let name = &node.name;
    match &node.health {
        NodeHealth::Ready => None,
        NodeHealth::Connecting => Some(format!("{name}: the node was not heard yet")),
        NodeHealth::Fault(fault) => Some(format!("{name}: {}", sentence(fault))),
    }
}

fn answer(reasons: &[String], body: Value) -> Response {
    let good = reasons.is_empty();
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(body)).into_response()
}
