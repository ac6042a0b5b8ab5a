//! `/metrics`: the shards' counters and the farm's snapshot as Prometheus text. Nothing is
//! registered or kept between two scrapes; sums are made here, on the ops thread. Nothing that is
//! configured is exported as if it were measured, and no label comes from a miner, unless metrics
//! of so many workers were asked for.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use engine::{BLOCKS_RESERVED, FROM_SHARD_MAX, TO_SHARD_MAX};
use farm::Status;
use farm::blocks::{Declined, SubmitResult};
use farm::ledger::{OTHER, WorkerStatus, WorkerTotals};
use node::source::{NodeHealth, NodeState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, LabelSetEncoder, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use session::{Class, ShareOutcome, Tick};
use shard::counters::{CloseReason, Counters, Histogram, RefusalReason};

use crate::alerts::WayStatus;
use crate::history::HistoryState;
use crate::http::List;
use crate::version;
use crate::view::{
    ShardView, View, Work, coordinator_age_micros, snapshot_age_micros, template_age_micros, work,
};

const PREFIX: &str = "headframe";

/// Everything at this moment, as text for a scraper.
pub fn text(
    view: &Arc<dyn View>,
    workers: Option<List<WorkerStatus>>,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape { view: view.clone(), workers }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Scrape {
    view: Arc<dyn View>,
    /// By name; none where no worker has metrics of its own, or where the list is not to be had.
    workers: Option<List<WorkerStatus>>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut Out { encoder: &mut encoder };
        let shards = self.view.shards();
        let counters: Vec<&Counters> = shards.iter().map(|shard| &*shard.counters).collect();
        process(out, &*self.view)?;
        shares(out, &counters)?;
        miners(out, &counters)?;
        jobs(out, &counters)?;
        ring(out, &counters)?;
        loops(out, &shards, self.view.now())?;
        lanes(out, &*self.view, &counters)?;
        farm(out, &*self.view)?;
        if let Some(list) = &self.workers {
            workers(out, list, self.view.worker_series())?;
        }
        history(out, &*self.view)?;
        alerts(out, &self.view.alerts())?;
        nodes(out, &self.view.nodes())
    }
}

fn process(out: &mut Out<'_, '_>, view: &dyn View) -> fmt::Result {
    let build =
        [("version", version::VERSION), ("commit", version::COMMIT), ("rustc", version::RUSTC)];
    out.gauge("build_info", "Which build this is.", [(&build[..], 1)])?;
    let started = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |now| now.as_secs_f64() - view.now().since(view.started()) as f64 / 1e6);
    out.gauge("start_time_seconds", "When it started, since 1970.", [(&[][..], started)])?;
    let lost = view.log_lost();
    out.counter("log_lost", "Log lines dropped because the writer was behind.", [(&[][..], lost)])?;
    let suppressed = view.log_suppressed();
    let help = "Log lines held back because others had said the same of the same peer.";
    out.counter("log_suppressed", help, [(&[][..], suppressed)])?;
    let gathers = i64::from(view.gathers());
    out.gauge(
        "ring_gathers",
        "Whether the kernel lets requests gather (6.12).",
        [(&[][..], gathers)],
    )
}

fn shares(out: &mut Out<'_, '_>, counters: &[&Counters]) -> fmt::Result {
    let rows: Vec<_> = ShareOutcome::ALL
        .into_iter()
        .enumerate()
        .map(|(index, outcome)| {
            let accepted = outcome == ShareOutcome::Accepted;
            let labels = [
                ("side", "down"),
                ("protocol", "sv1"),
                ("result", if accepted { "accepted" } else { "rejected" }),
                ("reason", if accepted { "none" } else { outcome.name() }),
            ];
            (labels, sum(counters, |shard| shard.shares[index].value()))
        })
        .collect();
    let rows = rows.iter().map(|(labels, value)| (&labels[..], *value));
    out.counter("shares", "Shares by verdict.", rows)?;
    let float = |of: fn(&Counters) -> f64| counters.iter().map(|shard| of(shard)).sum::<f64>();
    let accepted = float(|shard| shard.difficulty_accepted.value());
    let rejected = float(|shard| shard.difficulty_rejected.value());
    out.counter(
        "share_difficulty",
        "Difficulty of shares; the rate times 2^32 is the hash rate.",
        [
            (&[("side", "down"), ("result", "accepted")][..], accepted),
            (&[("side", "down"), ("result", "rejected")][..], rejected),
        ],
    )?;
    let best = counters.iter().map(|shard| shard.best_share_difficulty.value());
    let best = best.fold(0.0, f64::max);
    out.gauge("best_share_difficulty", "The best hash so far.", [(&[][..], best)])?;
    let durations = counters.iter().map(|shard| &shard.share_latency);
    out.histogram(
        "share_duration_seconds",
        "From the arrival of a share to its reply in the socket.",
        [(&[("side", "down")][..], Merged::of(durations))],
    )
}

fn miners(out: &mut Out<'_, '_>, counters: &[&Counters]) -> fmt::Result {
    let state = |of: fn(&Counters) -> u64| sum(counters, of) as i64;
    out.gauge(
        "miners",
        "Connections by state.",
        [
            (&[("protocol", "sv1"), ("state", "setup")][..], state(|s| s.miners_setup.value())),
            (&[("protocol", "sv1"), ("state", "mining")][..], state(|s| s.miners_mining.value())),
            (&[("protocol", "sv1"), ("state", "parked")][..], state(|s| s.miners_parked.value())),
        ],
    )?;
    let accepted = sum(counters, |shard| shard.connections_accepted.value());
    out.counter("connections_accepted", "Connections that were served.", [(&[][..], accepted)])?;
    let closed = CloseReason::ALL.map(|reason| {
        let labels = [("fault", reason.fault()), ("reason", reason.label())];
        (labels, sum(counters, |shard| shard.closed[reason as usize].value()))
    });
    let rows = closed.iter().map(|(labels, value)| (&labels[..], *value));
    out.counter("connections_closed", "Connections that ended.", rows)?;
    sessions(out, counters)?;
    let refused = RefusalReason::ALL.map(|reason| {
        let count = sum(counters, |shard| shard.refused[reason as usize].value());
        ([("reason", reason.label())], count)
    });
    let rows = refused.iter().map(|(labels, value)| (&labels[..], *value));
    out.counter("connections_refused", "Connections that were not served.", rows)?;
    firmware(out, counters)
}

fn firmware(out: &mut Out<'_, '_>, counters: &[&Counters]) -> fmt::Result {
    let classes = Class::ALL.map(|class| {
        let count = sum(counters, |shard| shard.subscribed[class as usize].value());
        ([("class", class.name())], count)
    });
    let rows = classes.iter().map(|(labels, value)| (&labels[..], *value));
    out.counter("subscribes", "Subscribes by what miners say they are.", rows)?;
    let lost = sum(counters, |shard| shard.rolling_lost.value());
    out.counter("rolling_lost", "Miners that stopped rolling the version.", [(&[][..], lost)])
}

fn sessions(out: &mut Out<'_, '_>, counters: &[&Counters]) -> fmt::Result {
    let parked = sum(counters, |shard| shard.sessions_parked.value()) as i64;
    let help = "Sessions that are kept for their miners to come back.";
    out.gauge("sessions_parked", help, [(&[][..], parked)])?;
    let resumed = sum(counters, |shard| shard.sessions_resumed.value());
    let help = "Sessions that a later connection has taken up.";
    out.counter("sessions_resumed", help, [(&[][..], resumed)])?;
    let moved = sum(counters, |shard| shard.sessions_moved.value());
    let help = "Sessions that went to another shard, where their miner had come back.";
    out.counter("sessions_moved", help, [(&[][..], moved)])?;
    let in_vain = sum(counters, |shard| shard.resumes_in_vain.value());
    let help = "Connections that named a session and got a new one.";
    out.counter("resumes_in_vain", help, [(&[][..], in_vain)])
}

fn jobs(out: &mut Out<'_, '_>, counters: &[&Counters]) -> fmt::Result {
    let coalesced = sum(counters, |shard| shard.jobs_coalesced.value());
    out.counter(
        "jobs_coalesced",
        "Jobs that a newer one replaced before every miner had them.",
        [(&[][..], coalesced)],
    )?;
    let clean = Merged::of(counters.iter().map(|shard| &shard.fan_out_clean));
    let refresh = Merged::of(counters.iter().map(|shard| &shard.fan_out_refresh));
    out.histogram(
        "job_fanout_seconds",
        "From the receipt of a job to the last miner's write.",
        [(&[("kind", "clean")][..], clean), (&[("kind", "refresh")][..], refresh)],
    )
}

fn ring(out: &mut Out<'_, '_>, counters: &[&Counters]) -> fmt::Result {
    type Row = (&'static str, &'static str, fn(&Counters) -> u64);
    let rows: [Row; 10] = [
        ("receives", "Reads that delivered bytes.", |s| s.receives.value()),
        ("received_bytes", "Bytes read from miners.", |s| s.bytes_received.value()),
        ("sends", "Writes to miners.", |s| s.sends.value()),
        ("sent_bytes", "Bytes written to miners.", |s| s.bytes_sent.value()),
        ("short_sends", "Writes that took fewer bytes than asked.", |s| s.short_sends.value()),
        ("receive_buffers_exhausted", "Reads that found no buffer.", |s| s.no_buffers.value()),
        ("accept_errors", "Accepts that failed.", |s| s.accept_errors.value()),
        ("completions_stale", "Completions of closed connections.", |s| {
            s.completions_stale.value()
        }),
        ("share_batches", "Batches of shares hashed together.", |s| s.batches.value()),
        ("turns", "Turns of the shards.", |s| s.turns.value()),
    ];
    for (name, help, of) in rows {
        out.counter(name, help, [(&[][..], sum(counters, of))])?;
    }
    let panics = sum(counters, |shard| shard.panics.value());
    out.counter(
        "panics",
        "Panics that closed one connection.",
        [(&[("where", "session")][..], panics)],
    )
}

fn loops(out: &mut Out<'_, '_>, shards: &[ShardView], now: Tick) -> fmt::Result {
    let now = now.as_micros();
    let names: Vec<(String, String)> = shards
        .iter()
        .enumerate()
        .map(|(index, shard)| (index.to_string(), shard.core.to_string()))
        .collect();
    let labels: Vec<_> = names.iter().map(|(shard, _)| [("shard", shard.as_str())]).collect();
    let of = |value: fn(&Counters, u64) -> f64| {
        let rows = labels.iter().zip(shards);
        rows.map(move |(labels, shard)| (&labels[..], value(&shard.counters, now)))
            .collect::<Vec<_>>()
    };
    let busy = of(|shard, _| shard.busy_us.value() as f64 / 1e6);
    out.counter("shard_busy_seconds", "Time inside turns; its rate is the busy ratio.", busy)?;
    let ages = of(|shard, now| now.saturating_sub(shard.heartbeat_us.value()) as f64 / 1e6);
    out.gauge("shard_heartbeat_age_seconds", "Since the newest turn.", ages)?;
    let cores: Vec<_> = names
        .iter()
        .map(|(shard, core)| [("shard", shard.as_str()), ("core", core.as_str())])
        .collect();
    let rows = cores.iter().map(|labels| (&labels[..], 1));
    out.gauge("shard_info", "Where each shard runs.", rows)?;
    let durations = labels.iter().zip(shards).map(|(labels, shard)| {
        (&labels[..], Merged::of([&shard.counters.turn_duration].into_iter()))
    });
    out.histogram("shard_loop_seconds", "Duration of turns.", durations)?;
    let levels = shards.iter().map(|shard| shard.counters.overload_level.value() as i64);
    let level = levels.max().unwrap_or(0);
    out.gauge(
        "overload_level",
        "Of the most overloaded shard, 0 to 3; from 1 on it takes no new connections.",
        [(&[][..], level)],
    )
}

fn lanes(out: &mut Out<'_, '_>, view: &dyn View, counters: &[&Counters]) -> fmt::Result {
    // Name, depth, limit, how often full, what happens then.
    let mut lanes: Vec<(String, i64, i64, u64, &str)> = Vec::new();
    for (shard, lane) in view.lanes().into_iter().enumerate() {
        let (depth, limit) = (lane.to_shard as i64, TO_SHARD_MAX as i64);
        let name = format!("to_shard_{shard}");
        lanes.push((name, depth, limit, lane.to_shard_full, "newest_job_replaces"));
        let (depth, limit) = (lane.from_shard as i64, (FROM_SHARD_MAX + BLOCKS_RESERVED) as i64);
        let name = format!("from_shard_{shard}");
        lanes.push((name, depth, limit, lane.from_shard_full, "kept_by_shard"));
    }
    let labels: Vec<_> = lanes.iter().map(|(name, ..)| [("lane", name.as_str())]).collect();
    let rows = labels.iter().zip(&lanes).map(|(labels, lane)| (&labels[..], lane.1));
    out.gauge("queue_depth", "Messages that wait in a lane.", rows)?;
    let rows = labels.iter().zip(&lanes).map(|(labels, lane)| (&labels[..], lane.2));
    out.gauge("queue_limit", "Messages that fit into a lane.", rows)?;
    let full: Vec<_> = lanes
        .iter()
        .map(|(name, _, _, full, policy)| ([("lane", name.as_str()), ("policy", *policy)], *full))
        .collect();
    let rows = full.iter().map(|(labels, value)| (&labels[..], *value));
    out.counter("queue_full", "How often a lane was full, and what happens then.", rows)?;
    let held = sum(counters, |shard| shard.blocks_held.value()) as i64;
    out.gauge("blocks_held", "Blocks that wait for room in a lane.", [(&[][..], held)])
}

/// Whether the coordinator takes turns, and what it heard of the node. Ages are of now: the
/// snapshot stands still when the coordinator does.
fn coordinator(out: &mut Out<'_, '_>, view: &dyn View, status: &Status) -> fmt::Result {
    let age = coordinator_age_micros(view) as f64 / 1e6;
    out.gauge(
        "coordinator_heartbeat_age_seconds",
        "Since the coordinator took its newest turn; above 2 it hangs.",
        [(&[][..], age)],
    )?;
    let up = i64::from(work(view, status) == Work::Current);
    out.gauge(
        "upstream_up",
        "Whether the source gives work; 0 while the coordinator hangs, which hands none on.",
        [(&[("upstream", "node")][..], up)],
    )?;
    let age = snapshot_age_micros(view, status) as f64 / 1e6;
    out.gauge(
        "snapshot_age_seconds",
        "Since the coordinator told what the farm's metrics say; about a second at most.",
        [(&[][..], age)],
    )?;
    let age = template_age_micros(view, status).map(|micros| (&[][..], micros as f64 / 1e6));
    out.gauge("template_age_seconds", "Since the newest template came in.", age)
}

fn farm(out: &mut Out<'_, '_>, view: &dyn View) -> fmt::Result {
    let status = &*view.status();
    coordinator(out, view, status)?;
    let clean = status.job.as_ref().map_or(0, |job| u64::from(job.tip));
    let refresh = status.jobs_made.saturating_sub(clean);
    out.counter(
        "jobs",
        "Jobs made, on a new tip or refreshing the same one.",
        [
            (&[("upstream", "node"), ("kind", "clean")][..], clean),
            (&[("upstream", "node"), ("kind", "refresh")][..], refresh),
        ],
    )?;
    let counts = &status.block_counts;
    out.counter(
        "blocks_found",
        "Blocks by the best last word of all nodes.",
        [
            (&[("outcome", "accepted")][..], counts.accepted),
            (&[("outcome", "duplicate")][..], counts.duplicate),
            (&[("outcome", "stale")][..], counts.stale),
            (&[("outcome", "refused")][..], counts.refused),
        ],
    )?;
    blocks(out, status)?;
    let workers = status.workers as i64;
    out.gauge("workers", "Worker names with an account of their own.", [(&[][..], workers)])?;
    let space = &status.space;
    out.gauge(
        "extranonce_prefixes",
        "The extranonce space, in miners.",
        [
            (&[("state", "free")][..], space.free as i64),
            (&[("state", "leased")][..], space.leased as i64),
            (&[("state", "resting")][..], space.resting as i64),
        ],
    )
}

/// The way of blocks: what was declined, what nodes said, what the journal did.
fn blocks(out: &mut Out<'_, '_>, status: &Status) -> fmt::Result {
    let counts = &status.block_counts;
    let unsettled = status.blocks_unsettled as i64;
    out.gauge("blocks_unsettled", "Blocks without any last word.", [(&[][..], unsettled)])?;
    let restored = counts.restored;
    out.counter("blocks_restored", "Blocks of an earlier process.", [(&[][..], restored)])?;
    let declined = Declined::ALL.map(|reason| [("reason", reason.name())]);
    let rows = declined.iter().zip(counts.declined).map(|(labels, count)| (&labels[..], count));
    out.counter("blocks_declined", "Found blocks that were not submitted.", rows)?;
    let numbers: Vec<String> =
        (0..status.block_answers.len()).map(|node| node.to_string()).collect();
    let labels = |node: usize, kind: usize| {
        [("node", numbers[node].as_str()), ("answer", SubmitResult::NAMES[kind])]
    };
    let answers = status.block_answers.iter().enumerate();
    let answers: Vec<_> = answers
        .flat_map(|(node, kinds)| {
            kinds.iter().enumerate().map(move |(kind, count)| (node, kind, *count))
        })
        .map(|(node, kind, count)| (labels(node, kind), count))
        .collect();
    let rows = answers.iter().map(|(labels, count)| (&labels[..], *count));
    out.counter("block_answers", "Answers of nodes to submitted blocks.", rows)?;
    out.counter(
        "block_journal",
        "Blocks by what the journal did.",
        [
            (&[("result", "durable")][..], counts.journal_durable),
            (&[("result", "late")][..], counts.journal_late),
            (&[("result", "failed")][..], counts.journal_failed),
        ],
    )?;
    let newest = status.block_first_byte_micros;
    let newest = newest.map(|micros| (&[][..], micros as f64 / 1e6));
    out.gauge("block_first_byte_seconds", "From the newest block's share to its way out.", newest)
}

/// The workers that had a share first, and all others as one. A place is for life, so whoever has
/// series of its own keeps them, and what is counted among the others stays there.
fn workers(out: &mut Out<'_, '_>, workers: &[WorkerStatus], series: usize) -> fmt::Result {
    let mut places: Vec<u64> = workers.iter().map(|row| row.place).filter(|at| *at > 0).collect();
    let last = match series.checked_sub(1) {
        Some(last) if last < places.len() => *places.select_nth_unstable(last).1,
        Some(_) => u64::MAX,
        None => 0,
    };
    let mut rows: Vec<(&str, WorkerTotals, u32)> = Vec::new();
    let mut rest = (OTHER, WorkerTotals::default(), 0);
    for worker in workers {
        if (1..=last).contains(&worker.place) {
            rows.push((&worker.name, worker.totals, worker.connections));
        } else {
            rest.1.add(&worker.totals);
            rest.2 += worker.connections;
        }
    }
    rows.push(rest);
    let of = |name, result: &'static str| [("worker", name), ("result", result)];
    let shares: Vec<_> = rows
        .iter()
        .flat_map(|(name, totals, _)| {
            let accepted = (of(*name, "accepted"), totals.accepted);
            [accepted, (of(*name, "rejected"), totals.rejected_all())]
        })
        .collect();
    let shares = shares.iter().map(|(labels, value)| (&labels[..], *value));
    out.counter("worker_shares", "Shares of a worker, also of earlier processes.", shares)?;
    let labels: Vec<_> = rows.iter().map(|(name, ..)| [("worker", *name)]).collect();
    let work = labels.iter().zip(&rows);
    let work = work.map(|(labels, (_, totals, _))| (&labels[..], totals.difficulty_accepted));
    let help = "Credited difficulty of a worker, also of earlier processes.";
    out.counter("worker_share_difficulty", help, work)?;
    let here = labels.iter().zip(&rows).map(|(labels, row)| (&labels[..], i64::from(row.2)));
    out.gauge("worker_connections", "Connections that are authorized under a name.", here)
}

/// How the file of the history is.
fn history(out: &mut Out<'_, '_>, view: &dyn View) -> fmt::Result {
    let history = view.history();
    let up = i64::from(history.state == HistoryState::Writing);
    out.gauge("history_up", "Whether the history is written.", [(&[][..], up)])?;
    let bytes = i64::try_from(history.bytes).unwrap_or(i64::MAX);
    out.gauge("history_size_bytes", "The history on disk, its log with it.", [(&[][..], bytes)])?;
    let age = history.written.map(|at| (&[][..], view.now().since(at) as f64 / 1e6));
    out.gauge("history_age_seconds", "Since the history was written.", age)?;
    let failures = history.failures;
    out.counter("history_failures", "Writes of the history that failed.", [(&[][..], failures)])
}

/// How alerts are delivered, way by way.
fn alerts(out: &mut Out<'_, '_>, ways: &[WayStatus]) -> fmt::Result {
    let rows: Vec<_> = ways
        .iter()
        .flat_map(|way| {
            let results =
                [("delivered", way.delivered), ("failed", way.failed), ("dropped", way.dropped)];
            results.map(|(result, count)| ([("way", way.way), ("result", result)], count))
        })
        .collect();
    let rows = rows.iter().map(|(labels, count)| (&labels[..], *count));
    out.counter("alerts", "Alerts by what became of them.", rows)?;
    let labels: Vec<_> = ways.iter().map(|way| [("way", way.way)]).collect();
    let waiting = labels.iter().zip(ways).map(|(labels, way)| (&labels[..], way.waiting as i64));
    out.gauge("alerts_waiting", "Alerts that wait to be delivered.", waiting)
}

/// The bitcoinds, each by its name in the configuration.
fn nodes(out: &mut Out<'_, '_>, nodes: &[NodeState]) -> fmt::Result {
    let labels: Vec<_> = nodes.iter().map(|node| [("node", &*node.name)]).collect();
    let rows = |value: fn(&NodeState) -> Option<f64>| {
        let rows = labels.iter().zip(nodes);
        let rows = rows.filter_map(move |(labels, node)| Some((&labels[..], value(node)?)));
        rows.collect::<Vec<_>>()
    };
    type Row = (&'static str, &'static str, fn(&NodeState) -> Option<f64>);
    let gauges: [Row; 6] = [
        ("up", "Whether its templates can be mined.", |node| {
            Some(f64::from(u8::from(node.health == NodeHealth::Ready)))
        }),
        ("active", "Whether miners work on its templates.", |node| {
            Some(f64::from(u8::from(node.is_source)))
        }),
        ("height", "Height of its best block.", |node| node.height.map(f64::from)),
        ("template_age_seconds", "Since its newest template came in.", |node| {
            node.template_age.map(|age| age.as_secs_f64())
        }),
        ("round_trip_seconds", "How long it took to give its newest template.", |node| {
            node.latency.map(|latency| latency.as_secs_f64())
        }),
        ("warnings", "Settings of it that its operator should look at.", |node| {
            Some(node.warnings.len() as f64)
        }),
    ];
    for (name, help, value) in gauges {
        out.gauge(&format!("template_provider_{name}"), help, rows(value))?;
    }
    let failures = labels.iter().zip(nodes).map(|(labels, node)| (&labels[..], node.failures));
    out.counter("template_provider_failures", "How often it became unusable.", failures)
}

fn sum(counters: &[&Counters], of: impl Fn(&Counters) -> u64) -> u64 {
    counters.iter().map(|shard| of(shard)).fold(0, u64::wrapping_add)
}

/// Histograms of several shards as one, in seconds and cumulative, as Prometheus wants them.
struct Merged {
    sum_seconds: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl Merged {
    fn of<'h>(histograms: impl Iterator<Item = &'h Histogram>) -> Merged {
        let mut counts = [0; shard::counters::HISTOGRAM_BUCKETS];
        let mut sum_us = 0;
        for histogram in histograms {
            for (total, count) in counts.iter_mut().zip(histogram.counts()) {
                *total += count;
            }
            sum_us += histogram.sum_us();
        }
        let mut buckets = Vec::with_capacity(counts.len());
        for (index, count) in counts.into_iter().enumerate() {
            let bound =
                Histogram::bound_us(index).map_or(f64::INFINITY, |bound| bound as f64 / 1e6);
            // The encoder adds up; it wants the count of each bucket alone.
            buckets.push((bound, count));
        }
        Merged { sum_seconds: sum_us as f64 / 1e6, count: counts.iter().sum(), buckets }
    }
}

type Labels<'l> = &'l [(&'l str, &'l str)];

/// Writes whole families: a name, a help, and a value per set of labels.
struct Out<'o, 'e> {
    encoder: &'o mut DescriptorEncoder<'e>,
}

impl Out<'_, '_> {
    fn counter<'l, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, rows, |mut encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn gauge<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, rows, |mut encoder, value| {
            encoder.encode_gauge(&value)
        })
    }

    fn histogram<'l>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l>, Merged)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, rows, |mut encoder, merged| {
            let Merged { sum_seconds, count, buckets } = merged;
            encoder.encode_histogram::<NoLabelSet>(sum_seconds, count, &buckets, None)
        })
    }

    fn family<'l, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels<'l>, V)>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let help = help.trim_end_matches('.');
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            match labels {
                [] => return write(family, value),
                labels => write(family.encode_family(&LabelSet(labels))?, value)?,
            }
        }
        Ok(())
    }
}

struct LabelSet<'l>(Labels<'l>);

impl prometheus_client::encoding::EncodeLabelSet for LabelSet<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.0 {
            let mut label = encoder.encode_label();
            let mut key = label.encode_label_key()?;
            key.write_str(name)?;
            let mut text = key.encode_label_value()?;
            text.write_str(value)?;
            text.finish()?;
        }
        Ok(())
    }
}
