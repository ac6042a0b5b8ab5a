//! Any split of the bytes, the cap, and the memory that a partial line takes.

use alloc::vec::Vec;
use proptest::prelude::*;

use super::*;

/// All lines of the pieces, each with its bytes; the error ends the list.
fn split(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, LineTooLong> {
    let mut splitter = Splitter::new();
    let mut found = Vec::new();
    for piece in pieces {
        let mut lines = splitter.feed(piece);
        while let Some(line) = lines.next() {
            found.push(line?.to_vec());
        }
        assert!(splitter.memory_bytes() <= LINE_BYTES_MAX);
    }
    Ok(found)
}

#[test]
fn ends_and_blank_lines() {
    let bytes = b"{a}\n\n{b}\r\n \t\r\n\r\n  {c} \n{d}";
    let expected = [&b"{a}"[..], b"{b}", b"  {c} "];
    let Ok(whole) = split(&[bytes]) else { panic!("no line is long") };
    assert_eq!(whole, expected);
    for at in 0..bytes.len() {
        let (front, back) = bytes.split_at(at);
        assert_eq!(split(&[front, back]).as_deref(), Ok(&whole[..]), "cut at {at}");
    }
    let single: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(split(&single), Ok(whole));
}

#[test]
fn a_whole_line_lies_where_it_was_received() {
    let bytes = b"{first}\n{second}\n{thi";
    let mut splitter = Splitter::new();
    let mut lines = splitter.feed(bytes);
    let first = lines.next().and_then(Result::ok).map(<[u8]>::as_ptr);
    assert_eq!(first, Some(bytes.as_ptr()));
    let second = lines.next().and_then(Result::ok).map(<[u8]>::as_ptr);
    assert_eq!(second, Some(bytes[8..].as_ptr()));
    assert_eq!(lines.next(), None);
    assert_eq!(splitter.partial_bytes(), 4);
}

#[test]
fn the_cap_is_exact_whole_or_cut() {
    let mut line = alloc::vec![b'x'; LINE_BYTES_MAX];
    line.push(b'\n');
    let Ok(found) = split(&[&line]) else { panic!("a line of the cap's length is good") };
    assert_eq!(found[0].len(), LINE_BYTES_MAX);
    assert_eq!(split(&[&line[..5000], &line[5000..]]), Ok(found));
    line.insert(0, b'x');
    assert_eq!(split(&[&line]), Err(LineTooLong));
    assert_eq!(split(&[&line[..5000], &line[5000..]]), Err(LineTooLong));
    assert_eq!(split(&[&line[..LINE_BYTES_MAX + 1]]), Err(LineTooLong));
}

#[test]
fn a_gibibyte_without_newline_costs_nothing() {
    let mut splitter = Splitter::new();
    let piece = alloc::vec![b'x'; 64 << 10];
    let mut errors = 0;
    for _ in 0..1 << 14 {
        let mut lines = splitter.feed(&piece);
        while let Some(line) = lines.next() {
            assert_eq!(line, Err(LineTooLong));
            errors += 1;
        }
        assert_eq!(splitter.memory_bytes(), 0);
    }
    assert_eq!(errors, 1);
    // Nothing is a line any more, also when newlines come again.
    assert_eq!(splitter.feed(b"{}\n{}\n").next(), None);
}

#[test]
fn a_large_buffer_is_given_back_and_a_small_one_kept() {
    let mut splitter = Splitter::new();
    let mut take = |bytes: &[u8]| {
        let mut lines = splitter.feed(bytes);
        while lines.next().is_some() {}
        (splitter.partial_bytes(), splitter.memory_bytes())
    };
    assert_eq!(take(b"{\"id\""), (5, PARTIAL_BYTES_KEPT));
    assert_eq!(take(b":1}\n"), (0, PARTIAL_BYTES_KEPT));
    let (partial, memory) = take(&[b'x'; 700]);
    assert_eq!(partial, 700);
    assert!((700..=LINE_BYTES_MAX).contains(&memory));
    assert_eq!(take(b"\n"), (0, 0));
    // A blank line that was cut is no line and keeps nothing.
    assert_eq!(take(&[b' '; 700]).0, 700);
    assert_eq!(take(b"\r\n"), (0, 0));
}

#[test]
fn undrained_lines_are_lost_whole() {
    let mut splitter = Splitter::new();
    assert_eq!(splitter.feed(b"{\"a").next(), None);
    assert_eq!(splitter.feed(b"\"}\n{b}\n").next(), Some(Ok(&b"{\"a\"}"[..])));
    assert_eq!(splitter.partial_bytes(), 0);
    assert_eq!(splitter.feed(b"{c}\n").next(), Some(Ok(&b"{c}"[..])));
}

proptest! {
    #[test]
    fn any_split_gives_the_same_lines(
        bytes in prop::collection::vec(
            prop_oneof![6 => Just(b'x'), 2 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()],
            0..400,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let expected: Vec<Vec<u8>> = {
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let lines = bytes[..end].split(|byte| *byte == b'\n');
            let lines = lines.filter(|line| {
                line.iter().any(|byte| !matches!(byte, b' ' | b'\t' | b'\r'))
            });
            lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()).collect()
        };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(split(&pieces), Ok(expected));
    }

    #[test]
    fn long_lines_end_at_the_same_byte_in_any_split(
        length in LINE_BYTES_MAX - 3..LINE_BYTES_MAX + 3,
        step in 1..3000_usize,
    ) {
        let mut bytes = alloc::vec![b'x'; length];
        bytes.push(b'\n');
        let pieces: Vec<_> = bytes.chunks(step).collect();
        prop_assert_eq!(split(&pieces).is_ok(), length <= LINE_BYTES_MAX);
    }
}
