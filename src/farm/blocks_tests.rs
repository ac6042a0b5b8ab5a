//! Tests of `blocks`: whole blocks read by the `bitcoin` crate, which shares nothing with `pow`,
//! and the book on what became of them.

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use proptest::prelude::*;

use pow::{Kernel, Share};

use super::*;
use crate::jobs::{JobMaker, JobSettings};
use crate::templates_for_tests::{settings, template, transactions};

/// A desk, the jobs that it keeps, and a miner that finds whatever is asked for.
struct Farm {
    desk: BlockDesk,
    maker: JobMaker,
    jobs: Vec<Arc<Job>>,
    kernel: Kernel,
}

impl Farm {
    fn new() -> Farm {
        Farm::with(settings())
    }

    fn with(settings: JobSettings) -> Farm {
        let kernel = Kernel::detect();
        let maker = JobMaker::new(settings, kernel);
        Farm { desk: BlockDesk::new(RetryPolicy::default()), maker, jobs: Vec::new(), kernel }
    }

    fn adopt(&mut self, template: &Template) -> Arc<Job> {
        let job = Arc::new(self.maker.make(template, Tick(0)).expect("a job"));
        self.desk.keep(job.clone(), template);
        self.jobs.push(job.clone());
        job
    }

    fn find(&self, job: &Job, nonce: u32) -> FoundBlock {
        let bytes: Vec<u8> = (0..job.work.extranonce_size()).map(|at| 0xe0 | at as u8).collect();
        let extranonce = Extranonce::new(&bytes).expect("within 32 bytes");
        let version = job.version | 0x8000;
        let share = Share { extranonce, version, ntime: job.curtime + 1, nonce };
        FoundBlock {
            job_number: job.number,
            tip: job.tip,
            header: job.work.header(self.kernel, &share).to_bytes(),
            extranonce,
            hash: self.kernel.hash_share(&job.work, &share),
            worker: Arc::from("rig.7"),
            found: Tick(1),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_block_is_what_was_mined(
        // The oracle does not know the one-byte heights up to 16; pow's own tests do.
        height in 17..1_000_000u32,
        count in 0..40usize,
        prefix in prop::collection::vec(any::<u8>(), 0..9),
        signature in prop::collection::vec(any::<u8>(), 0..30),
        extranonce2_size in 2..9u8,
        witness in any::<bool>(),
        nonce in any::<u32>(),
    ) {
        let own = JobSettings {
            group_prefix: prefix.clone(),
            signature: signature.clone(),
            extranonce2_size,
            ..settings()
        };
        let mut farm = Farm::with(own);
        let mut template = template(height, 3, &transactions(count));
        if !witness {
            template.witness_commitment = None;
        }
        let job = farm.adopt(&template);
        let found = farm.find(&job, nonce);
        farm.desk.found(found.clone(), Tick(1)).expect("taken in");
        let submit = farm.desk.poll(Tick(1)).expect("at once");
        let block: bitcoin::Block = deserialize(&submit.bytes).expect("a block");
        prop_assert_eq!(block.block_hash().to_byte_array(), found.hash.0);
        prop_assert!(block.check_merkle_root());
        prop_assert_eq!(block.txdata.len(), count + 1);
        prop_assert_eq!(block.header.prev_blockhash.to_byte_array(), [3; 32]);
        prop_assert_eq!(block.bip34_block_height().expect("a height"), u64::from(height));
        let coinbase = &block.txdata[0];
        prop_assert!(coinbase.is_coinbase());
        if witness {
            prop_assert!(block.check_witness_commitment());
            let reserved: Vec<&[u8]> = coinbase.input[0].witness.iter().collect();
            prop_assert_eq!(reserved, [&[0u8; 32][..]]);
        } else {
            prop_assert!(coinbase.input[0].witness.is_empty());
        }
        prop_assert_eq!(coinbase.output[0].value.to_sat(), template.coinbase_value);
        prop_assert_eq!(coinbase.output[0].script_pubkey.as_bytes(), settings().payout_script);
        // Prefix, extranonce and signature stand at the end of the script, in this order.
        let mut tail = prefix;
        tail.extend_from_slice(found.extranonce.as_slice());
        tail.extend_from_slice(&signature);
        prop_assert!(coinbase.input[0].script_sig.as_bytes().ends_with(&tail));
    }
}

#[test]
fn a_header_is_submitted_once_and_every_outcome_is_booked() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &[]));
    let refused: Arc<str> = Arc::from("bad-cb-amount");
    let answers = [
        (SubmitResult::Accepted, Outcome::Accepted),
        (SubmitResult::Duplicate, Outcome::Duplicate),
        (SubmitResult::Stale, Outcome::Stale),
        (SubmitResult::Refused(refused.clone()), Outcome::Refused(refused)),
    ];
    for (nonce, (result, outcome)) in (0..).zip(answers) {
        let found = farm.find(&job, nonce);
        let id = farm.desk.found(found.clone(), Tick(1)).expect("new");
        assert_eq!(farm.desk.found(found.clone(), Tick(1)), Err(Declined::Duplicate));
        assert_eq!(farm.desk.poll(Tick(1)).expect("at once").id, id);
        assert!(farm.desk.poll(Tick(1_000_000)).is_none(), "an answer is awaited");
        assert_eq!(farm.desk.records().last().expect("recorded").outcome, Outcome::Submitted);
        farm.desk.submitted(id, result.clone(), Tick(2));
        // A second node's later answer does not change what is settled.
        farm.desk.submitted(id, SubmitResult::Stale, Tick(3));
        let record = farm.desk.records().last().expect("recorded");
        assert_eq!((&record.outcome, record.attempts, record.late), (&outcome, 1, false));
        assert_eq!((record.height, &*record.worker), (7, "rig.7"));
        assert_eq!(farm.desk.found(found, Tick(4)), Err(Declined::Duplicate), "also when settled");
    }
    let counts = farm.desk.counts();
    assert_eq!((counts.accepted, counts.duplicate, counts.stale, counts.refused), (1, 1, 1, 1));
    assert_eq!(counts.declined[Declined::Duplicate as usize], 8);
    assert_eq!((counts.found, farm.desk.unsettled()), (12, 0));
}

#[test]
fn a_block_without_an_answer_is_sent_again_and_given_up_in_the_end() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &transactions(3)));
    let id = farm.desk.found(farm.find(&job, 0), Tick(0)).expect("new");
    let first = farm.desk.poll(Tick(0)).expect("at once").bytes;
    let policy = RetryPolicy::default();
    let mut now = Tick(0);
    for attempt in 2..=policy.unknown_attempts_max {
        farm.desk.submitted(id, SubmitResult::Unknown, now);
        let due = farm.desk.due().expect("another attempt");
        assert_eq!(due, now.plus_micros(policy.wait_micros));
        assert!(farm.desk.poll(now).is_none(), "not before its time");
        now = due;
        let again = farm.desk.poll(now).expect("due");
        assert_eq!((again.id, &again.bytes), (id, &first));
        assert_eq!(farm.desk.records().last().expect("recorded").attempts, attempt);
    }
    farm.desk.submitted(id, SubmitResult::Unknown, now);
    assert_eq!((farm.desk.due(), farm.desk.unsettled()), (None, 0));
    assert_eq!(farm.desk.records().last().expect("recorded").outcome, Outcome::Unknown);
    assert_eq!(farm.desk.counts().unknown, 1);
}

#[test]
fn an_answer_that_never_comes_holds_no_place_for_ever() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &[]));
    let id = farm.desk.found(farm.find(&job, 0), Tick(0)).expect("new");
    let mut now = Tick(0);
    let mut sent = 0;
    while farm.desk.unsettled() > 0 {
        sent += u32::from(farm.desk.poll(now).is_some_and(|block| block.id == id));
        now = farm.desk.due().unwrap_or(now);
    }
    assert_eq!(sent, RetryPolicy::default().unknown_attempts_max);
    assert_eq!(farm.desk.counts().unknown, 1);
}

#[test]
fn a_block_ahead_of_the_nodes_clock_waits_for_its_time() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &[]));
    let id = farm.desk.found(farm.find(&job, 0), Tick(0)).expect("new");
    let mut now = Tick(0);
    for _ in 0..3_600 {
        assert!(farm.desk.poll(now).is_some());
        farm.desk.submitted(id, SubmitResult::TimeTooNew, now);
        now = farm.desk.due().expect("an hour is not too long");
    }
    assert!(farm.desk.poll(now).is_some());
    farm.desk.submitted(id, SubmitResult::Accepted, now);
    assert_eq!(farm.desk.counts().accepted, 1);
}

#[test]
fn late_blocks_are_at_most_six_tips_old_and_bounded_per_second() {
    let mut farm = Farm::new();
    for prev in 0..8 {
        farm.adopt(&template(7 + u32::from(prev), prev, &transactions(1)));
    }
    let tips: Vec<Arc<Job>> = farm.jobs.clone();
    // The newest is tip 8: 8 − 6 = 2 is the oldest that counts.
    assert_eq!(tips[7].tip, 8);
    let too_old = farm.find(&tips[0], 0);
    assert_eq!(farm.desk.found(too_old, Tick(0)), Err(Declined::TooOld));
    let late = farm.find(&tips[1], 0);
    farm.desk.found(late, Tick(0)).expect("six tips old");
    assert!(farm.desk.records().last().expect("recorded").late);
    for nonce in 1..LATE_BLOCKS_PER_SECOND_MAX {
        farm.desk.found(farm.find(&tips[3], nonce), Tick(0)).expect("within the bound");
    }
    let one_more = farm.find(&tips[3], 1_000);
    let declined = farm.desk.found(one_more.clone(), Tick(999_999));
    assert_eq!(declined, Err(Declined::TooManyLate));
    farm.desk.found(farm.find(&tips[7], 0), Tick(999_999)).expect("on the tip: no bound");
    farm.desk.found(one_more, Tick(1_000_000)).expect("the next second, and still unseen");
}

#[test]
fn transactions_are_kept_for_what_can_be_credited_and_no_more() {
    let mut farm = Farm::new();
    let first = farm.adopt(&template(7, 1, &transactions(2)));
    for _ in 0..JOBS_KEPT_MAX {
        farm.adopt(&template(7, 1, &transactions(2)));
    }
    assert_eq!(farm.desk.jobs_kept(), JOBS_KEPT_MAX);
    let gone = farm.find(&first, 0);
    assert_eq!(farm.desk.found(gone, Tick(0)), Err(Declined::JobUnknown));
    let oldest_live = farm.jobs[farm.jobs.len() - JOBS_LIVE_MAX].clone();
    let waiting = farm.find(&oldest_live, 0);
    farm.desk.found(waiting, Tick(0)).expect("what a shard can credit is kept");
    for prev in 2..9 {
        farm.adopt(&template(8, prev, &[]));
    }
    assert_eq!(farm.desk.jobs_kept(), 7, "seven tips, one job each");
    let bytes = farm.desk.poll(Tick(0)).expect("its job is gone, the block is not").bytes;
    let block: bitcoin::Block = deserialize(&bytes).expect("a block");
    assert_eq!(block.txdata.len(), 3);
}

#[test]
fn a_target_that_everything_meets_fills_a_bounded_queue() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &[]));
    let mut found = farm.find(&job, 0);
    let mut nonce = 0u32;
    let mut next = |desk: &mut BlockDesk| {
        nonce += 1;
        found.hash.0[..4].copy_from_slice(&nonce.to_le_bytes());
        desk.found(found.clone(), Tick(0))
    };
    for _ in 0..BLOCKS_WAITING_MAX {
        next(&mut farm.desk).expect("room");
    }
    assert_eq!(next(&mut farm.desk), Err(Declined::Flood));
    let open: Vec<u64> = core::iter::from_fn(|| farm.desk.poll(Tick(0))).map(|b| b.id).collect();
    assert_eq!(open, (1..=BLOCKS_OPEN_MAX as u64).collect::<Vec<_>>());
    farm.desk.submitted(3, SubmitResult::Accepted, Tick(0));
    assert_eq!(farm.desk.poll(Tick(0)).expect("room again").id, BLOCKS_OPEN_MAX as u64 + 1);
    next(&mut farm.desk).expect("room again");
    assert_eq!(farm.desk.records().count(), BLOCK_RECORDS_MAX);
}

#[test]
fn answers_of_nodes_are_told_apart() {
    let reason = |text: &str| SubmitResult::from_bip22(Some(text));
    assert_eq!(SubmitResult::from_bip22(None), SubmitResult::Accepted);
    assert_eq!(reason("duplicate"), SubmitResult::Duplicate);
    for text in ["inconclusive", "inconclusive-not-best-prevblk", "stale-prevblk"] {
        assert_eq!(reason(text), SubmitResult::Stale);
    }
    assert_eq!(reason("time-too-new"), SubmitResult::TimeTooNew);
    assert_eq!(reason("high-hash"), SubmitResult::Refused(Arc::from("high-hash")));
    assert_eq!(reason("duplicate-invalid"), SubmitResult::Refused(Arc::from("duplicate-invalid")));
}
