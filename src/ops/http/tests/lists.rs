//! The lists of the API: their pages, their filters, and what a reader costs the farm.

use super::*;

fn names(body: &Value, list: &str, field: &str) -> Vec<String> {
    let rows = body[list].as_array().expect("rows").iter();
    rows.map(|row| row[field].as_str().expect("text").to_owned()).collect()
}

#[test]
fn miners_come_in_pages_of_one_order() {
    let address = serving(Arc::new(Farm::new()));
    let (code, body) = json(address, "/api/v1/miners");
    assert_eq!((code, body["total"].as_u64()), (200, Some(250)));
    assert_eq!(body["miners"].as_array().map(Vec::len), Some(100));
    let first = &body["miners"][0];
    assert_eq!(first["connection"], 0);
    assert_eq!(first["extranonce1"], "000001ff");
    assert_eq!(first["connected_seconds"], 60.0);
    assert_eq!(first["user_agent"], "cgminer/4.12 \"x\"");
    let (_, body) = json(address, "/api/v1/miners?offset=240&limit=20");
    assert_eq!(body["miners"].as_array().map(Vec::len), Some(10));
    assert_eq!(body["miners"][9]["connection"], 249);
}

#[test]
fn filters_leave_the_rows_that_were_asked_for() {
    let mut farm = Farm::new();
    if let Ok(miners) = &mut farm.miners {
        miners.truncate(5);
        miners[0].1.worker = "farm.b".into();
        miners[1].1.peer = "2001:db8::7".parse().expect("an address");
        miners[2].1.state = MinerState::Subscribed;
        miners[3].0 = ShardIndex(1);
    }
    let address = serving(Arc::new(farm));
    for (query, total) in [
        ("", 5),
        ("worker=farm.b", 1),
        ("worker=farm.*", 5),
        ("worker=nobody", 0),
        ("address=2001:db8::7", 1),
        ("address=2001%3Adb8%3A%3A7", 1),
        ("state=subscribed", 1),
        ("state=mining&worker=farm.a", 3),
        ("shard=1", 1),
        ("shard=9", 0),
    ] {
        let (code, body) = json(address, &format!("/api/v1/miners?{query}"));
        assert_eq!((code, &body["total"]), (200, &total.into()), "{query}");
        assert_eq!(body["miners"].as_array().map(Vec::len), Some(total), "{query}");
    }
}

#[test]
fn workers_are_listed_with_their_accounts() {
    let address = serving(Arc::new(Farm::new()));
    let (code, body) = json(address, "/api/v1/workers?limit=2&offset=1");
    assert_eq!((code, &body["total"]), (200, &30.into()));
    assert_eq!(names(&body, "workers", "worker"), ["farm.01", "farm.02"]);
    let worker = &body["workers"][0];
    assert_eq!(worker["shares"]["rejected_by_reason"]["stale"], 3);
    assert_eq!(worker["hashes_per_second_1h"], 2e12);
    assert_eq!(worker["last_share_age_seconds"], 7.0);
    let (_, body) = json(address, "/api/v1/workers?connected=false");
    assert_eq!(body["total"], 10);
    let (_, body) = json(address, "/api/v1/workers?worker=farm.1*&connected=true");
    assert_eq!(body["total"], 7);
}

#[test]
fn the_newest_jobs_and_blocks_come_first() {
    let farm = Arc::new(Farm::new());
    farm.change(|status| {
        let job = |number| {
            let height = 100 + number / 10;
            farm::status::JobStatus { number, height, ..samples::job(NOW) }
        };
        status.jobs = (1..=64).map(job).collect();
        status.blocks.push(BlockRecord { id: 2, outcome: Outcome::Stale, ..found_block() });
    });
    let address = serving(farm);
    let (_, body) = json(address, "/api/v1/jobs?limit=2");
    assert_eq!((&body["total"], &body["jobs"][0]["number"]), (&64.into(), &64.into()));
    let (_, body) = json(address, "/api/v1/jobs?height=103");
    assert_eq!((&body["total"], &body["jobs"][0]["number"]), (&10.into(), &39.into()));
    let (_, body) = json(address, "/api/v1/blocks?outcome=stale");
    assert_eq!(names(&body, "blocks", "outcome"), ["stale"]);
    let (_, body) = json(address, "/api/v1/blocks?worker=farm.*");
    assert_eq!(names(&body, "blocks", "outcome"), ["stale", "accepted"]);
}

#[test]
fn a_list_is_made_once_a_second_whoever_asks() {
    let farm = Arc::new(Farm::new());
    let address = serving(farm.clone());
    let readers: Vec<_> = (0..32)
        .map(|reader| {
            let list = if reader % 2 == 0 { "miners" } else { "workers" };
            std::thread::spawn(move || json(address, &format!("/api/v1/{list}?limit=1000")).0)
        })
        .collect();
    readers.into_iter().for_each(|reader| assert_eq!(reader.join().expect("an answer"), 200));
    assert_eq!(farm.lists_made.load(Relaxed), 2, "one of each kind");
    farm.now.store(NOW.as_micros() + 1_000_000, Relaxed);
    assert_eq!(json(address, "/api/v1/miners").0, 200);
    assert_eq!(farm.lists_made.load(Relaxed), 3);
}

#[test]
fn twenty_thousand_miners_are_read_page_by_page() {
    let mut farm = Farm::new();
    if let Ok(miners) = &mut farm.miners {
        let sample = miners[0].1.clone();
        let row = |connection| (ShardIndex(0), MinerRow { connection, ..sample.clone() });
        *miners = (0..20_000).map(row).collect();
    }
    let address = serving(Arc::new(farm));
    let mut seen = 0;
    for page in 0..20 {
        let (code, text) =
            get(address, &format!("/api/v1/miners?limit=1000&offset={}", page * 1_000));
        assert_eq!(code, 200);
        assert!(text.len() < 512 << 10, "{} bytes", text.len());
        let body: Value = serde_json::from_str(&text).expect("JSON");
        for row in body["miners"].as_array().expect("rows") {
            assert_eq!(row["connection"], seen);
            seen += 1;
        }
    }
    assert_eq!(seen, 20_000);
}

#[test]
fn a_list_that_cannot_be_had_says_why() {
    let codes = [(ListError::Busy, 429), (ListError::Timeout, 504), (ListError::Stopped, 503)];
    for (reason, code) in codes {
        let farm = Farm { miners: Err(reason), workers: Err(reason), ..Farm::new() };
        let address = serving(Arc::new(farm));
        for list in ["miners", "workers"] {
            let (found, body) = json(address, &format!("/api/v1/{list}"));
            assert_eq!(found, code);
            assert_eq!(body["error"], reason.to_string());
        }
    }
}
