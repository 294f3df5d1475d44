//! What is drawn, cell by cell, and what the keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::BTreeMap;

use super::*;
use crate::admin::{ClientRow, FunnelFacts, Health, LatencyFacts, Recent, SentenceRow};
use crate::kernel::FilterStatus;

#[test]
fn screen_of_80_by_24_shows_what_a_postmaster_asks() {
    let now = Instant::now();
    let mut view = View::default();
    view.take(told(1_000, 10), now);
    view.take(told(1_120, 10), now + Duration::from_secs(2));
    let text = drawn(&view, 80, 24, now + Duration::from_secs(2));
    for expected in [
        "greygate 0.1.0  pid 7  up 1h1m  hybrid  greylisting enforce\n",
        "\nhealthy\n",
        "\ndeferred         60.0       1.5",
        "verdict in 12 µs (median), 95 µs (99 of 100)\n",
        "tuples     [###.......]  25 % of 4,000,000\n",
        "kernel     no filter: no root\n",
        "snapshot   1m30s ago\n",
        "10 messages since the start\n",
        "\n192.0.2.7                3 ",
        "198.51.100.0/24       3,400   1h1m  rapid-retries\n",
        "\nq quit   p pause   s sort sentences   ? help\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert_eq!(text.lines().count(), 24);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn any_size_of_terminal_is_drawn() {
    let mut view = View::default();
    view.take(told(1, 1), Instant::now());
    view.obey(key('?'));
    for (columns, rows) in [(1, 1), (20, 5), (80, 10), (80, 24), (250, 80)] {
        drawn(&view, columns, rows, Instant::now());
    }
}

#[test]
fn names_that_could_do_something_to_a_terminal_are_escaped() {
    let mut told = told(1, 1);
    told.status.health.complaints = vec!["a\x1b[2Jb\u{202e}c\x07".to_owned()];
    let mut view = View::default();
    view.take(told, Instant::now());
    let text = drawn(&view, 80, 24, Instant::now());
    assert!(text.contains(r"a\u{1b}[2Jb\u{202e}c\u{7}"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\u{202e}'));
}

#[test]
fn daemon_that_is_gone_is_told_and_its_last_figures_stay() {
    let now = Instant::now();
    let mut view = View::default();
    view.miss("no daemon answers at /run/s".to_owned());
    let text = drawn(&view, 80, 24, now);
    assert!(text.contains("no daemon answers at /run/s"), "{text}");
    view.take(told(1, 1), now);
    view.miss("no daemon answers at /run/s".to_owned());
    let text = drawn(&view, 80, 24, now + Duration::from_secs(9));
    assert!(text.contains("9s old, asking again: no daemon"), "{text}");
    assert!(text.contains("192.0.2.7"), "{text}");
    view.take(told(1, 1), now);
    assert!(drawn(&view, 80, 24, now).contains("\nhealthy\n"));
}

#[test]
fn daemon_that_was_restarted_has_no_rates_from_before() {
    let now = Instant::now();
    let mut view = View::default();
    view.take(told(1_000, 10), now);
    let mut restarted = told(5, 1);
    restarted.status.started += 100;
    view.take(restarted, now + Duration::from_secs(1));
    assert_eq!(view.rates(), None);
}

#[test]
fn what_stands_still_says_nothing_that_has_passed() {
    let now = Instant::now();
    let mut view = View::default();
    view.take(told(1, 1), now);
    view.obey(key('p'));
    view.obey(key('s'));
    view.miss("no daemon answers".to_owned());
    assert!(drawn(&view, 80, 24, now).contains("asking again"));
    view.take(told(2, 2), now);
    let text = drawn(&view, 80, 24, now);
    assert!(!text.contains("asking again"), "it is back: {text}");
    assert!(
        text.contains("sentences by drops"),
        "as its rows are: {text}"
    );
}

#[test]
fn keys_pause_sort_help_and_quit() {
    let now = Instant::now();
    let mut view = View::default();
    view.take(told(1_000, 10), now);
    assert!(view.obey(key('p')));
    view.take(told(9_000, 10), now + Duration::from_secs(1));
    assert_eq!(view.rates(), None, "nothing moves while it is paused");
    assert!(drawn(&view, 80, 24, now).contains("PAUSED"));
    view.obey(key('p'));
    assert_eq!(view.order(), ListOrder::Drops);
    view.obey(key('s'));
    assert_eq!(view.order(), ListOrder::Until);
    view.obey(key('?'));
    assert!(drawn(&view, 80, 24, now).contains("this help"));
    assert!(view.obey(key('q')), "it closes the help first");
    assert!(!view.obey(key('q')));
    assert!(!view.obey(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn daemon_without_lists_is_shown_without_them() {
    let mut view = View::default();
    let told = Told {
        clients: None,
        sentences: None,
        ..told(1, 1)
    };
    view.take(told, Instant::now());
    let text = drawn(&view, 80, 24, Instant::now());
    assert_eq!(
        text.matches("the daemon does not tell").count(),
        2,
        "{text}"
    );
}

fn key(key: char) -> KeyEvent {
    KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)
}

fn drawn(view: &View, columns: u16, rows: u16, now: Instant) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("it is memory");
    let drawn = terminal
        .draw(|frame| draw::screen(frame, view, now))
        .expect("it is memory");
    text_of(drawn.buffer)
}

fn told(deferred: u64, messages: u64) -> Told {
    let mut status = crate::cli::answer::daemon_of_tests();
    status.health = Health::default();
    status.xdp = FilterStatus::Off {
        why: "no root".to_owned(),
    };
    status.counters = BTreeMap::from([
        (
            r#"greygate_verdicts_total{verdict="deferred",reason="early"}"#.to_owned(),
            7,
        ),
        (
            r#"greygate_verdicts_total{verdict="deferred",reason="new"}"#.to_owned(),
            deferred,
        ),
        (
            r#"greygate_verdicts_total{verdict="passed",reason="new"}"#.to_owned(),
            5,
        ),
    ]);
    status.funnel = FunnelFacts::default();
    status.funnel.seen.messages = messages;
    status.recent = Recent {
        seconds: 60,
        deferred: 90,
        latency: LatencyFacts {
            turns: 100,
            p50_micros: Some(12),
            p99_micros: Some(95),
        },
        ..Recent::default()
    };
    let listing = |rows| Listing {
        now: 1_795_000_000,
        rows,
        ..Listing::default()
    };
    Told {
        status: Box::new(status),
        clients: Some(listing(ListRows::Clients(vec![ClientRow {
            client: Some("192.0.2.7".to_owned()),
            strikes: 3,
            ..ClientRow::default()
        }]))),
        sentences: Some(listing(ListRows::Sentences(vec![SentenceRow {
            client: "198.51.100.0/24".to_owned(),
            reason: "rapid-retries".to_owned(),
            until: 1_795_003_670,
            drops: 3_400,
            ..SentenceRow::default()
        }]))),
    }
}
