//! Habits of firmware that the farm answers with its jobs, by their ids in `docs/protocol.md`. Most
//! are the session's, beside which their tests stand.

use pow::{Kernel, Template};
use session::{Class, Tick};

use crate::jobs::{JobMaker, JobSettings, Renderings};
use crate::status::JobStatus;
use crate::templates_for_tests::{MASK, settings, template, transactions};

fn notify(template: &Template) -> String {
    let mut maker = JobMaker::new(settings(), Kernel::detect());
    let job = maker.make(template, Tick(0)).expect("a job");
    let line = Renderings::new().get(&job, template.curtime, true);
    String::from_utf8(line.to_vec()).expect("text")
}

#[test]
fn a16_an_empty_branch_is_an_empty_array() {
    // Avalon's cgminer 4.11.1 falls over null.
    let line = notify(&template(300, 1, &[]));
    assert!(line.contains(r#"",[],""#), "{line}");
    assert!(!line[20..].contains("null"), "{line}");
}

#[test]
fn e1_bits_that_miners_roll_are_cleared_wherever_they_come_from() {
    // The first is what another miner's rolled bits left on a tip; the third has bit 23, which
    // halves a BM1366.
    for version in [0x32ef_0000_u32, 0x2000_0000, 0x2080_0000, 0x3fff_ffff, 0x2000_001f] {
        let template = Template { version, ..template(300, 1, &[]) };
        let mut maker = JobMaker::new(settings(), Kernel::detect());
        let job = maker.make(&template, Tick(0)).expect("a job");
        assert_eq!(job.version & MASK, 0, "{version:08x}");
        assert_eq!(job.version, version & !MASK, "and no other bit is touched");
        let line = notify(&template);
        assert!(line.contains(&format!(r#""{:08x}","207fffff""#, version & !MASK)), "{line}");
    }
}

#[test]
fn f4_job_numbers_go_on_where_an_earlier_life_of_the_farm_ended() {
    let mut numbers = Vec::new();
    for first_number in [1, 4] {
        let settings = JobSettings { first_number, ..settings() };
        let mut maker = JobMaker::new(settings, Kernel::detect());
        for height in 300..303 {
            let job = maker.make(&template(height, height as u8, &[]), Tick(0)).expect("a job");
            numbers.push(job.number);
        }
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "no number stands for two jobs");
}

#[test]
fn f16_a_full_block_has_a_branch_that_all_firmware_takes() {
    // ESP-Miner takes 32 nodes. A block of 4 MB has no more than 2^17 transactions: 17 nodes.
    let line = notify(&template(300, 1, &transactions(4_000)));
    let (_, rest) = line.split_once(",[\"").expect("the branch");
    let (branch, tail) = rest.split_once(']').expect("its end");
    assert_eq!(branch.split(',').count(), 12);
    assert_eq!(tail.split(',').count(), 5, "version, bits, time and clean");
    assert!(tail.ends_with(",true]}\n"));
}

/// What of a job with this payout script is published.
fn published(payout_script: Vec<u8>) -> JobStatus {
    // A signature that fills the coinbase's script to its last byte.
    let signature = vec![b'/'; 86];
    let template = template(300, 1, &[]);
    let settings = JobSettings { payout_script, signature, ..settings() };
    let job = JobMaker::new(settings, Kernel::detect()).make(&template, Tick(0)).expect("a job");
    JobStatus::of(&job, &template, Tick(0))
}

#[test]
fn f17_the_coinbase_is_held_against_what_each_class_hashes_right() {
    let suits = |script: usize| {
        let job = published(vec![0x51; script]);
        let suited = Class::ALL.into_iter().filter(|class| job.suits(*class));
        (job.coinbase_bytes(), suited.collect::<Vec<_>>())
    };
    // The longest script of an address, with the longest signature.
    let (bytes, suited) = suits(34);
    assert_eq!((bytes, &*suited), (241, &Class::ALL[..]));
    for (script, bytes, unsuited) in [
        (48, 255, &[][..]),
        (49, 256, &[Class::Lottery, Class::NerdNos]),
        (233, 440, &[Class::Lottery, Class::NerdNos]),
        // ESP-Miner cuts each half at 384 bytes, however short the whole is.
        (234, 441, &[Class::Bitaxe, Class::Lottery, Class::NerdNos]),
        (291, 500, &[Class::Bitaxe, Class::Lottery, Class::NerdNos]),
        (292, 501, &[Class::Bitaxe, Class::Lottery, Class::NerdNos, Class::NiceHash]),
    ] {
        let (counted, suited) = suits(script);
        let missing: Vec<_> = Class::ALL.into_iter().filter(|c| !suited.contains(c)).collect();
        assert_eq!((counted, &*missing), (bytes, unsuited), "{script}");
    }
    let suited = |script: usize| suits(script).1;
    let large = [Class::AntminerS21, Class::Braiins, Class::Epic, Class::Vnish, Class::Whatsminer];
    assert_eq!(suited(600), large);
    assert_eq!(suited(3_000), [Class::Epic, Class::Vnish, Class::Whatsminer]);
    assert_eq!(suited(8_000), [Class::Epic, Class::Vnish]);
    assert_eq!(suited(20_000), []);
}
