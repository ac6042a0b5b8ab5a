//! One `mining.submit` line to typed fields: ours, serde_json into a borrowing struct, and the
//! reference implementation's `sv1_api`. 64 different lines, so that no branch is learned by heart.
//!
//! The time that is printed is for all 64 lines; the throughput is lines per second.

mod settings;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use wire::hex;
use wire::sv1::{Message, Request, parse};

const LINES: u32 = 64;

#[derive(Deserialize)]
struct Typed<'a> {
    id: u64,
    method: &'a str,
    #[serde(borrow)]
    params: [&'a str; 6],
}

fn submit_parse(criterion: &mut Criterion) {
    let lines = benches::submit_lines(LINES);
    lines.iter().for_each(|line| agree(line));
    let mut group = criterion.benchmark_group("submit_parse");
    group.throughput(Throughput::Elements(u64::from(LINES)));
    group.bench_function("headframe", |bencher| {
        bencher.iter(|| {
            for line in &lines {
                black_box(parse(black_box(line.as_bytes()))).expect("a good line");
            }
        });
    });
    group.bench_function("headframe_hex_decoded", |bencher| {
        bencher.iter(|| {
            for line in &lines {
                black_box(decoded(black_box(line.as_bytes()))).expect("a good line");
            }
        });
    });
    let odd: Vec<_> = lines.iter().map(|line| line.replacen('{', r#"{"x":0,"#, 1)).collect();
    group.bench_function("headframe_general_way", |bencher| {
        bencher.iter(|| {
            for line in &odd {
                black_box(parse(black_box(line.as_bytes()))).expect("a good line");
            }
        });
    });
    group.bench_function("serde_json_typed", |bencher| {
        bencher.iter(|| {
            for line in &lines {
                let typed: Typed<'_> =
                    serde_json::from_slice(black_box(line.as_bytes())).expect("a good line");
                black_box((typed.id, typed.method, typed.params));
            }
        });
    });
    group.bench_function("sv1_api", |bencher| {
        bencher.iter(|| {
            for line in &lines {
                black_box(reference(black_box(line)));
            }
        });
    });
    group.finish();
}

/// Also undoes the hexadecimal, as `sv1_api` does.
fn decoded(line: &[u8]) -> Option<([u8; 4], [u32; 3])> {
    let Ok(Message { request: Request::Submit(submit), .. }) = parse(line) else { return None };
    let mut extranonce2 = [0; 4];
    hex::decode_into(&submit.extranonce2, &mut extranonce2).ok()?;
    let bits = hex::u32_left_padded(submit.version_bits.as_deref()?)?;
    let (ntime, nonce) =
        (hex::u32_left_padded(&submit.ntime)?, hex::u32_left_padded(&submit.nonce)?);
    Some((extranonce2, [ntime, nonce, bits]))
}

fn reference(line: &str) -> sv1_api::client_to_server::Submit {
    let message: sv1_api::Message = serde_json::from_str(line).expect("a good line");
    let sv1_api::Message::StandardRequest(request) = message else { panic!("a request") };
    request.try_into().unwrap_or_else(|_| panic!("a submit: {line}"))
}

/// All contenders read the same.
fn agree(line: &str) {
    let reference = reference(line);
    let Ok(Message { id, request: Request::Submit(submit) }) = parse(line.as_bytes()) else {
        panic!("{line}")
    };
    assert_eq!(id.as_u64(), Some(reference.id));
    assert_eq!(submit.worker, reference.user_name);
    assert_eq!(submit.job_id, reference.job_id);
    let (_, [ntime, nonce, bits]) = decoded(line.as_bytes()).expect("a good line");
    let version_bits = reference.version_bits.map(|bits| bits.0);
    assert_eq!((ntime, nonce), (reference.time.0, reference.nonce.0));
    assert_eq!(Some(bits), version_bits);
}

criterion_group! {
    name = benches;
    config = settings::short(1200);
    targets = submit_parse
}
criterion_main!(benches);
