//! A share to its hash, one and several at a time: `pow` with each kernel that this processor has,
//! the reference implementation's `channels_sv2`, the plain way over `sha2`, and over `sha2-asm`.
//!
//! `channels_sv2` also compares targets and looks its job up, as its interface allows nothing
//! less; a hard target keeps its table of seen shares empty. The plain ways hash whole messages.
//! Batches print the time of the whole batch; their throughput is shares per second.

mod settings;

use std::hint::black_box;

use benches::{EXTRANONCE1, Job};
use binary_sv2::Sv2OptionOwned;
use bitcoin::Target;
use channels_sv2::chain_tip::ChainTip;
use channels_sv2::client::extended::ExtendedChannel;
use channels_sv2::client::share_accounting::ShareValidationResult;
use channels_sv2::extranonce_manager::ExtranoncePrefix;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mining_sv2::{NewExtendedMiningJobOwned, SubmitSharesExtendedOwned};
use pow::{Hash256, Kernel, Share, Work};
use sha2::{Digest, Sha256};

const BATCHES: [usize; 3] = [2, 8, 16];

fn share_validation(criterion: &mut Criterion) {
    let job = Job::usual();
    let work = job.work();
    let share = job.share(7);
    agree(&job, &work, &share);
    single(criterion, &job, &work, share);
    batches(criterion, &job, &work);
}

fn single(criterion: &mut Criterion, job: &Job, work: &Work, share: Share) {
    let mut group = criterion.benchmark_group("share_validation/single");
    for kernel in Kernel::available() {
        group.bench_function(kernel.name(), |bencher| {
            bencher.iter(|| kernel.hash_share(black_box(work), black_box(&share)));
        });
    }
    group.bench_function("plain_sha2", |bencher| {
        bencher.iter(|| plain(sha2_twice, black_box(job), black_box(&share)));
    });
    group.bench_function("plain_sha2_asm", |bencher| {
        bencher.iter(|| plain(asm_twice, black_box(job), black_box(&share)));
    });
    let mut channel = channel(job, Target::from_compact(compact(job)));
    let submit = submit(&share);
    group.bench_function("channels_sv2", |bencher| {
        bencher.iter_batched(
            || submit.clone(),
            |submit| channel.validate_share(submit).is_err(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn batches(criterion: &mut Criterion, job: &Job, work: &Work) {
    for size in BATCHES {
        let shares: Vec<_> = (0..size as u32).map(|number| (work, job.share(number))).collect();
        let mut hashes = vec![Hash256::ZERO; size];
        let mut group = criterion.benchmark_group(format!("share_validation/batch_{size}"));
        group.throughput(Throughput::Elements(size as u64));
        for kernel in Kernel::available() {
            group.bench_function(kernel.name(), |bencher| {
                bencher.iter(|| {
                    kernel.hash_shares(black_box(&shares), &mut hashes);
                    black_box(hashes.as_ptr());
                });
            });
        }
        group.finish();
    }
}

/// All contenders find the same hash.
fn agree(job: &Job, work: &Work, share: &Share) {
    let expected = plain(sha2_twice, job, share);
    assert_eq!(plain(asm_twice, job, share), expected);
    for kernel in Kernel::available() {
        assert_eq!(kernel.hash_share(work, share), expected, "{}", kernel.name());
        let mut hashes = [Hash256::ZERO; 16];
        kernel.hash_shares(&[(work, *share); 16], &mut hashes);
        assert_eq!(hashes, [expected; 16], "{}", kernel.name());
    }
    let mut easy = channel(job, Target::from_le_bytes([0xff; 32]));
    let outcome = easy.validate_share(submit(share));
    let Ok(ShareValidationResult::Valid(hash)) = outcome else {
        panic!("an easy target refuses the share: {outcome:?}")
    };
    let hash: &[u8; 32] = hash.as_ref();
    assert_eq!(*hash, expected.0);
    assert!(
        channel(job, Target::from_compact(compact(job))).validate_share(submit(share)).is_err()
    );
}

fn compact(job: &Job) -> bitcoin::CompactTarget {
    bitcoin::CompactTarget::from_consensus(job.bits)
}

/// A share's header hash without any preparation, as a straightforward server computes it.
fn plain(twice: fn(&[u8]) -> [u8; 32], job: &Job, share: &Share) -> Hash256 {
    let coinbase =
        [&job.coinbase_first, share.extranonce.as_slice(), &job.coinbase_second].concat();
    let mut root = twice(&coinbase);
    for node in &job.merkle_path {
        let mut pair = [0; 64];
        pair[..32].copy_from_slice(&root);
        pair[32..].copy_from_slice(&node.0);
        root = twice(&pair);
    }
    let mut header = [0; 80];
    header[..4].copy_from_slice(&share.version.to_le_bytes());
    header[4..36].copy_from_slice(&job.prev_hash.0);
    header[36..68].copy_from_slice(&root);
    header[68..72].copy_from_slice(&share.ntime.to_le_bytes());
    header[72..76].copy_from_slice(&job.bits.to_le_bytes());
    header[76..].copy_from_slice(&share.nonce.to_le_bytes());
    Hash256(twice(&header))
}

fn sha2_twice(message: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(message)).into()
}

fn asm_twice(message: &[u8]) -> [u8; 32] {
    asm_once(&asm_once(message))
}

/// FIPS 180-4 over the bare compression, which is all that `sha2-asm` has.
fn asm_once(message: &[u8]) -> [u8; 32] {
    let (whole, rest) = message.as_chunks::<64>();
    let mut state = SHA256_START;
    sha2_asm::compress256(&mut state, whole);
    let mut tail = [[0_u8; 64]; 2];
    let blocks = if rest.len() < 56 { 1 } else { 2 };
    let bytes = tail.as_flattened_mut();
    bytes[..rest.len()].copy_from_slice(rest);
    bytes[rest.len()] = 0x80;
    let bits = (message.len() as u64 * 8).to_be_bytes();
    bytes[blocks * 64 - 8..blocks * 64].copy_from_slice(&bits);
    sha2_asm::compress256(&mut state, &tail[..blocks]);
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

const SHA256_START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

fn channel(job: &Job, target: Target) -> ExtendedChannel {
    let prefix = ExtranoncePrefix::from_wire(EXTRANONCE1.to_vec()).expect("four bytes");
    let mut channel = ExtendedChannel::new(1, "farm".into(), prefix, target, 1.0, true, 4, None)
        .expect("a usual channel");
    let tip = job.prev_hash.0.to_vec().try_into().expect("32 bytes");
    channel.set_chain_tip(ChainTip::new(tip, job.bits, job.ntime));
    let path: Vec<_> =
        job.merkle_path.iter().map(|node| node.0.to_vec().try_into().expect("32 bytes")).collect();
    let message = NewExtendedMiningJobOwned {
        channel_id: 1,
        job_id: 1,
        min_ntime: Sv2OptionOwned::new(Some(job.ntime)),
        version: job.version,
        version_rolling_allowed: true,
        merkle_path: path.try_into().expect("twelve nodes"),
        coinbase_tx_prefix: job.coinbase_first.clone().try_into().expect("it is short"),
        coinbase_tx_suffix: job.coinbase_second.clone().try_into().expect("it is short"),
    };
    channel.on_new_extended_mining_job(message).expect("a usual job");
    channel
}

fn submit(share: &Share) -> SubmitSharesExtendedOwned {
    SubmitSharesExtendedOwned {
        channel_id: 1,
        sequence_number: 1,
        job_id: 1,
        nonce: share.nonce,
        ntime: share.ntime,
        version: share.version,
        extranonce: share.extranonce.as_slice()[4..].to_vec().try_into().expect("four bytes"),
    }
}

criterion_group! {
    name = benches;
    config = settings::short(600);
    targets = share_validation
}
criterion_main!(benches);
