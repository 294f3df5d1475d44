//! Who is asked, a list or the servers for SPF, and whether it can be believed.
//!
//! A source is asked once it has stood a test, and as long as it answers. For a list the test is that
//! of RFC 5782, section 5: it has 127.0.0.2 and not 127.0.0.1, or else it lists nobody, or everybody,
//! or its domain is somebody else's now. The servers are asked for the root. Who fails again and again
//! is left alone for a while and then tested, by a question of ours and no client's: nobody waits for
//! it meanwhile.
//!
//! Anybody can send mail from domains whose servers are dead. So failures of SPF only have the servers
//! tested, at once, and it is that test which counts.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::resolve::{Failure, Resolver};
use super::settings::{Settings, Zone};
use super::zone::{self, Word};

/// What kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Allowlist,
    Blocklist,
    Spf,
}

impl Kind {
    /// The word for it in metrics and status.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Allowlist => "allowlist",
            Self::Blocklist => "blocklist",
            Self::Spf => "spf",
        }
    }
}

/// How the sources stand, for whoever wants to know. Written by the thread that asks.
#[derive(Debug)]
pub struct Board {
    standings: Mutex<Vec<Standing>>,
}

/// How one source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `allowlist`, `blocklist` or `spf`.
    pub kind: &'static str,
    /// The zone of a list, without a subscriber's key; empty for the servers of SPF.
    pub name: String,
    /// Whether it is asked.
    pub is_up: bool,
    /// Why not; empty while it has not been tested.
    pub why: String,
}

impl Standing {
    /// What there is to say to an operator.
    pub(super) fn complaint(&self) -> Option<String> {
        if self.is_up || self.why.is_empty() {
            return None;
        }
        let Self {
            kind, name, why, ..
        } = self;
        Some(match *kind {
            "spf" => format!(
                "the DNS {why}: nobody is known by SPF; see [dns] servers or /etc/resolv.conf"
            ),
            kind => format!("the {kind} {name} {why}: mail is judged without it; see [dns]"),
        })
    }
}

impl Board {
    pub(super) fn of(settings: &Settings) -> Self {
        let standings = sources(settings).map(|(kind, zone)| Standing {
            kind: kind.word(),
            name: zone.map(Zone::shown).unwrap_or_default(),
            is_up: false,
            why: String::new(),
        });
        Self {
            standings: Mutex::new(standings.collect()),
        }
    }

    pub(super) fn standings(&self) -> Vec<Standing> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Standing>> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocklists, then the allowlists, then what stands for the servers.
fn sources(settings: &Settings) -> impl Iterator<Item = (Kind, Option<&Zone>)> {
    let blocklists = settings.blocklists.iter();
    let allowlists = settings.allowlists.iter();
    blocklists
        .map(|zone| (Kind::Blocklist, Some(zone)))
        .chain(allowlists.map(|zone| (Kind::Allowlist, Some(zone))))
        .chain([(Kind::Spf, None)])
}

/// A source as the thread knows it.
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) zone: Option<Zone>,
    place: usize,
    is_up: Cell<bool>,
    failures: Cell<u32>,
    /// Why it was said to be down; it is said once.
    told: RefCell<Option<String>>,
    /// It was up, and there is reason to test it.
    pub(super) doubted: Notify,
}

impl Source {
    /// All of `settings`.
    pub(super) fn all(settings: &Settings) -> Vec<Self> {
        let all = sources(settings).enumerate();
        all.map(|(place, (kind, zone))| Self {
            kind,
            zone: zone.cloned(),
            place,
            is_up: Cell::new(false),
            failures: Cell::new(0),
            told: RefCell::new(None),
            doubted: Notify::new(),
        })
        .collect()
    }

    /// Whether it is asked.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.get()
    }

    /// It has answered a question.
    pub(super) fn note_answer(&self) {
        self.failures.set(0);
    }

    /// It has not.
    pub(super) fn note_failure(&self, failure: &Failure, board: &Board) {
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        if failures < FAILURES || !self.is_up() {
            return;
        }
        self.is_up.set(false);
        if self.kind != Kind::Spf {
            self.tell_down(failure.told(), board);
        }
        self.doubted.notify_one();
    }

    /// It has said that it will not, or has answered what no list does.
    pub(super) fn note_unusable(&self, why: String, board: &Board) {
        if self.is_up() {
            self.is_up.set(false);
            self.tell_down(why, board);
            self.doubted.notify_one();
        }
    }

    /// It has stood its test.
    pub(super) fn comes_up(&self, board: &Board) {
        self.is_up.set(true);
        self.failures.set(0);
        if self.told.take().is_some() {
            tracing::info!(source = self.kind.word(), zone = self.shown(), "dns-up");
        }
        let standing = &mut board.lock()[self.place];
        standing.is_up = true;
        standing.why.clear();
    }

    /// It has not stood its test.
    pub(super) fn goes_down(&self, why: String, board: &Board) {
        self.is_up.set(false);
        self.tell_down(why, board);
    }

    fn tell_down(&self, why: String, board: &Board) {
        let why = self.without_key(why);
        if self.told.borrow().is_none() {
            let zone = self.shown();
            tracing::warn!(source = self.kind.word(), zone, why, "dns-down");
        }
        self.told.replace(Some(why.clone()));
        let standing = &mut board.lock()[self.place];
        standing.is_up = false;
        standing.why = why;
    }

    /// `why` without a subscriber's key: what the library says of an error may name the question.
    fn without_key(&self, why: String) -> String {
        match &self.zone {
            Some(zone) => why.replace(zone.as_str(), &zone.shown()),
            None => why,
        }
    }

    fn shown(&self) -> Option<String> {
        self.zone.as_ref().map(Zone::shown)
    }

    /// What `answers` of the list mean.
    pub(super) fn says(&self, answers: &[Ipv4Addr]) -> Word {
        let answers = answers.iter().copied();
        match self.kind {
            Kind::Allowlist => zone::allowlist_says(answers),
            Kind::Blocklist | Kind::Spf => zone::blocklist_says(answers),
        }
    }

    /// Tests it, and says what is wrong.
    pub(super) async fn test(&self, resolver: &Resolver) -> Result<(), String> {
        let Some(zone) = &self.zone else {
            let answers = resolver.answers().await;
            return answers.map_err(|failure| failure.told());
        };
        let ask = async |address: Ipv4Addr| {
            let name = zone::name_in(zone, IpAddr::V4(address));
            let found = resolver.addresses_anew(&name).await;
            let found = found.map_err(|failure| failure.told())?;
            Ok::<_, String>(self.says(&found.addresses))
        };
        let listed = ask(LISTED).await?;
        if let Some(why) = unusable(listed) {
            return Err(why);
        }
        if self.kind == Kind::Blocklist && listed == Word::Unlisted {
            return Err(format!("does not list {LISTED}, which every list does"));
        }
        match ask(UNLISTED).await? {
            Word::Listed(_) => Err(format!("lists {UNLISTED}, and so everybody")),
            word => unusable(word).map_or(Ok(()), Err),
        }
    }
}

/// What is wrong with a list that says `word`.
pub(super) fn unusable(word: Word) -> Option<String> {
    match word {
        Word::Listed(_) | Word::Unlisted => None,
        Word::Refused(code) => Some(format!(
            "refuses with {code}: most do not answer public resolvers, nor whoever asks too much"
        )),
        Word::Nonsense(answer) => Some(format!("answers {answer}, which no list does")),
    }
}

/// Failures in a row after which a source is left alone: a lost datagram has been tried again already.
const FAILURES: u32 = 5;

/// What every list has, and none (RFC 5782, 5). An allowlist need not.
const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const UNLISTED: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[cfg(test)]
mod tests {
    use hickory_resolver::net::{DnsError, NetError, NoRecords};
    use hickory_resolver::proto::op::{Query, ResponseCode};
    use hickory_resolver::proto::rr::{Name, RecordType};

    use super::*;

    #[test]
    fn error_that_names_the_question_does_not_tell_the_key_of_a_subscriber() {
        let key = "abcdefghijklmnopqrstuvwxyz";
        let settings = Settings {
            blocklists: vec![format!("{key}.zen.example").parse().expect("a zone")],
            ..Settings::default()
        };
        let board = Board::of(&settings);
        let [list, _] = &Source::all(&settings)[..] else {
            panic!("a list, and the servers");
        };
        let name = zone::name_in(&settings.blocklists[0], IpAddr::V4(LISTED));
        let name = Name::from_ascii(name).expect("a name");
        let query = Query::query(name, RecordType::A);
        let none = NoRecords::new(query, ResponseCode::ServFail);
        let failure = Failure::from(NetError::from(DnsError::NoRecordsFound(none)));
        assert!(failure.told().contains(key), "{}", failure.told());
        list.goes_down(failure.told(), &board);
        let standing = board.standings().remove(0);
        let complaint = standing.complaint().expect("it is down");
        assert!(
            complaint.contains("zen.example cannot be asked"),
            "{complaint}"
        );
        assert!(!complaint.contains(key), "{complaint}");
    }
}
