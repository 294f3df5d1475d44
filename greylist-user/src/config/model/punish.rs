//! The keys of `[punish]`.

use std::time::Duration;

use super::Visitor;
use crate::policy::{Neighbours, Punish, Sentence};

pub(super) fn visit(punish: &mut Punish, v: &mut impl Visitor) {
    v.section("punish", "Who hammers, and what it costs.");
    visit_actions(punish, v);
    visit_retries(punish, v);
    visit_hopping(punish, v);
    visit_failures(punish, v);
    visit_sentences(punish, v);
    visit_protection(punish, v);
}

fn visit_actions(punish: &mut Punish, v: &mut impl Visitor) {
    v.key(
        "action",
        &mut punish.action,
        "\"enforce\" sentences offenders; \"observe\" counts whom it would have. Orders of \
         `greygate punish` hold either way.",
    );
    v.key(
        "strike_action",
        &mut punish.strike_action,
        "\"enforce\" makes a strike of an offence; \"observe\" counts it and remembers nothing, so \
         that no sentence follows.",
    );
    v.key(
        "extra_delay_action",
        &mut punish.extra_delay_action,
        "\"enforce\" makes a tuple wait longer for early retries; \"observe\" counts them.",
    );
    v.key(
        "hopping_action",
        &mut punish.hopping_action,
        "\"enforce\" makes relay hopping an offence, and remembers its HELO argument; \"observe\" \
         counts it.",
    );
}

fn visit_retries(punish: &mut Punish, v: &mut impl Visitor) {
    v.bounded(
        "extra_delay",
        &mut punish.extra_delay,
        Duration::ZERO..=Duration::from_hours(1),
        "What an early retry adds to its tuple's delay. Exchange, which retries four times a \
         minute apart, still passes within those four.",
    );
    v.bounded(
        "extra_delay_share",
        &mut punish.extra_delay_share,
        0..=1_000,
        "The most that an early retry adds, in percent of the time since the attempt before. Above \
         100 the window moves away from who keeps retrying, up to the limit.",
    );
    v.bounded(
        "extra_delay_limit",
        &mut punish.extra_delay_limit,
        Duration::ZERO..=Duration::from_hours(12),
        "The most that is added to a tuple's delay. Unset, it is an hour, or half of what lies \
         between delay and the end of retry_window where that is less.",
    );
    v.bounded(
        "round",
        &mut punish.round,
        Duration::ZERO..=Duration::from_mins(10),
        "Attempts on one tuple at different addresses of this site within this time are one: a \
         delivery round over its MX hosts. 0s counts each.",
    );
    v.bounded(
        "rapid_interval",
        &mut punish.rapid_interval,
        Duration::from_millis(1)..=Duration::from_mins(10),
        "Retries of one message at most this far apart are rapid. No mail queue retries \
         within eight seconds.",
    );
    v.bounded(
        "rapid_retries",
        &mut punish.rapid_retries,
        2..=1_000,
        "Rapid retries in a row that are an offence.",
    );
    v.bounded(
        "rapid_span",
        &mut punish.rapid_span,
        Duration::ZERO..=Duration::from_hours(1),
        "The least time those retries must span, so that one burst is not enough.",
    );
}

fn visit_hopping(punish: &mut Punish, v: &mut impl Visitor) {
    v.bounded(
        "hopping_attempts",
        &mut punish.hopping_attempts,
        3..=16,
        "Attempts with one HELO argument at one recipient, from as many networks that share no \
         registered domain, that are relay hopping. 5 to 10 is what the field uses; fewer may hit \
         an honest sender with several providers.",
    );
    v.bounded(
        "hopping_window",
        &mut punish.hopping_window,
        Duration::from_secs(1)..=Duration::from_mins(10),
        "The time within which they come. No honest sender changes its provider in half a minute.",
    );
    v.bounded(
        "hopping_memory",
        &mut punish.hopping_memory,
        Duration::from_secs(1)..=Duration::from_hours(30 * 24),
        "How long a HELO argument is remembered for it.",
    );
    v.bounded(
        "hopping_delay",
        &mut punish.hopping_delay,
        Duration::ZERO..=Duration::from_hours(12),
        "What is added to the delay of a tuple whose client uses such a HELO argument. Unset, it \
         is 15 minutes, or extra_delay_limit where that is less.",
    );
}

fn visit_failures(punish: &mut Punish, v: &mut impl Visitor) {
    v.bounded(
        "rejected_retries",
        &mut punish.rejected_retries,
        1..=1_000,
        "Retries of one message after a permanent failure that are still no offence: the next one \
         is. A queue gives up at the first 5yz.",
    );
    v.bounded(
        "rejected_window",
        &mut punish.rejected_window,
        Duration::from_secs(1)..=Duration::from_hours(24),
        "The time after the failure within which they count.",
    );
    v.key(
        "rejected_recipients",
        &mut punish.rejected_recipients,
        "Recipients that the MTA rejected to one client within rejected_window that are still no \
         offence; more are, if they are four fifths of all it named: somebody tries a dictionary. 0 \
         is never.",
    );
}

fn visit_sentences(punish: &mut Punish, v: &mut impl Visitor) {
    v.bounded(
        "sentence",
        &mut punish.sentence,
        Duration::from_secs(1)..=Sentence::LONGEST,
        "How long the first strike keeps a client at level rate, and up to a tenth more, so that not \
         all are free at once; also how long an order of `greygate punish` is that names no time.",
    );
    v.key(
        "blocks",
        &mut punish.blocks,
        "How long the second and each further strike block a client; the last stands for all that \
         follow. Those above a day need a client with no pass on record.",
    );
    v.bounded(
        "forgive_after",
        &mut punish.forgive_after,
        Duration::from_secs(1)..=Duration::from_hours(400 * 24),
        "After this time without a strike a client's strikes count no more.",
    );
    v.bounded(
        "neighbours",
        &mut punish.neighbours,
        0..=MOST_NEIGHBOURS,
        "Distinct hosts of a /24 or /64 that hold strikes before the network is sentenced, if none \
         in it has a good record; 0 is never.",
    );
    v.key(
        "persistent_drops",
        &mut punish.persistent_drops,
        "Connections dropped in the kernel during a sentence that make it longer, once, by its own \
         length and by a day at most; 0 is never. A hundred are some twenty tries, since a SYN comes \
         about five times. No more follows from them, since a SYN's source can be forged.",
    );
    v.key(
        "contact",
        &mut punish.contact,
        "Whom the sentenced are told to write to, or a link: part of the 421 that they get. A bare \
         name gets this machine's host name behind it. Mail to it must reach you by another way than from a blocked host.",
    );
}

fn visit_protection(punish: &mut Punish, v: &mut impl Visitor) {
    v.bounded(
        "warmup",
        &mut punish.warmup,
        Duration::ZERO..=Duration::from_hours(90 * 24),
        "Blocks are only observed until the history is this long: who has seen little yet knows no \
         good record. It survives a restart.",
    );
    v.bounded(
        "grace",
        &mut punish.grace,
        Duration::ZERO..=Duration::from_hours(24),
        "Nothing is an offence until the history is this long: after a cold start everybody looks \
         new.",
    );
    v.bounded(
        "authenticated",
        &mut punish.authenticated,
        Duration::ZERO..=Duration::from_hours(400 * 24),
        "How long a successful AUTH shields its client from every sentence.",
    );
    v.key(
        "private",
        &mut punish.private,
        "Whether clients with private addresses (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, \
         100.64.0.0/10, fc00::/7; of translators from IPv4, 64:ff9b::/96 and 64:ff9b:1::/48) are \
         sentenced like others. Behind such an address stands a neighbour, or a proxy with \
         everybody behind it. Loopback and link-local never are.",
    );
}

/// As many as are remembered.
#[expect(clippy::cast_possible_truncation, reason = "it is 4")]
const MOST_NEIGHBOURS: u8 = Neighbours::REMEMBERED as u8;
