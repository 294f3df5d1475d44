//! What `top` knows: the latest answer, the rates since the one before, and what the keys have set.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tokio::time::Instant;

use super::Told;
use crate::admin::{ListOrder, Status};

/// Everything that is drawn.
#[derive(Debug, Default)]
pub(super) struct View {
    told: Option<Latest>,
    /// Why there is no newer answer.
    trouble: Option<String>,
    /// What was counted between the last two answers.
    rates: Option<Rates>,
    is_paused: bool,
    shows_help: bool,
    order: usize,
}

#[derive(Debug)]
struct Latest {
    told: Told,
    at: Instant,
    counts: Counts,
}

impl View {
    /// Takes an answer that came at `now`.
    pub(super) fn take(&mut self, told: Told, now: Instant) {
        // It is back, whether or not that is drawn.
        self.trouble = None;
        if self.is_paused {
            return;
        }
        let counts = Counts::of(&told.status);
        let before = self.told.as_ref();
        // A daemon that was restarted counts from zero.
        let same = before.filter(|it| it.told.status.started == told.status.started);
        self.rates = same.map(|before| counts.since(&before.counts, now, before.at));
        self.told = Some(Latest {
            told,
            at: now,
            counts,
        });
    }

    /// Takes that there was no answer.
    pub(super) fn miss(&mut self, why: String) {
        self.trouble = Some(why);
        self.rates = None;
    }

    /// Does what a key says; false ends it.
    pub(super) fn obey(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return false,
            KeyCode::Char('q') | KeyCode::Esc if !self.shows_help => return false,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            // Of what stands still the order is the one that it was asked in.
            KeyCode::Char('s') if !self.is_paused => self.order = (self.order + 1) % ORDERS.len(),
            KeyCode::Char('h' | '?') => self.shows_help = !self.shows_help,
            KeyCode::Char('q') | KeyCode::Esc => self.shows_help = false,
            _ => {}
        }
        true
    }

    pub(super) fn told(&self) -> Option<&Told> {
        self.told.as_ref().map(|it| &it.told)
    }

    /// How many seconds ago the answer that is shown came.
    pub(super) fn age(&self, now: Instant) -> u64 {
        let at = self.told.as_ref().map(|it| it.at);
        at.map_or(0, |at| now.saturating_duration_since(at).as_secs())
    }

    pub(super) fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn shows_help(&self) -> bool {
        self.shows_help
    }

    /// What sentences are sorted by.
    pub(super) fn order(&self) -> ListOrder {
        ORDERS[self.order]
    }
}

/// What happened between two answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) sessions: f64,
    pub(super) deferred: f64,
    pub(super) passed: f64,
    pub(super) refused: f64,
    pub(super) read: f64,
    pub(super) dropped: f64,
}

/// Counts since the start, out of the status.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sessions: u64,
    deferred: u64,
    passed: u64,
    refused: u64,
    read: u64,
    dropped: u64,
}

impl Counts {
    fn of(status: &Status) -> Self {
        let sum = |beginning: &str| {
            let from = status.counters.range(beginning.to_owned()..);
            let of_it = from.take_while(|(name, _)| name.starts_with(beginning));
            of_it.map(|(_, count)| *count).sum()
        };
        let verdicts = |word: &str| sum(&format!("greygate_verdicts_total{{verdict=\"{word}\""));
        Self {
            sessions: sum("greygate_milter_connections_total"),
            deferred: verdicts("deferred"),
            passed: verdicts("passed"),
            refused: verdicts("refused"),
            read: verdicts("read"),
            dropped: status.funnel.kernel.map_or(0, |kernel| kernel.syns),
        }
    }

    fn since(&self, before: &Self, now: Instant, then: Instant) -> Rates {
        let seconds = now.saturating_duration_since(then).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| {
            let counted = u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
            f64::from(counted) / seconds
        };
        Rates {
            sessions: rate(self.sessions, before.sessions),
            deferred: rate(self.deferred, before.deferred),
            passed: rate(self.passed, before.passed),
            refused: rate(self.refused, before.refused),
            read: rate(self.read, before.read),
            dropped: rate(self.dropped, before.dropped),
        }
    }
}

const ORDERS: [ListOrder; 3] = [ListOrder::Drops, ListOrder::Until, ListOrder::First];
