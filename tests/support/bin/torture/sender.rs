//! One sender with a script and a ledger: what it asked when, what it was told when, and whether that
//! can be right. Each of its tuples has a page of its own in `tuple`.
//!
//! The ledger trusts nothing that the daemon says of itself. It knows only when it asked, when the
//! answer was there, and what the chronicle tells of the time between.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use greygate::milter::Endpoint;

use super::{
    books::{Books, Count},
    chance::Chance,
    chronicle::{Chronicle, Excuse, Known, Lost, Span},
    tuple::Tuple,
    visit::{Fate, Visit},
};

/// The delays that the daemon is configured with.
pub(crate) const DELAY: Duration = Duration::from_secs(1);
pub(crate) const CONTENT_DELAY: Duration = Duration::from_millis(500);
/// Passes after which a sender is trusted, by configuration.
pub(crate) const TRUST_AFTER: usize = 2;

/// What a sender does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Tries once and never again.
    Bot,
    /// Retries after the delay, some of them before it too, and sends on later.
    Server { recipients: u32, hurries: bool },
    /// Earns trust by two recipients, and writes to new ones then.
    Regular,
    /// Retries from another network each time, so that its message is read.
    Pool,
}

/// A sender under way.
#[derive(Debug)]
pub(crate) struct Sender {
    number: u32,
    script: Script,
    /// When it sends next.
    pub(crate) due: Instant,
    tuples: Vec<Tuple>,
    /// When it passed, each time that counts towards trust for certain.
    passes: Vec<Instant>,
    /// When it may have passed, or passed and may have been trusted already, which counts nothing.
    possible_passes: Vec<Instant>,
    /// When it was last trusted.
    trusted: Option<Instant>,
    /// When its message was first read.
    read: Option<Span>,
    asked: u32,
    visits_left: u32,
    hurries: bool,
    is_done: bool,
}

/// What a sender has in hand.
#[derive(Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub(crate) books: &'a Books,
    pub(crate) chronicle: &'a Chronicle,
    pub(crate) endpoint: &'a Endpoint,
}

impl Sender {
    /// The sender of this number; its script follows from chance.
    pub(crate) fn new(number: u32, chance: &mut Chance) -> Self {
        let script = match chance.within(0..10) {
            0 => Script::Bot,
            1 => Script::Regular,
            2 => Script::Pool,
            3 => Script::Server {
                recipients: 3,
                hurries: false,
            },
            other => Script::Server {
                recipients: 1,
                hurries: other == 4,
            },
        };
        let tuples = match script {
            Script::Server { recipients, .. } => recipients,
            _ => 1,
        };
        Self {
            number,
            script,
            due: Instant::now(),
            tuples: vec![Tuple::default(); usize::try_from(tuples).unwrap_or(1)],
            passes: Vec::new(),
            possible_passes: Vec::new(),
            trusted: None,
            read: None,
            asked: 0,
            visits_left: 4,
            hurries: matches!(script, Script::Server { hurries: true, .. }),
            is_done: false,
        }
    }

    /// Whether there is nothing more to send.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Sends once, and enters what came of it.
    pub(crate) fn send(&mut self, desk: Desk<'_>, chance: &mut Chance) {
        let domain = format!("d{}.sender.example", self.number);
        let sender = format!("someone@{domain}");
        let recipients: Vec<String> = self.recipients();
        let message = match self.script {
            Script::Pool => self.number.to_string(),
            _ => format!("{}.{}", self.number, self.asked),
        };
        let visit = Visit {
            client: self.client(),
            helo: &format!("mail.{domain}"),
            sender: &sender,
            recipients: recipients.iter().map(String::as_str).collect(),
            message: &message,
        };
        let from = Instant::now();
        let made = visit.make(desk.endpoint);
        let span = Span::since(from);
        self.asked += 1;
        desk.books.count(Count::Sessions);
        match made {
            Ok(fates) => self.enter(desk, span, &fates, chance),
            Err(error) => self.broken_off(desk, span, &error),
        }
    }

    fn client(&self) -> IpAddr {
        let network = match self.script {
            Script::Pool => 11 + self.asked % 3,
            _ => 11,
        };
        if self.number % 8 == 5 && self.script != Script::Pool {
            let number = u128::from(self.number);
            return Ipv6Addr::from((0x2a00_u128 << 112) | (number << 64) | 1).into();
        }
        Ipv4Addr::from((network << 24) | (self.number & 0xff_ffff)).into()
    }

    fn recipients(&self) -> Vec<String> {
        let number = self.number;
        match self.script {
            Script::Regular => {
                let last = self.tuples.len() - 1;
                vec![format!("r{number}.{last}@here.example")]
            }
            _ => (0..self.tuples.len())
                .map(|index| format!("r{number}.{index}@here.example"))
                .collect(),
        }
    }

    /// The session ended without an answer. That may be recorded, and may not.
    fn broken_off(&mut self, desk: Desk<'_>, span: Span, error: &io::Error) {
        desk.books.count(Count::BrokenOff);
        check_broken_off(desk, span, error, &format!("sender {}", self.number));
        let may_pass = |tuple: &Tuple| tuple.passed.is_some() || tuple.may_be_due(desk, span);
        if self.may_be_trusted() || self.current().iter().any(may_pass) {
            self.possible_passes.push(span.end());
        }
        for tuple in self.current() {
            tuple.asks.push(span);
        }
        // What a pool or a regular may have earned meanwhile is not known.
        self.is_done = matches!(self.script, Script::Pool | Script::Bot);
        self.due = Instant::now() + AGAIN;
    }

    fn enter(&mut self, desk: Desk<'_>, span: Span, fates: &[Fate], chance: &mut Chance) {
        for fate in fates {
            desk.books.count(Count::Answers);
            desk.books.count(match fate {
                Fate::Deferred => Count::Deferrals,
                Fate::DeferredAtEnd => Count::Read,
                Fate::Passed => Count::Passes,
                Fate::TurnedAway => Count::TurnedAway,
            });
            if *fate == Fate::TurnedAway {
                let what = format!(
                    "sender {} is turned away, and was never sentenced",
                    self.number
                );
                desk.books.violate(desk.chronicle, span.end(), &what);
                self.is_done = true;
                return;
            }
        }
        if desk.chronicle.excuses(Excuse::Rules, span) {
            // Under other rules anything may be said; who passed by them is no longer followed.
            self.is_done = fates.contains(&Fate::Passed) || self.script == Script::Pool;
            for tuple in self.current() {
                tuple.asks.push(span);
            }
            self.due = span.end() + DELAY;
            return;
        }
        match self.script {
            Script::Pool => self.enter_pool(desk, span, fates[0]),
            Script::Regular => self.enter_regular(desk, span, fates[0]),
            Script::Bot | Script::Server { .. } => {
                self.enter_tuples(desk, span, fates);
                let passes = fates.iter().filter(|fate| **fate == Fate::Passed);
                let passes = passes.map(|_| span.end());
                self.possible_passes.extend(passes);
            }
        }
        self.plan(span, fates, chance);
    }

    fn enter_tuples(&mut self, desk: Desk<'_>, span: Span, fates: &[Fate]) {
        let number = self.number;
        // Each recipient that passes may make the next one's sender a trusted one.
        let mut earned = self.passes.len() + self.possible_passes.len();
        for (tuple, fate) in self.current().iter_mut().zip(fates) {
            let passed = *fate == Fate::Passed;
            tuple.enter(desk, span, passed, number, earned >= TRUST_AFTER);
            earned += usize::from(passed);
        }
    }

    /// Two recipients earn trust; then each new one passes at once.
    fn enter_regular(&mut self, desk: Desk<'_>, span: Span, fate: Fate) {
        let is_new = self.current()[0].asks.is_empty();
        let passed = fate == Fate::Passed;
        let may_be_trusted = self.may_be_trusted();
        let is_trusted = self.passes.len() >= TRUST_AFTER;
        if is_new && passed && !may_be_trusted {
            let few = self.passes.len();
            let what = format!("sender {} is trusted after {few} passes", self.number);
            desk.books.violate(desk.chronicle, span.end(), &what);
        }
        if passed && may_be_trusted {
            // By trust or by itself: a tuple that is trusted need not wait.
            desk.books.count(Count::TrustedPasses);
            if is_new {
                self.trusted = Some(span.from);
            }
            self.current()[0].passed.get_or_insert(span);
        } else if is_new && is_trusted {
            self.check_trust_lost(desk, span);
            // Of what it had earned, something is missing.
            self.passes.clear();
            self.possible_passes = vec![span.end(); TRUST_AFTER - 1];
            self.trusted = None;
        }
        self.enter_tuples(desk, span, &[fate]);
        if passed && !may_be_trusted {
            self.passes.push(span.end());
        } else if passed && !is_new {
            self.possible_passes.push(span.end());
        }
    }

    fn may_be_trusted(&self) -> bool {
        self.passes.len() + self.possible_passes.len() >= TRUST_AFTER
    }

    /// Trust that was earned does not hold: whether that may be. It takes two passes, so all but one of
    /// those that count must have an excuse; and one of all that may have counted, since it was last seen.
    fn check_trust_lost(&self, desk: Desk<'_>, span: Span) {
        let lost = |answered: Instant, seen| {
            let seen = answered.max(seen);
            desk.chronicle.lost(Known { answered, seen }, span.end())
        };
        let passes = self.passes.iter();
        let mut missing: Vec<_> = passes.clone().map(|it| lost(*it, *it)).collect();
        missing.sort_unstable_by_key(Lost::gravity);
        let mut gravest = missing[missing.len() - TRUST_AFTER];
        if let Some(trusted) = self.trusted {
            // What came later was not what it rested on then.
            let all = passes
                .chain(&self.possible_passes)
                .filter(|it| **it <= trusted);
            let since = all.map(|it| lost(*it, trusted)).min_by_key(Lost::gravity);
            gravest = since
                .into_iter()
                .chain([gravest])
                .max_by_key(Lost::gravity)
                .unwrap_or(gravest);
        }
        enter_lost(
            desk,
            gravest,
            span,
            &format!("trust of sender {}", self.number),
        );
    }

    /// RCPT from the first network, the message from the second, through from the third.
    fn enter_pool(&mut self, desk: Desk<'_>, span: Span, fate: Fate) {
        let number = self.number;
        let first = self.tuples[0].first;
        let chronicle = desk.chronicle;
        let since = first.map_or(span.from, |it| it.from);
        let whole = Span {
            from: since,
            to: span.to,
        };
        if chronicle.steps_within(whole) || chronicle.excuses(Excuse::Rules, whole) {
            self.is_done = true;
            return;
        }
        let waited = |since: Span| span.end() - since.from;
        match (fate, first, self.read) {
            (Fate::Passed, _, Some(read)) if waited(read) >= CONTENT_DELAY => self.is_done = true,
            (Fate::Passed, _, _) => {
                let what = format!("message of pool {number} passed before it had come again");
                desk.books.violate(chronicle, span.end(), &what);
                self.is_done = true;
            }
            (Fate::DeferredAtEnd, None, _) => {
                let what = format!("message of pool {number} was read before its pair was known");
                desk.books.violate(chronicle, span.end(), &what);
                self.is_done = true;
            }
            (_, None, _) => self.tuples[0].first = Some(span),
            (Fate::DeferredAtEnd, Some(first), None) => {
                if waited(first) < DELAY {
                    let what =
                        format!("message of pool {number} was read before the delay was over");
                    desk.books.violate(chronicle, span.end(), &what);
                }
                survived(desk, Known::at(first.end()), span);
                self.read = Some(span);
            }
            (Fate::DeferredAtEnd, _, Some(read)) => {
                let what = format!("fingerprint of the message of pool {number}");
                check_lost(desk, Known::at(read.end()), span, &what);
                self.is_done = true;
            }
            (_, Some(first), _) => {
                let what = format!("pair of pool {number}");
                let known = Known {
                    answered: first.end(),
                    seen: self.read.map_or(first.end(), |read| read.from),
                };
                check_lost(desk, known, span, &what);
                self.is_done = true;
            }
        }
    }

    /// When it sends next, if it does.
    fn plan(&mut self, span: Span, fates: &[Fate], chance: &mut Chance) {
        let later = |chance: &mut Chance, from: u64, to: u64| {
            Instant::now() + Duration::from_millis(chance.within(from..to))
        };
        self.visits_left = self.visits_left.saturating_sub(1);
        let all_passed = fates.iter().all(|fate| *fate == Fate::Passed);
        let after_delay = span.end() + DELAY + Duration::from_millis(chance.within(20..400));
        match self.script {
            Script::Bot => self.is_done = true,
            Script::Pool if self.read.is_some() => {
                self.due =
                    span.end() + CONTENT_DELAY + Duration::from_millis(chance.within(20..900));
            }
            Script::Server { .. } if self.hurries => {
                self.hurries = false;
                self.due = later(chance, 100, 600);
            }
            _ if !all_passed => self.due = after_delay,
            Script::Regular => {
                self.tuples.push(Tuple::default());
                // Most go on for long, so that trust is asked of after many faults.
                self.is_done = self.tuples.len() > 40;
                self.due = later(chance, 50, 1_500);
            }
            _ => {
                self.is_done = self.visits_left == 0;
                self.due = later(chance, 100, 4_000);
            }
        }
    }

    /// The ledgers of the recipients that are written to now.
    fn current(&mut self) -> &mut [Tuple] {
        let begin = match self.script {
            Script::Regular => self.tuples.len() - 1,
            _ => 0,
        };
        &mut self.tuples[begin..]
    }
}

/// A session ended without an answer, which it may while the daemon is away. No answer in time and a
/// reply that nobody is owed are wrong even then.
pub(crate) fn check_broken_off(desk: Desk<'_>, span: Span, error: &io::Error, whose: &str) {
    let is_wrong = matches!(
        error.kind(),
        io::ErrorKind::Other | io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    );
    if is_wrong || !desk.chronicle.excuses(Excuse::Away, span) {
        let what = format!("session of {whose} broke off: {error}");
        desk.books.violate(desk.chronicle, span.end(), &what);
    }
}

/// Something is not remembered that was answered for: whether that may be.
pub(crate) fn check_lost(desk: Desk<'_>, known: Known, span: Span, what: &str) {
    let lost = desk.chronicle.lost(known, span.end());
    enter_lost(desk, lost, span, what);
}

fn enter_lost(desk: Desk<'_>, lost: Lost, span: Span, what: &str) {
    let Desk {
        books, chronicle, ..
    } = desk;
    match lost {
        Lost::Within(age) => books.lost(age),
        Lost::Undurable => books.count(Count::LostOnFullDisk),
        Lost::TooOld(age) => {
            let what = format!("{what} was lost, {age:.3?} old when the daemon ended");
            books.violate(chronicle, span.end(), &what);
        }
        Lost::WithoutReason => {
            let what = format!("{what} was lost, and the daemon had not ended");
            books.violate(chronicle, span.end(), &what);
        }
    }
}

/// Something is remembered: if the daemon ended meanwhile, that is counted.
pub(crate) fn survived(desk: Desk<'_>, known: Known, span: Span) {
    if desk.chronicle.lost(known, span.end()) != Lost::WithoutReason {
        desk.books.count(Count::SurvivedLoss);
    }
}

/// When a session that broke off is tried again.
const AGAIN: Duration = Duration::from_millis(150);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(1);

    /// How much the books find wrong with what is entered.
    pub(crate) fn violations_of(enter: impl FnOnce(Desk<'_>)) -> usize {
        let (books, chronicle) = (Books::new(1), Chronicle::new());
        enter(Desk {
            books: &books,
            chronicle: &chronicle,
            endpoint: &Endpoint::Unix("/nowhere".into()),
        });
        books.violations().len()
    }

    /// What the books say of trust that is gone, of a sender that passed so long before a kill, and was in
    /// a session when it came.
    fn violations(passes: &[Duration], trusted: bool) -> usize {
        let mut sender = Sender::new(1, &mut Chance::new(1));
        let now = Instant::now();
        let ago = |time: Duration| {
            now.checked_sub(time)
                .expect("the machine has run for longer")
        };
        sender.passes = passes.iter().map(|it| ago(*it)).collect();
        sender.trusted = trusted.then(|| ago(BOUND / 2));
        violations_of(|desk| {
            desk.chronicle.begin_loss(Some(BOUND), BOUND);
            desk.chronicle.end_loss();
            sender.possible_passes.push(Instant::now());
            sender.check_trust_lost(desk, Span::since(Instant::now()));
        })
    }

    #[test]
    fn trust_is_lost_with_the_passes_that_earned_it() {
        assert_eq!(violations(&[BOUND * 9, BOUND / 2], false), 0);
        assert_eq!(violations(&[BOUND * 9, BOUND * 8], false), 1);
    }

    #[test]
    fn trust_outlasts_a_pass_that_it_does_not_need() {
        assert_eq!(violations(&[BOUND * 9, BOUND * 8, BOUND / 2], false), 1);
        assert_eq!(violations(&[BOUND * 9, BOUND / 2, BOUND / 3], false), 0);
    }

    #[test]
    fn trust_that_was_used_is_lost_only_with_what_came_late() {
        assert_eq!(violations(&[BOUND * 9, BOUND / 2], true), 0);
        assert_eq!(violations(&[BOUND * 9, BOUND * 8], true), 1);
    }
}
