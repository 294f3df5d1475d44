//! The rows of addresses: the only ones whose length differs.

use super::super::row::KEPT;
use super::super::*;
use super::{encoded, foreign, read, sample, written};
use crate::policy::{ClientKey, TrustKey, TupleKey};
use crate::store::kept::{Kept, KeptOf};

fn kept(client: &str, sender: &str, recipient: &str) -> Kept {
    let client = client.parse().expect("a network");
    let kept = Kept::of(client, sender.as_bytes(), recipient.as_bytes());
    kept.expect("they are short")
}

fn of_a_tuple(sender: &str) -> Row {
    let key = TupleKey::from_bytes([5; 16]);
    Row::Kept(
        KeptOf::Tuple(key),
        kept("192.0.2.7/32", sender, "r@b.example"),
    )
}

/// Byte for byte: what is on a disk somewhere cannot be changed any more.
#[test]
fn addresses_are_laid_out_as_they_were() {
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];
    let laid_out = [
        &b"T"[..],
        &[5; 16],
        &[32],
        &mapped,
        &[11, 0, 11, 0],
        b"s@a.example",
        b"r@b.example",
    ];
    assert_eq!(encoded(&of_a_tuple("s@a.example")), laid_out.concat());
}

#[test]
fn rows_of_different_lengths_follow_each_other() {
    let [sentence, ..] = sample();
    let long = "x".repeat(320);
    let network = kept("2001:db8::/64", "", "");
    let rows = [
        sentence,
        of_a_tuple("s@a.example"),
        of_a_tuple("t@a.example"),
        of_a_tuple(&long),
        of_a_tuple(""),
        Row::Kept(
            KeptOf::Client(ClientKey::from_bytes([6; 16])),
            network.clone(),
        ),
        Row::Kept(KeptOf::Trust(TrustKey::from_bytes([7; 16])), network),
    ];
    assert_eq!(read(&written(&rows)).expect("it is whole"), rows);
}

#[test]
fn addresses_with_fields_of_the_future_are_read_and_of_records_of_the_future_passed_over() {
    let row = of_a_tuple("s@a.example");
    let newer = [encoded(&row), b"later".to_vec()].concat();
    let rows = read(&foreign(KEPT, &[newer])).expect("it is whole");
    assert_eq!(rows.iter().collect::<Vec<_>>(), [&row]);
    let mut other = encoded(&row);
    other[0] = b'?';
    let rows = read(&foreign(KEPT, &[other])).expect("it is whole");
    assert_eq!(rows, [Row::Unknown]);
}

#[test]
fn addresses_that_are_cut_make_no_sense() {
    let whole = encoded(&of_a_tuple("s@a.example"));
    for length in 1..whole.len() {
        let cut = foreign(KEPT, &[whole[..length].to_vec()]);
        assert!(
            matches!(read(&cut), Err(Damage::Nonsense { .. })),
            "{length}"
        );
    }
}
