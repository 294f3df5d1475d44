//! What is done to the daemon: each fault, and what is looked at right after it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::process::ExitStatusExt as _,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use support::{
    error::Error,
    interrupt::{self, settle},
    netns::Namespace,
    process,
};

use super::{
    chance::Chance,
    chronicle::{Excuse, Mark, Span},
    ground::Ground,
    kernel,
    load::Door,
    measure::Held,
    peers,
    rules::RULES,
    sender::Desk,
    visit::{Fate, Visit},
};

/// What can be done to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The wall clock jumps an hour ahead, and back some seconds later
    Clock,
    /// The disk takes nothing for some seconds
    DiskFull,
    /// Something else lies where the pins of the kernel filter go
    ForeignPins,
    /// Somebody else's XDP program is on the interface
    ForeignProgram,
    /// Ten thousand connections that say nothing
    Idle,
    /// SIGKILL
    Kill,
    /// Milter peers that drip, stop half way or talk nonsense
    Peers,
    /// SIGKILL, and what was not synced is cut or torn
    PowerCut,
    /// SIGHUP with other rules, or with a file that is no configuration
    Reload,
    /// SIGTERM
    Terminate,
    /// SIGTERM, `greygate xdp unload`, and a start
    XdpUnload,
}

/// Does the faults, one after the other; some last while others are done.
pub(crate) struct Conductor<'a> {
    pub(crate) desk: Desk<'a>,
    pub(crate) ground: &'a mut Ground,
    pub(crate) mx: &'a Namespace,
    pub(crate) door: Door<'a>,
    pub(crate) chance: Chance,
    /// How old what a kill loses may be.
    pub(crate) bound: Duration,
    /// How many idle connections are opened.
    pub(crate) idle: usize,
    lasting: Vec<Lasting>,
    log_read: usize,
    log_read_at: Instant,
    /// Somebody else's program, while it is attached.
    foreign: Option<aya::Ebpf>,
    fresh_clients: u32,
}

/// A fault that lasts.
#[derive(Clone, Copy, Debug)]
struct Lasting {
    fault: Fault,
    until: Instant,
    mark: Mark,
}

impl Fault {
    /// As `--only` and the report name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::DiskFull => "disk-full",
            Self::ForeignPins => "foreign-pins",
            Self::ForeignProgram => "foreign-program",
            Self::Idle => "idle",
            Self::Kill => "kill",
            Self::Peers => "peers",
            Self::PowerCut => "power-cut",
            Self::Reload => "reload",
            Self::Terminate => "terminate",
            Self::XdpUnload => "xdp-unload",
        }
    }

    /// What is looked at for its sake.
    pub(crate) const fn checked(self) -> &'static str {
        match self {
            Self::Clock => "what waited passes ahead, and nothing is early back",
            Self::DiskFull => "mail flows, and the store heals",
            Self::ForeignPins => "mail flows, and the filter returns",
            Self::ForeignProgram => "mail flows, it stays, and the filter returns",
            Self::Idle => "mail flows, and no descriptor is kept",
            Self::Peers => "each is hung up on",
            Self::Kill | Self::PowerCut => {
                "starts whole, and what is older than the bound is there"
            }
            Self::Reload => "other rules hold, a broken file changes nothing",
            Self::Terminate => "ends well, and nothing is lost",
            Self::XdpUnload => "nothing is left, and the filter returns",
        }
    }
}

impl<'a> Conductor<'a> {
    pub(crate) fn new(
        desk: Desk<'a>,
        ground: &'a mut Ground,
        mx: &'a Namespace,
        door: Door<'a>,
        chance: Chance,
        bound: Duration,
    ) -> Self {
        Self {
            desk,
            ground,
            mx,
            door,
            chance,
            bound,
            idle: IDLE,
            lasting: Vec::new(),
            log_read: 0,
            log_read_at: Instant::now(),
            foreign: None,
            fresh_clients: 0,
        }
    }

    /// Does one fault, unless it lasts already.
    pub(crate) fn perform(&mut self, fault: Fault) -> Result<(), Error> {
        if self.lasting.iter().any(|lasting| lasting.fault == fault) {
            return Ok(());
        }
        self.desk.books.did(fault.name());
        match fault {
            Fault::Clock => self.turn_clock(),
            Fault::DiskFull => {
                let mark = self.desk.chronicle.begin(Excuse::Undurable, fault.name());
                self.ground.fill(true)?;
                self.ground.has_room(false)?;
                self.last(fault, mark, 1_500..4_500);
                Ok(())
            }
            Fault::ForeignPins => {
                self.restart_with(fault, true, |this| {
                    kernel::unload(this.ground)?;
                    kernel::pin_foreign(this.ground)
                })?;
                self.last_unexcused(fault);
                Ok(())
            }
            Fault::ForeignProgram => {
                self.restart_with(fault, true, |this| {
                    kernel::unload(this.ground)?;
                    this.foreign = Some(kernel::attach_foreign(this.mx)?);
                    Ok(())
                })?;
                self.last_unexcused(fault);
                Ok(())
            }
            Fault::Idle => self.open_idle(),
            Fault::Kill => self.restart_with(fault, false, |_| Ok(())),
            Fault::Peers => {
                self.misbehave();
                Ok(())
            }
            Fault::PowerCut => self.restart_with(fault, false, Self::cut_power),
            Fault::Reload => self.reload(),
            Fault::Terminate => self.restart_with(fault, true, |_| Ok(())),
            Fault::XdpUnload => {
                self.restart_with(fault, true, |this| {
                    kernel::unload(this.ground)?;
                    if this.lasts(Fault::ForeignPins) || this.lasts(Fault::ForeignProgram) {
                        return Ok(());
                    }
                    let remains = kernel::remains(this.ground, this.mx)?;
                    let what = format!("unload left {remains:?}");
                    this.expect(fault, remains.is_empty(), &what);
                    Ok(())
                })?;
                self.expect_filter(fault);
                Ok(())
            }
        }
    }

    /// Ends what has lasted long enough; all of it at the end of the run.
    pub(crate) fn relieve(&mut self, all: bool) -> Result<(), Error> {
        let now = Instant::now();
        let over = |lasting: &Lasting| all || lasting.until <= now;
        while let Some(index) = self.lasting.iter().position(over) {
            let lasting = self.lasting.swap_remove(index);
            self.end(lasting)?;
        }
        Ok(())
    }

    /// Looks whether the daemon is there, and what it wrote meanwhile.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        interrupt::check()?;
        self.ground.hear()?;
        let pid = self.ground.greygate.pid().unwrap_or_default();
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ended = state
            .rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('Z'));
        if ended {
            self.violate("the daemon has ended by itself");
            let mark = self.desk.chronicle.begin(Excuse::Away, "ended by itself");
            self.desk.chronicle.begin_loss(Some(self.bound), self.bound);
            let _status = self.ground.end(false)?;
            self.ground.check_model(true)?;
            self.desk.chronicle.end_loss();
            self.ground.resume(self.mx)?;
            self.desk.chronicle.end(mark);
        }
        self.read_log(&[]);
        Ok(())
    }

    fn end(&mut self, lasting: Lasting) -> Result<(), Error> {
        let Lasting { fault, mark, .. } = lasting;
        match fault {
            Fault::Clock => {
                let ahead = self.ask_fresh();
                self.step(0)?;
                let back = self.ask_again();
                if !self.lasts(Fault::Reload) {
                    let what = format!("what came an hour ahead was {ahead:?}, and {back:?} back");
                    self.expect(fault, (ahead, back) == (DEFERRED, DEFERRED), &what);
                }
            }
            Fault::DiskFull => {
                self.ground.fill(false)?;
                let works = |text: &str| text.contains("\ngreygate_journal_failing 0\n");
                let healed = settle(HEALING, || {
                    self.door.ask(&["snapshot"]).ok()?;
                    works(&self.door.scrape().ok()?).then_some(())
                });
                self.expect(
                    fault,
                    healed.is_some(),
                    "no snapshot is written on a disk with room, or no journal",
                );
                self.ground.has_room(true)?;
            }
            Fault::ForeignPins => {
                let unpinned =
                    self.restart_with(fault, true, |this| kernel::unpin_foreign(this.ground));
                unpinned?;
                self.expect_filter(fault);
            }
            Fault::ForeignProgram => {
                self.restart_with(fault, true, |this| {
                    this.foreign = None;
                    Ok(())
                })?;
                self.expect_filter(fault);
            }
            Fault::Reload => {
                let mended = self.ground.reload("");
                mended?;
                // By the command, which returns when the rules are in force.
                let reloaded = self.door.ask(&["reload"]);
                let why = format!("a reload failed: {reloaded:?}");
                self.expect(fault, reloaded.is_ok(), &why);
                let fresh = self.ask_fresh();
                let why = format!("by the rules of the run, a stranger is {fresh:?}");
                self.expect(fault, fresh == DEFERRED, &why);
            }
            _ => {}
        }
        self.desk.chronicle.end(mark);
        Ok(())
    }

    /// Ends the daemon, does something meanwhile, and starts it again.
    fn restart_with(
        &mut self,
        fault: Fault,
        gently: bool,
        meanwhile: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let chronicle = self.desk.chronicle;
        let mark = chronicle.begin(Excuse::Away, fault.name());
        let is_full = self.lasts(Fault::DiskFull);
        self.read_log(&[]);
        chronicle.begin_loss((!gently).then_some(self.bound), self.bound);
        let ended = self.ground.end(gently)?;
        chronicle.end_loss();
        let expected = if gently {
            ended.success() || is_full
        } else {
            ended.signal() == Some(9)
        };
        self.expect(fault, expected, &format!("the daemon ended with {ended}"));
        self.ground.check_model(!gently)?;
        meanwhile(self)?;
        self.ground.resume(self.mx)?;
        // What was ended gently and could be written is whole.
        let torn: &[&str] = if gently && !is_full {
            &["journal-cut", "unsaved"]
        } else {
            &[]
        };
        self.read_log(torn);
        self.expect_no_strays(fault)?;
        chronicle.end(mark);
        Ok(())
    }

    fn cut_power(&mut self) -> Result<(), Error> {
        // The cut writes what it leaves, which needs the room that a full disk has not.
        let is_full = self.lasts(Fault::DiskFull);
        if is_full {
            self.ground.fill(false)?;
        }
        let left = self.ground.cut_power(&mut self.chance)?;
        if is_full {
            self.ground.fill(true)?;
            self.ground.has_room(false)?;
        }
        if self.chance.percent(5) {
            let names: Vec<_> = left.contents.keys().collect();
            eprintln!(
                "  a cut left {names:?}, {} bytes undecided, {} names undone",
                left.undecided_bytes, left.undone_names
            );
        }
        Ok(())
    }

    /// An hour ahead: what waits passes at once. The way back comes later.
    fn turn_clock(&mut self) -> Result<(), Error> {
        let fault = Fault::Clock;
        let before = self.ask_fresh();
        self.step(HOUR)?;
        let after = self.ask_again();
        if !self.lasts(Fault::Reload) {
            let what = format!("what was {before:?} is {after:?} an hour ahead");
            self.expect(fault, (before, after) == (DEFERRED, PASSED), &what);
        }
        self.last_unexcused(fault);
        Ok(())
    }

    fn step(&mut self, seconds: i64) -> Result<(), Error> {
        self.desk.chronicle.begin_step(seconds);
        self.ground.turn_clock(seconds)?;
        self.desk.chronicle.end_step();
        Ok(())
    }

    fn reload(&mut self) -> Result<(), Error> {
        let fault = Fault::Reload;
        if self.chance.percent(40) {
            let mark = self
                .desk
                .chronicle
                .begin(Excuse::Nothing, "reload of a broken file");
            self.ground.reload_broken()?;
            let refused = self.door.ask(&["reload"]);
            self.expect(fault, refused.is_err(), "a broken file was taken");
            self.ground.reload("")?;
            self.desk.chronicle.end(mark);
            return Ok(());
        }
        let mark = self.desk.chronicle.begin(Excuse::Rules, fault.name());
        let rules = &RULES[self.chance.index(RULES.len())];
        self.ground.reload(rules.text)?;
        let reloaded = self.door.ask(&["reload"]);
        let first = self.ask_fresh();
        thread::sleep(rules.wait);
        let then = self.ask_again();
        let what = format!("by {rules:?}, a stranger is {first:?}, then {then:?}; {reloaded:?}");
        let holds = reloaded.is_ok() && (first, then) == (Some(rules.first), Some(rules.then));
        self.expect(fault, holds, &what);
        self.last(fault, mark, 300..3_000);
        Ok(())
    }

    fn misbehave(&mut self) {
        let mark = self
            .desk
            .chronicle
            .begin(Excuse::Nothing, Fault::Peers.name());
        let chance = &self.chance;
        let seeds: Vec<_> = (0..8).map(|peer| chance.branch(peer)).collect();
        let results: Vec<_> = thread::scope(|scope| {
            let start = |mut seed: Chance| scope.spawn(move || peers::misbehave(&mut seed, 3));
            let peers: Vec<_> = seeds.into_iter().map(start).collect();
            peers
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        let _next = self.chance.percent(50);
        for result in results {
            let good = matches!(result, Ok(Ok(())));
            self.expect(Fault::Peers, good, &format!("{result:?}"));
        }
        self.desk.chronicle.end(mark);
    }

    /// Ten thousand connections that say nothing; mail flows beside them, and nothing of them stays.
    fn open_idle(&mut self) -> Result<(), Error> {
        let fault = Fault::Idle;
        let mark = self.desk.chronicle.begin(Excuse::Nothing, fault.name());
        let pid = self.ground.greygate.pid().unwrap_or_default();
        let held = || Held::by(pid).map_err(Error::io("measuring the daemon"));
        let before = held()?;
        let idle = peers::idle(self.idle);
        let wanted = self.idle;
        // A connection stands before the daemon accepts it: the queue's last ones may still wait.
        let accepted = || (held().ok()?.descriptors >= wanted).then_some(());
        let taken = settle(Duration::from_mins(1), accepted).is_some();
        let (open, there) = (peers::still_open(&idle), held()?.descriptors);
        let kept = taken && idle.len() == wanted && open == wanted;
        let what = format!(
            "{} of {wanted} idle connections opened, {open} are open, {there} descriptors held",
            idle.len()
        );
        self.expect(fault, kept, &what);
        thread::sleep(Duration::from_millis(500));
        drop(idle);
        let most = before.descriptors + SESSIONS;
        let few = || (held().ok()?.descriptors <= most).then_some(());
        let closed = settle(Duration::from_mins(1), few);
        let after = held()?.descriptors;
        let what = format!(
            "{after} descriptors after idle connections, {} before",
            before.descriptors
        );
        self.expect(fault, closed.is_some(), &what);
        self.desk.chronicle.end(mark);
        Ok(())
    }

    fn ask_fresh(&mut self) -> Option<Fate> {
        self.fresh_clients += 1;
        self.ask_again()
    }

    fn ask_again(&self) -> Option<Fate> {
        let client = IpAddr::V4(Ipv4Addr::from((31 << 24) | self.fresh_clients));
        let visit = Visit {
            client,
            helo: "mail.fresh.example",
            sender: &format!("someone@f{}.fresh.example", self.fresh_clients),
            recipients: vec!["r@here.example"],
            message: "fresh",
        };
        let fates = visit.make(self.desk.endpoint).ok()?;
        fates.first().copied()
    }

    /// The kernel filter is on again, unless somebody else still has its place.
    fn expect_filter(&self, fault: Fault) {
        if self.lasts(Fault::ForeignPins) || self.lasts(Fault::ForeignProgram) {
            return;
        }
        let on = settle(HEALING, || kernel::is_on(self.ground).ok()?.then_some(()));
        self.expect(fault, on.is_some(), "the kernel filter did not return");
        let dropped = settle(HEALING, || {
            let dropped = kernel::dropped_of_three(&self.ground.strangers);
            (dropped > 0).then_some(())
        });
        self.expect(fault, dropped.is_some(), "the sentenced are not dropped");
    }

    /// What a run may leave in the store's directory has a name that is known.
    fn expect_no_strays(&self, fault: Fault) -> Result<(), Error> {
        let entries = fs::read_dir(self.ground.state()).map_err(Error::io("listing the store"))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_journal = |name: &str| {
            let number = name.strip_prefix("journal-").unwrap_or_default();
            number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit())
        };
        let is_stray = |name: &String| !KNOWN.contains(&name.as_str()) && !is_journal(name);
        let strays: Vec<_> = names.filter(is_stray).collect();
        let what = format!("in the store's directory are {strays:?}");
        self.expect(fault, strays.is_empty(), &what);
        Ok(())
    }

    /// Looks for what must not be said: never, now, and of the disk unless it is full.
    fn read_log(&mut self, now: &[&str]) {
        let since = Span::since(self.log_read_at);
        self.log_read_at = since.end();
        let is_full = self.desk.chronicle.excuses(Excuse::Undurable, since);
        let of_the_disk: &[&str] = if is_full { &[] } else { &FULL_WORDS };
        let log = process::tail(&self.ground.greygate.log_file(), usize::MAX);
        let new = log.get(self.log_read..).unwrap_or_default();
        for line in new.lines() {
            let mut bad = BAD_WORDS.iter().chain(of_the_disk).chain(now);
            if bad.any(|word| line.contains(word)) {
                self.violate(&format!("the daemon said: {line}"));
            }
        }
        self.log_read = log.len();
    }

    fn lasts(&self, fault: Fault) -> bool {
        self.lasting.iter().any(|lasting| lasting.fault == fault)
    }

    /// It lasts for a while, and is only named beside what goes wrong.
    fn last_unexcused(&mut self, fault: Fault) {
        let mark = self.desk.chronicle.begin(Excuse::Nothing, fault.name());
        self.last(fault, mark, 500..2_500);
    }

    fn last(&mut self, fault: Fault, mark: Mark, millis: std::ops::Range<u64>) {
        let until = Instant::now() + Duration::from_millis(self.chance.within(millis));
        self.lasting.push(Lasting { fault, until, mark });
    }

    fn expect(&self, fault: Fault, holds: bool, what: &str) {
        self.desk.books.checked(fault.name());
        if !holds {
            self.violate(&format!("{}: {what}", fault.name()));
        }
    }

    fn violate(&self, what: &str) {
        self.desk
            .books
            .violate(self.desk.chronicle, Instant::now(), what);
    }
}

const HOUR: i64 = 3_600;
const DEFERRED: Option<Fate> = Some(Fate::Deferred);
const PASSED: Option<Fate> = Some(Fate::Passed);
const IDLE: usize = 10_000;
/// Sessions and requests that are under way at any moment, and their sockets.
const SESSIONS: usize = 64;
/// How long it may take until all is as it was.
const HEALING: Duration = Duration::from_secs(15);
const KNOWN: [&str; 8] = [
    "live-allow.list",
    "live-deny.list",
    "lock",
    "seed",
    "seed.new",
    "snapshot",
    "snapshot.new",
    "snapshot.previous",
];
/// What the log must not say, whatever is done.
const BAD_WORDS: [&str; 7] = [
    "panicked",
    "set-aside",
    "RUST_BACKTRACE",
    "accept-failed",
    "journal-missing",
    "open-directory",
    "open-seed",
];
/// What it says of a disk that takes nothing.
const FULL_WORDS: [&str; 2] = ["journal-failing", "snapshot-failed"];
