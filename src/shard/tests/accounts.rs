//! Who gets an account of the ledger: names that somebody hashes under, and no others.

use std::collections::BTreeMap;

use farm::ledger::{OTHER, WorkerRow};
use farm::messages::{FromShard, MinerRow, ToShard};
use shard::ConnId;

use crate::world::{HANDSHAKE, SECOND, World, job_id, submit};

/// Names that one connection may have.
const NAMES: u32 = 8;

/// What the shard's reports say of each worker by now.
fn reported(world: &mut World) -> BTreeMap<String, WorkerRow> {
    world.pass(3 * SECOND);
    let reports = world.lane.take(|message| match message {
        FromShard::Report(report) => Some(report),
        _ => None,
    });
    let rows = reports.into_iter().flat_map(|report| report.rows);
    rows.map(|row| (row.name.to_string(), row)).collect()
}

/// What the shard says of each connection.
fn listed(world: &mut World) -> Vec<MinerRow> {
    world.lane.to_shard.push_back(ToShard::ListMiners { query: 1 });
    world.settle();
    let slices = world.lane.take(|message| match message {
        FromShard::Miners { rows, .. } => Some(rows),
        _ => None,
    });
    slices.into_iter().flatten().collect()
}

/// A connection that authorizes under a first name and as many others as it may.
fn connect_as(world: &mut World, number: u32, name: &str) -> ConnId {
    let conn = world.connect(number);
    let handshake = String::from_utf8_lossy(HANDSHAKE).replace("farm.1", name);
    world.ring.deliver(conn, handshake.as_bytes());
    for other in 1..NAMES {
        let authorize = "{\"id\":9,\"method\":\"mining.authorize\",\"params\":[\"";
        let line = format!("{authorize}{name}.{other}\",\"x\"]}}\n");
        world.ring.deliver(conn, line.as_bytes());
        world.settle();
    }
    conn
}

/// The same share so many times.
fn share(world: &mut World, conn: ConnId, name: &str, times: usize) {
    let text = world.ring.read(conn);
    let id = job_id(&text).expect("it has a job").to_owned();
    let line = submit(3, &id, conn.slot).replace("farm.1", name);
    world.ring.deliver(conn, line.repeat(times).as_bytes());
    world.settle();
}

#[test]
fn names_alone_take_no_account_and_are_seen_all_the_same() {
    const CROWD: u32 = 40;
    let mut world = World::new(64);
    world.new_tip();
    for number in 0..CROWD {
        connect_as(&mut world, number, &format!("made-up.{number}"));
    }
    let rows = reported(&mut world);
    assert_eq!(rows.keys().collect::<Vec<_>>(), [OTHER], "nobody has hashed");
    assert_eq!(rows[OTHER].connections, CROWD * NAMES);
    let names: Vec<String> = listed(&mut world).iter().map(|row| row.worker.to_string()).collect();
    let first: Vec<String> = (0..CROWD).map(|number| format!("made-up.{number}")).collect();
    assert_eq!(names, first, "each connection has its own name");

    let honest = connect_as(&mut world, CROWD, "farm.a");
    share(&mut world, honest, "farm.a", 2);
    let rows = reported(&mut world);
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["farm.a", OTHER]);
    let (row, others) = (&rows["farm.a"], &rows[OTHER]);
    assert_eq!((row.totals.accepted, row.totals.rejected_all(), row.connections), (1, 1, 1));
    assert_eq!(others.connections, (CROWD + 1) * NAMES - 1, "its other names are among them");
    assert_eq!((others.totals.accepted, others.totals.rejected_all()), (0, 0));
}

#[test]
fn what_is_refused_before_the_first_credit_is_counted_among_the_others() {
    let mut world = World::new(8);
    world.new_tip();
    let conn = connect_as(&mut world, 1, "farm.a");
    let unknown = submit(3, "ffffffff", 7).replace("farm.1", "farm.a");
    world.ring.deliver(conn, unknown.as_bytes());
    let rows = reported(&mut world);
    assert_eq!(rows[OTHER].totals.rejected_all(), 1);
    assert_eq!(rows.len(), 1);
    assert_eq!(listed(&mut world)[0].rejected, 1, "its connection shows it");
}

#[test]
fn a_worker_that_is_called_as_the_others_has_an_account_of_its_own() {
    let mut world = World::new(8);
    world.new_tip();
    let conn = connect_as(&mut world, 1, OTHER);
    share(&mut world, conn, OTHER, 1);
    let rows = reported(&mut world);
    let own = rows.keys().find(|name| name.starts_with("other~")).expect("marked").clone();
    assert_eq!((rows[&own].totals.accepted, rows[OTHER].totals.accepted), (1, 0));
    assert_eq!(*listed(&mut world)[0].worker, *own);
}

#[test]
fn two_connections_of_a_name_have_one_account_and_leave_it() {
    let mut world = World::new(8);
    world.new_tip();
    let miners = [1, 2].map(|number| world.miner(number));
    for miner in miners {
        share(&mut world, miner, "farm.1", 1);
    }
    let rows = reported(&mut world);
    assert_eq!((rows["farm.1"].totals.accepted, rows["farm.1"].connections), (2, 2));
    assert_eq!(rows[OTHER].connections, 0);
    let idle = world.miner(3);
    for conn in [miners[0], idle] {
        let cause = shard::ReceiveEnd::Eof;
        world.ring.completions.push_back(shard::Completion::ReceiveEnded { conn, cause });
    }
    let rows = reported(&mut world);
    assert_eq!((rows["farm.1"].connections, rows[OTHER].connections), (1, 0));
}
