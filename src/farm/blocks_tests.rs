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

    /// A farm before so many nodes.
    fn before(nodes: usize) -> Farm {
        Farm { desk: BlockDesk::new(nodes, RetryPolicy::default()), ..Farm::new() }
    }

    fn with(settings: JobSettings) -> Farm {
        let kernel = Kernel::detect();
        let maker = JobMaker::new(settings, kernel);
        Farm { desk: BlockDesk::new(1, RetryPolicy::default()), maker, jobs: Vec::new(), kernel }
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

/// The block of a nonce, found and sent to every node.
fn sent(farm: &mut Farm, job: &Job, nonce: u32, now: Tick) -> u64 {
    let id = farm.desk.found(farm.find(job, nonce), now).expect("new");
    while farm.desk.poll(now).is_some() {}
    id
}

fn refused(reason: &str) -> SubmitResult {
    SubmitResult::Refused(Arc::from(reason))
}

fn no_answer() -> SubmitResult {
    SubmitResult::Unknown(Arc::from("nobody there"))
}

fn settled(desk: &mut BlockDesk) -> Vec<SettledBlock> {
    core::iter::from_fn(|| desk.next_settled()).collect()
}

#[test]
fn a_header_is_submitted_once_and_every_outcome_is_booked() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &[]));
    let bad = Arc::from("bad-cb-amount");
    let answers = [
        (SubmitResult::Accepted, Outcome::Accepted),
        (SubmitResult::Duplicate, Outcome::Duplicate),
        (SubmitResult::Stale, Outcome::Stale),
        (refused("bad-cb-amount"), Outcome::Refused(bad)),
    ];
    for (nonce, (result, outcome)) in (0..).zip(answers) {
        let found = farm.find(&job, nonce);
        let id = farm.desk.found(found.clone(), Tick(1)).expect("new");
        assert_eq!(farm.desk.found(found.clone(), Tick(1)), Err(Declined::Duplicate));
        let block = farm.desk.poll(Tick(1)).expect("at once");
        assert_eq!((block.id, block.node, block.attempt, block.urgent), (id, 0, 1, true));
        assert!(farm.desk.poll(Tick(1_000_000)).is_none(), "an answer is awaited");
        assert_eq!(farm.desk.records().last().expect("recorded").outcome, Outcome::Submitted);
        farm.desk.submitted(id, 0, result.clone(), Some(Tick(31)), Tick(52));
        // A later answer does not change what is settled.
        farm.desk.submitted(id, 0, SubmitResult::Stale, None, Tick(53));
        let record = farm.desk.records().last().expect("recorded").clone();
        assert_eq!((&record.outcome, record.late, record.restored), (&outcome, false, false));
        assert_eq!((record.facts.height, &*record.facts.worker), (7, "rig.7"));
        assert_eq!((record.nodes[0].attempts, record.first_byte_micros()), (1, Some(30)));
        let over = SettledBlock { hash: found.hash, refused: nonce == 3 };
        assert_eq!(settled(&mut farm.desk), [over]);
        assert_eq!(farm.desk.found(found, Tick(4)), Err(Declined::Duplicate), "also when settled");
    }
    let counts = farm.desk.counts();
    assert_eq!((counts.accepted, counts.duplicate, counts.stale, counts.refused), (1, 1, 1, 1));
    assert_eq!(counts.declined[Declined::Duplicate as usize], 8);
    assert_eq!((counts.found, farm.desk.unsettled()), (12, 0));
    assert_eq!(farm.desk.first_byte_micros(), Some(30));
}

/// What two nodes say, in this order; the outcome after each; whether it is over then.
type Story = ([SubmitResult; 2], [Outcome; 2], [bool; 2]);

#[test]
fn the_outcome_is_the_best_word_of_all_nodes() {
    use SubmitResult::{Accepted, Duplicate, Stale};
    let bad = || Outcome::Refused(Arc::from("bad-txns"));
    let open = Outcome::Submitted;
    let (yes, known, late) = (Outcome::Accepted, Outcome::Duplicate, Outcome::Stale);
    let table: [Story; 9] = [
        ([Accepted, Duplicate], [yes.clone(), yes.clone()], [false, true]),
        ([Duplicate, Accepted], [known.clone(), yes.clone()], [false, true]),
        ([Stale, Accepted], [late.clone(), yes.clone()], [false, true]),
        ([refused("bad-txns"), Accepted], [bad(), yes.clone()], [false, true]),
        ([refused("bad-txns"), Stale], [bad(), late.clone()], [false, true]),
        ([refused("bad-txns"), refused("bad-txns")], [bad(), bad()], [false, true]),
        ([no_answer(), Accepted], [open.clone(), yes.clone()], [false, false]),
        ([Accepted, no_answer()], [yes.clone(), yes.clone()], [false, false]),
        ([no_answer(), no_answer()], [open.clone(), open.clone()], [false, false]),
    ];
    for (story, (answers, outcomes, over)) in table.into_iter().enumerate() {
        let mut farm = Farm::before(2);
        let job = farm.adopt(&template(7, 1, &[]));
        let id = sent(&mut farm, &job, 0, Tick(0));
        for (node, answer) in answers.into_iter().enumerate() {
            farm.desk.submitted(id, node as u8, answer, None, Tick(1));
            let record = farm.desk.records().last().expect("recorded");
            assert_eq!(record.outcome, outcomes[node], "story {story}, node {node}");
            assert_eq!(!settled(&mut farm.desk).is_empty(), over[node], "story {story}");
        }
        let spoken = outcomes[1] != Outcome::Submitted;
        assert_eq!(farm.desk.unsettled(), usize::from(!spoken), "story {story}");
        let counts = farm.desk.counts();
        let counted = counts.accepted + counts.duplicate + counts.stale + counts.refused;
        let final_word = over[1] || outcomes[1] == Outcome::Accepted;
        assert_eq!(counted, u64::from(final_word), "story {story}: each block counts once");
    }
}

#[test]
fn every_node_gets_the_block_at_once_and_a_dead_one_holds_up_nobody() {
    let mut farm = Farm::before(3);
    let job = farm.adopt(&template(7, 1, &[]));
    let id = farm.desk.found(farm.find(&job, 0), Tick(0)).expect("new");
    let nodes: Vec<u8> = core::iter::from_fn(|| farm.desk.poll(Tick(0))).map(|b| b.node).collect();
    assert_eq!(nodes, [0, 1, 2]);
    farm.desk.submitted(id, 1, SubmitResult::Accepted, None, Tick(1));
    farm.desk.submitted(id, 2, SubmitResult::Duplicate, None, Tick(1));
    assert_eq!((farm.desk.unsettled(), farm.desk.counts().accepted), (0, 1));
    // The dead one is tried on for ten minutes: the living may have no peers.
    let mut now = Tick(1);
    let mut tried = 1;
    while settled(&mut farm.desk).is_empty() {
        farm.desk.submitted(id, 0, no_answer(), None, now);
        now = farm.desk.due().expect("something is to come");
        tried += core::iter::from_fn(|| farm.desk.poll(now)).count();
    }
    let patience = RetryPolicy::default().others_micros_max;
    assert!((patience..patience + 60_000_000).contains(&now.as_micros()), "{now:?}");
    assert!(tried > 50, "{tried} attempts at the dead node");
    assert_eq!(farm.desk.due(), None);
    assert_eq!(farm.desk.counts().accepted, 1);
}

#[test]
fn without_any_answer_a_block_is_sent_again_for_ever() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &transactions(3)));
    let id = farm.desk.found(farm.find(&job, 0), Tick(0)).expect("new");
    let first = farm.desk.poll(Tick(0)).expect("at once").bytes;
    let policy = RetryPolicy::default();
    let mut now = Tick(0);
    let mut wait = policy.wait_first_micros;
    for attempt in 2..=10_000 {
        farm.desk.submitted(id, 0, no_answer(), None, now);
        let due = farm.desk.due().expect("another attempt");
        assert_eq!(due, now.plus_micros(wait));
        wait = (2 * wait).min(policy.wait_max_micros);
        assert!(farm.desk.poll(now).is_none(), "not before its time");
        now = due;
        let again = farm.desk.poll(now).expect("due");
        assert_eq!((again.id, again.attempt, &again.bytes), (id, attempt, &first));
    }
    assert_eq!((farm.desk.unsettled(), settled(&mut farm.desk).len()), (1, 0));
    farm.desk.submitted(id, 0, SubmitResult::Accepted, None, now);
    assert_eq!((farm.desk.unsettled(), settled(&mut farm.desk).len()), (0, 1));
}

#[test]
fn an_answer_that_never_comes_is_given_up_and_the_block_sent_again() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &[]));
    let id = sent(&mut farm, &job, 0, Tick(0));
    let due = farm.desk.due().expect("the answer's time ends");
    assert_eq!(due, Tick(ANSWER_MICROS_MAX));
    assert!(farm.desk.poll(due).is_none());
    let again = farm.desk.due().expect("another attempt");
    assert_eq!(farm.desk.poll(again).expect("due").attempt, 2);
    let record = farm.desk.records().last().expect("recorded");
    assert!(matches!(record.nodes[0].answer, Some(SubmitResult::Unknown(_))));
    // The first attempt's answer comes after all.
    farm.desk.submitted(id, 0, SubmitResult::Accepted, None, again);
    assert_eq!(farm.desk.counts().accepted, 1);
}

#[test]
fn what_time_or_the_tip_may_mend_is_tried_again_and_then_has_its_outcome() {
    let moving = SubmitResult::NotBest(Arc::from("stale-chain-tip"));
    let policy = RetryPolicy::default();
    let unripe = Outcome::Refused(Arc::from("time-too-new"));
    let orphan = Outcome::Refused(Arc::from("prev-blk-not-found"));
    let of_invalid = SubmitResult::from_bip22(Some("bad-prevblk"));
    let invalid = SubmitResult::from_bip22(Some("duplicate-invalid"));
    let refused = |answer: &SubmitResult| Outcome::Refused(Arc::from(answer.to_string()));
    let (of_invalid_end, invalid_end) = (refused(&of_invalid), refused(&invalid));
    let table = [
        (moving, policy.tip_attempts_max, 5, Outcome::Stale),
        (SubmitResult::TimeTooNew, policy.time_attempts_max, 7_200, unripe),
        (SubmitResult::MissingPrevious, policy.previous_attempts_max, 3_600, orphan),
        (of_invalid, policy.previous_attempts_max, 3_600, of_invalid_end),
        (invalid, policy.previous_attempts_max, 3_600, invalid_end),
    ];
    for (answer, attempts_max, seconds, outcome) in table {
        for mended in [false, true] {
            let mut farm = Farm::new();
            let job = farm.adopt(&template(7, 1, &[]));
            let id = farm.desk.found(farm.find(&job, 0), Tick(0)).expect("new");
            let mut now = Tick(0);
            for attempt in 1..attempts_max {
                assert_eq!(farm.desk.poll(now).expect("due").attempt, attempt);
                farm.desk.submitted(id, 0, answer.clone(), None, now);
                now = farm.desk.due().expect("it may still become valid");
            }
            assert!(now.as_micros().abs_diff(seconds * 1_000_000) <= 60_000_000, "{now:?}");
            assert!(farm.desk.poll(now).is_some());
            let last = if mended { SubmitResult::Accepted } else { answer.clone() };
            farm.desk.submitted(id, 0, last, None, now);
            let wanted = if mended { &Outcome::Accepted } else { &outcome };
            assert_eq!(farm.desk.records().last().expect("recorded").outcome, *wanted);
            assert_eq!(settled(&mut farm.desk).len(), 1);
        }
    }
}

#[test]
fn blocks_of_an_earlier_process_go_out_whole_and_in_their_order() {
    let mut farm = Farm::before(2);
    let restored = |nth: u8| RestoredBlock {
        bytes: Arc::from([nth; 90]),
        facts: Arc::new(BlockFacts {
            hash: Hash256([nth; 32]),
            height: u32::from(nth),
            worker: Arc::from("rig.9"),
        }),
    };
    for nth in 1..=10 {
        farm.desk.restore(restored(nth), Tick(0));
        farm.desk.restore(restored(nth), Tick(0));
    }
    assert_eq!((farm.desk.counts().restored, farm.desk.counts().found), (10, 0));
    let out: Vec<SubmitBlock> = core::iter::from_fn(|| farm.desk.poll(Tick(1))).collect();
    let order: Vec<(u64, u8)> = out.iter().map(|block| (block.id, block.node)).collect();
    let wanted: Vec<(u64, u8)> = (1..=8).flat_map(|id| [(id, 0), (id, 1)]).collect();
    assert_eq!(order, wanted, "some places stay free for a block on the newest tip");
    assert!(out.iter().all(|block| !block.urgent && block.bytes[0] == block.id as u8));
    // A new block goes out at once, and before any attempt of the old ones.
    let job = farm.adopt(&template(7, 1, &[]));
    let id = farm.desk.found(farm.find(&job, 0), Tick(2)).expect("new");
    let late = Tick(ANSWER_MICROS_MAX + 10_000_000);
    assert!(farm.desk.poll(late).is_some_and(|block| block.id == id && block.urgent));
    let record = farm.desk.records().next().expect("recorded");
    assert!(record.restored && record.job_number.is_none());
    assert_eq!((&record.journaled, record.first_byte_micros()), (&Journaled::Durable, None));
    // One node's word frees a place for the next.
    farm.desk.submitted(1, 0, SubmitResult::Duplicate, Some(late), late);
    assert_eq!(farm.desk.records().next().expect("recorded").first_byte_micros(), None);
    let ids: BTreeSet<u64> =
        core::iter::from_fn(|| farm.desk.poll(late)).map(|block| block.id).collect();
    assert!(ids.contains(&9) && !ids.contains(&10), "{ids:?}");
}

#[test]
fn the_journals_words_are_kept_and_counted() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(7, 1, &[]));
    let id = sent(&mut farm, &job, 0, Tick(0));
    let newest = |farm: &Farm| farm.desk.records().last().expect("recorded").clone();
    assert_eq!(newest(&farm).journaled, Journaled::Pending);
    farm.desk.sent_first(id);
    farm.desk.journaled(id, Journaled::Written);
    assert_eq!((newest(&farm).journaled, newest(&farm).sent_first), (Journaled::Written, true));
    farm.desk.journaled(id, Journaled::Durable);
    let failed = Journaled::Failed(Arc::from("no room"));
    farm.desk.journaled(id, failed.clone());
    assert_eq!(newest(&farm).journaled, failed);
    let counts = farm.desk.counts();
    assert_eq!((counts.journal_durable, counts.journal_late, counts.journal_failed), (1, 1, 1));
}

#[test]
fn a_block_is_saved_by_the_journal_or_by_a_nodes_last_word() {
    let mut farm = Farm::new();
    let job = farm.adopt(&template(100, 1, &[]));
    let [written, unwritten, waiting] = [1, 2, 3].map(|nonce| {
        assert_eq!(farm.desk.unsaved(), nonce as usize - 1);
        sent(&mut farm, &job, nonce, Tick(1))
    });
    for word in [Journaled::Pending, Journaled::Failed(Arc::from("full")), Journaled::Off] {
        farm.desk.journaled(written, word);
    }
    assert_eq!(farm.desk.unsaved(), 3);
    farm.desk.journaled(written, Journaled::Written);
    farm.desk.journaled(written, Journaled::Durable);
    assert_eq!(farm.desk.unsaved(), 2);
    farm.desk.submitted(unwritten, 0, no_answer(), None, Tick(2));
    assert_eq!(farm.desk.unsaved(), 2, "it is tried again");
    farm.desk.submitted(unwritten, 0, SubmitResult::Accepted, None, Tick(3));
    assert_eq!(farm.desk.unsaved(), 1);
    // What the journal gave back is in the journal.
    let facts = farm.desk.records().last().expect("the newest").facts.clone();
    let facts = Arc::new(BlockFacts { hash: Hash256([9; 32]), ..(*facts).clone() });
    farm.desk.restore(RestoredBlock { bytes: Arc::from([0; 81]), facts }, Tick(4));
    assert_eq!(farm.desk.unsaved(), 1);
    farm.desk.journaled(waiting, Journaled::Durable);
    assert_eq!(farm.desk.unsaved(), 0);
}

#[test]
fn what_some_node_has_spoken_about_gives_up_its_place() {
    let mut farm = Farm::before(2);
    let job = farm.adopt(&template(7, 1, &[]));
    for nonce in 0..BLOCKS_OPEN_MAX as u32 {
        sent(&mut farm, &job, nonce, Tick(0));
    }
    let waiting = farm.desk.found(farm.find(&job, 99), Tick(1)).expect("new");
    assert!(farm.desk.poll(Tick(1)).is_none(), "every place is taken");
    farm.desk.submitted(5, 1, SubmitResult::Accepted, None, Tick(1));
    assert_eq!(farm.desk.poll(Tick(1)).expect("a place").id, waiting);
    assert_eq!(settled(&mut farm.desk).len(), 1, "the other node's word is not waited for");
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
    farm.desk.submitted(3, 0, SubmitResult::Accepted, None, Tick(0));
    assert_eq!(farm.desk.poll(Tick(0)).expect("room again").id, BLOCKS_OPEN_MAX as u64 + 1);
    next(&mut farm.desk).expect("room again");
    assert_eq!(farm.desk.records().count(), BLOCK_RECORDS_MAX);
}

#[test]
fn answers_of_nodes_are_told_apart() {
    let reason = |text: &str| SubmitResult::from_bip22(Some(text));
    assert_eq!(SubmitResult::from_bip22(None), SubmitResult::Accepted);
    assert_eq!(reason("duplicate"), SubmitResult::Duplicate);
    for text in ["inconclusive", "stale-prevblk"] {
        assert_eq!(reason(text), SubmitResult::Stale);
    }
    for text in ["duplicate-inconclusive", "inconclusive-not-best-prevblk", "stale-chain-tip"] {
        assert_eq!(reason(text), SubmitResult::NotBest(Arc::from(text)));
    }
    assert_eq!(reason("prev-blk-not-found"), SubmitResult::MissingPrevious);
    assert_eq!(reason("time-too-new"), SubmitResult::TimeTooNew);
    assert_eq!(reason("high-hash"), SubmitResult::Refused(Arc::from("high-hash")));
    for text in ["bad-prevblk", "duplicate-invalid"] {
        assert_eq!(reason(text), SubmitResult::InvalidBranch(Arc::from(text)));
    }
}
