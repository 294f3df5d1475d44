//! When behaviour becomes an offence, and what it costs.

use std::time::Duration;

use super::Action;

/// When behaviour becomes an offence, and what it costs.
///
/// Each consequence has an action of its own, so that an operator can watch one before it is
/// carried out: the extra delay of a tuple, what relay hopping leads to, the strike, the sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Punish {
    /// Whether sentences are carried out, or only counted.
    pub action: Action,
    /// Whether offences are strikes, or only counted.
    pub strike_action: Action,
    /// Whether a tuple waits the extra delay that early retries, and relay hopping, have added, or
    /// is only counted when it would.
    pub extra_delay_action: Action,
    /// Whether relay hopping is followed by anything, or only counted.
    pub hopping_action: Action,
    /// What an early retry adds to its tuple's delay. Default 15 s: Exchange, which retries four
    /// times a minute apart, still passes within those four.
    pub extra_delay: Duration,
    /// The most that an early retry adds, in percent of the time since the attempt before. Default
    /// 50. Above 100 the window moves away from who keeps retrying, up to the limit.
    pub extra_delay_share: u16,
    /// The most that is added to a tuple's delay by early retries. Default 1 h, at most 12 h.
    pub extra_delay_limit: Duration,
    /// Attempts on one tuple at different addresses of this site within this time are one: a
    /// delivery round over its MX hosts. Default 10 s; zero counts each.
    pub round: Duration,
    /// Retries at most this far apart are rapid. Default 8 s: no queue retries that fast.
    pub rapid_interval: Duration,
    /// Rapid retries in a row that make an offence. Default 5.
    pub rapid_retries: u16,
    /// The least time those retries must span. Default 30 s, so that one burst is not enough.
    pub rapid_span: Duration,
    /// Attempts with one HELO argument at one recipient, from as many networks that share no
    /// registered domain, that are relay hopping. Default 5, 3 to 16; the table says 5 to 10.
    pub hopping_attempts: u8,
    /// The time within which they come. Default 30 s.
    pub hopping_window: Duration,
    /// How long a HELO argument is remembered for it. Default 24 h.
    pub hopping_memory: Duration,
    /// The extra delay of a tuple whose client uses such a HELO argument. Default 15 min.
    pub hopping_delay: Duration,
    /// Retries of one message after a permanent failure that are still no offence. Default 5: the
    /// sixth is.
    pub rejected_retries: u16,
    /// The time after the failure within which they count. Default 1 h.
    pub rejected_window: Duration,
    /// Recipients that the MTA rejected to one client within
    /// [`rejected_window`](Self::rejected_window) that are still no offence; more are, if they are at
    /// least four fifths of all it named. Default 100; 0 means never.
    pub rejected_recipients: u16,
    /// How long the first strike keeps a client at level rate, up to a tenth more; also how long an
    /// operator's sentence is if he says nothing. Default 30 min.
    pub sentence: Duration,
    /// How long the second and each further strike block a client; the last stands for all that
    /// follow. Default 1, 7 and 28 days. Those above a day need a client with no pass on record.
    pub blocks: Vec<Duration>,
    /// After this time without a strike a client's strikes count no more. Default 30 d.
    pub forgive_after: Duration,
    /// Distinct hosts of a `/24` or `/64` that hold strikes before the network is sentenced.
    /// Default 4, the most that are remembered; 0 means never.
    pub neighbours: u8,
    /// Blocks are only observed until the history is this long. Default 7 d.
    pub warmup: Duration,
    /// Nothing is an offence until the history is this long. Default 1 min: after a cold start
    /// everybody looks new.
    pub grace: Duration,
    /// How long a successful AUTH shields its client. Default 14 d.
    pub authenticated: Duration,
    /// Whom the sentenced are told to write to, or a link; part of the 421 reply.
    pub contact: String,
    /// Connections dropped in the kernel during a sentence that lengthen it once, by its own length
    /// and by a day at most. Default 100, some twenty tries: a SYN comes about five times; 0 means never.
    pub persistent_drops: u32,
    /// Whether clients with private addresses are sentenced like others. Default no: behind such
    /// an address stands a neighbour, or a proxy with everybody behind it.
    pub private: bool,
}

impl Default for Punish {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self {
            action: Action::Enforce,
            strike_action: Action::Enforce,
            extra_delay_action: Action::Enforce,
            hopping_action: Action::Enforce,
            extra_delay: Duration::from_secs(15),
            extra_delay_share: 50,
            extra_delay_limit: Duration::from_hours(1),
            round: Duration::from_secs(10),
            rapid_interval: Duration::from_secs(8),
            rapid_retries: 5,
            rapid_span: Duration::from_secs(30),
            hopping_attempts: 5,
            hopping_window: Duration::from_secs(30),
            hopping_memory: days(1),
            hopping_delay: Duration::from_mins(15),
            rejected_retries: 5,
            rejected_window: Duration::from_hours(1),
            rejected_recipients: 100,
            sentence: Duration::from_mins(30),
            blocks: vec![days(1), days(7), days(28)],
            forgive_after: days(30),
            neighbours: 4,
            warmup: days(7),
            grace: Duration::from_mins(1),
            authenticated: days(14),
            contact: "postmaster".to_owned(),
            persistent_drops: 100,
            private: false,
        }
    }
}
