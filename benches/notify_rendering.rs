//! One job to the bytes of its `mining.notify`: ours, and the reference implementation's `sv1_api`.

mod settings;

use std::hint::black_box;

use benches::Job;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sv1_api::Message;
use sv1_api::server_to_client::Notify as ReferenceNotify;
use wire::sv1::{Notify, write};

fn notify_rendering(criterion: &mut Criterion) {
    let job = Job::usual();
    let notify = Notify {
        job_id: "1f.3",
        prev_hash: &job.prev_hash,
        coinbase_first: &job.coinbase_first,
        coinbase_second: &job.coinbase_second,
        merkle_path: &job.merkle_path,
        version: job.version,
        bits: job.bits,
        ntime: job.ntime,
        clean: true,
    };
    let mut line = Vec::new();
    write::notify(&mut line, &notify);
    let reference = reference(&line);
    let rendered = serde_json::to_value(Message::from(reference.clone())).expect("it renders");
    let ours: serde_json::Value = serde_json::from_slice(&line).expect("it is JSON");
    assert_eq!(ours["params"], rendered["params"], "all contenders render the same");

    let mut group = criterion.benchmark_group("notify_rendering");
    let mut out = Vec::with_capacity(line.len());
    group.bench_function("headframe", |bencher| {
        bencher.iter(|| {
            out.clear();
            write::notify(&mut out, black_box(&notify));
            black_box(out.as_ptr());
        });
    });
    group.bench_function("headframe_one_more_miner", |bencher| {
        bencher.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(&line));
            black_box(out.as_ptr());
        });
    });
    group.bench_function("sv1_api", |bencher| {
        bencher.iter_batched(
            || reference.clone(),
            |notify| serde_json::to_vec(&Message::from(notify)).expect("it renders"),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn reference(line: &[u8]) -> ReferenceNotify {
    let message: Message = serde_json::from_slice(line).expect("it is a message");
    let Message::Notification(notification) = message else { panic!("not a notification") };
    notification.try_into().unwrap_or_else(|_| panic!("not a notify"))
}

criterion_group! {
    name = benches;
    config = settings::short(1200);
    targets = notify_rendering
}
criterion_main!(benches);
