//! Senders that retry from another network each time, through a real Postfix.

use std::time::{Duration, Instant};

use support::Error;
use support::interrupt;
use support::pool::{self, Pool};
use support::site::Plan;
use support::smtp::{Message, Reply};

use crate::{headers, send, start};

/// From one retry to the next: longer than both delays of [`DELAYS`].
const INTERVAL: Duration = Duration::from_millis(2_300);

/// Delays that a test can wait out.
const DELAYS: &str = "[greylist]\ndelay = \"2s\"\n[content]\ndelay = \"1s\"\n";

#[test]
fn pool_of_fifteen_networks_is_deferred_twice_and_delivered() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&plan(""))?;
    let site = &turn.site;
    let mut pool = Pool::new(site);
    let message = Message::new("bob@pool.example", "a-message");

    let first = send(pool.turn(), &message, &["alice"])?;
    assert!(first.outcome().is_greylisting(), "{first:?}");
    assert_eq!(first.data, None, "the first is deferred at RCPT");
    interrupt::pause(INTERVAL)?;
    let second = send(pool.turn(), &message, &["alice"])?;
    let end = second.end.as_ref().expect("the second is read");
    assert!(end.is_greylisting(), "{second:?}");
    interrupt::pause(INTERVAL)?;
    let third = send(pool.turn(), &message, &["alice"])?;
    assert!(third.is_queued(), "{third:?}");

    let delivered = site.postfix().wait_for_delivery("alice", &message.id)?;
    let header = headers(&delivered, "X-Greylist");
    let [header] = header.as_slice() else {
        panic!("one header should be there: {delivered}");
    };
    assert!(header.ends_with(", passed by content"), "{header}");
    let waited = header
        .strip_prefix("delayed ")
        .and_then(|rest| rest.split_once(" seconds by "))
        .and_then(|(seconds, _)| seconds.parse::<u64>().ok());
    // Since the first contact, if the minute has changed since: contacts are counted by it.
    let (read, all) = (INTERVAL.as_secs(), 60);
    assert!(
        waited.is_some_and(|it| (read..all).contains(&it)),
        "{header}"
    );
    Ok(())
}

#[test]
fn next_mail_of_a_pool_is_read_at_once_and_deferred_once() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&plan("trust = \"off\"\n"))?;
    let mut pool = Pool::new(&turn.site);
    let message = Message::new("bob@pool.example", "a-message");
    for is_last in [false, false, true] {
        let round = send(pool.turn(), &message, &["alice"])?;
        assert_eq!(round.is_queued(), is_last, "{round:?}");
        interrupt::pause(INTERVAL)?;
    }
    let next = Message::new("bob@pool.example", "the-next-message");
    let round = send(pool.turn(), &next, &["alice"])?;
    assert!(
        round.end.as_ref().is_some_and(Reply::is_greylisting),
        "{round:?}"
    );
    interrupt::pause(INTERVAL)?;
    let round = send(pool.turn(), &next, &["alice"])?;
    assert!(round.is_queued(), "{round:?}");
    turn.site.postfix().wait_for_delivery("alice", &next.id)?;
    Ok(())
}

/// Contacts are counted by the minute, and the least that counts is two: so this one takes up to a
/// minute.
#[test]
fn message_whose_id_changes_at_each_retry_passes_by_the_way_out() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&plan("contacts = 2\ncontacts_after = \"4s\"\n"))?;
    let site = &turn.site;
    let mut pool = Pool::new(site);
    let began = Instant::now();
    let mut number = 0;
    let passed = interrupt::wait_for("the way out", Duration::from_secs(90), || {
        number += 1;
        let message = Message::new("bob@pool.example", &format!("retry-{number}"));
        let round = send(pool.turn(), &message, &["alice"])?;
        if round.is_queued() {
            return Ok(Some(message));
        }
        assert!(round.outcome().is_greylisting(), "{round:?}");
        // Over before the first address has its turn again, whose tuple has waited by then.
        interrupt::pause(Duration::from_secs(5))?;
        Ok(None)
    })?;
    // When a pair began is remembered in whole seconds.
    assert!(began.elapsed() > Duration::from_secs(3), "{number}");
    let delivered = site.postfix().wait_for_delivery("alice", &passed.id)?;
    let header = headers(&delivered, "X-Greylist").join("\n");
    assert!(header.ends_with(", passed by persistence"), "{header}");
    assert_eq!(site.postfix().delivered("alice")?.len(), 1);
    Ok(())
}

fn plan(content: &str) -> Plan {
    Plan {
        strangers: pool::addresses().collect(),
        tweaks: format!("{DELAYS}{content}"),
        ..Plan::default()
    }
}
