//! Messages for many recipients of whom some pass already, from a Postfix that decides by itself what
//! a reply or a broken session means for each of them.

use std::time::Duration;

use support::Error;
use support::interrupt;
use support::postfix::{STRESSED_PORT, Sender, Tried, World, address};
use support::site::{Plan, Site};
use support::smtp::Message;

use crate::start;

/// Those that know the list, and those that do not.
const PASSING: usize = 20;
const UNKNOWN: usize = 25;

/// A moment more than both delays of [`DELAYS`].
const INTERVAL: Duration = Duration::from_millis(2_300);

/// Trust would let all of a sender's mail through once some of it has passed.
const DELAYS: &str = "delay = \"2s\"\n[content]\ndelay = \"1s\"\ntrust = \"off\"\n";

/// Postfix sends the recipients of a message in the order of their names.
#[derive(Clone, Copy, Debug)]
enum Order {
    PassingFirst,
    UnknownFirst,
    ByTurns,
}

#[test]
fn delivers_to_all_in_two_rounds() -> Result<(), Error> {
    support::needs!(crate::equipment());
    delivers(
        "hybrid",
        SMTP,
        &[Order::PassingFirst, Order::UnknownFirst, Order::ByTurns],
    )
}

#[test]
fn delivers_to_all_in_two_rounds_under_stress() -> Result<(), Error> {
    support::needs!(crate::equipment());
    delivers(
        "hybrid",
        STRESSED_PORT,
        &[Order::PassingFirst, Order::UnknownFirst, Order::ByTurns],
    )
}

/// Here nobody passes before the message is read; 20 have had mail of its sender.
#[test]
fn delivers_to_all_in_two_rounds_where_content_decides() -> Result<(), Error> {
    support::needs!(crate::equipment());
    delivers("content", SMTP, &[Order::PassingFirst, Order::UnknownFirst])
}

#[test]
fn delivers_to_all_in_two_rounds_where_content_decides_under_stress() -> Result<(), Error> {
    support::needs!(crate::equipment());
    delivers(
        "content",
        STRESSED_PORT,
        &[Order::PassingFirst, Order::UnknownFirst],
    )
}

/// As many as may be deferred at RCPT do not delay the others, who are delivered at once.
#[test]
fn those_that_pass_do_not_wait_for_a_few_named_after_them() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&plan("hybrid", &[Order::PassingFirst]))?;
    let site = &turn.site;
    let sender = site.sender("sender", SMTP)?;
    let (passing, unknown) = members(Order::PassingFirst);
    welcome(&sender, Order::PassingFirst, &passing)?;
    let issue = issue(Order::PassingFirst);
    let few = &unknown[..RCPT_DEFERRALS];
    let tried = sender.submit(&issue, &[&passing, few].concat())?;
    assert_eq!(tried.sent.len(), PASSING, "{tried:?}");
    assert_eq!(tried.told("451 4.7.1"), few.len(), "{tried:?}");
    interrupt::pause(INTERVAL)?;
    let tried = sender.retry()?;
    assert_eq!(tried.sent.len(), few.len(), "{tried:?}");
    delivered_once(site, &issue, &passing)?;
    delivered_once(site, &issue, few)
}

fn delivers(mode: &str, port: u16, orders: &[Order]) -> Result<(), Error> {
    let turn = start(&plan(mode, orders))?;
    let site = &turn.site;
    let sender = site.sender("sender", port)?;
    for order in orders {
        let (passing, unknown) = members(*order);
        welcome(&sender, *order, &passing)?;
        let all = [passing, unknown].concat();
        let issue = issue(*order);
        let mut rounds = vec![sender.submit(&issue, &all)?];
        while rounds.len() <= ROUNDS && !sender.queued()?.is_empty() {
            interrupt::pause(INTERVAL)?;
            rounds.push(sender.retry()?);
        }
        let left = sender.queued()?;
        assert!(left.is_empty(), "{order:?}: {left:?} are left\n{rounds:#?}");
        delivered_once(site, &issue, &all)?;
        eprintln!("{mode}, port {port}, {order:?}: {}", summary(&rounds));
    }
    let hung_up = site.postfix().log().contains("too many errors after RCPT");
    let may_hang_up = port == STRESSED_PORT && mode != "content";
    assert_eq!(hung_up, may_hang_up, "{}", sender.log());
    Ok(())
}

/// Sends to those that shall pass from then on, until all have it.
fn welcome(sender: &Sender, order: Order, passing: &[String]) -> Result<(), Error> {
    let message = Message::new(&list(order), &format!("welcome-{order:?}"));
    sender.submit(&message, passing)?;
    let mut retries = 0;
    while !sender.queued()?.is_empty() {
        assert!(retries < 3, "{:?} are left", sender.queued()?);
        interrupt::pause(INTERVAL)?;
        sender.retry()?;
        retries += 1;
    }
    Ok(())
}

fn delivered_once(site: &Site, message: &Message, to: &[String]) -> Result<(), Error> {
    for recipient in to {
        let (mailbox, _) = recipient.split_once('@').expect("it is an address");
        site.postfix().wait_for_delivery(mailbox, &message.id)?;
        let delivered = site.postfix().delivered(mailbox)?;
        let copies = delivered.iter().filter(|text| text.contains(&message.id));
        assert_eq!(copies.count(), 1, "{mailbox}");
    }
    Ok(())
}

fn summary(rounds: &[Tried]) -> String {
    let rounds = rounds
        .iter()
        .map(|it| format!("{} sent, {} deferred", it.sent.len(), it.deferred.len()));
    rounds.collect::<Vec<_>>().join("; ")
}

fn plan(mode: &str, orders: &[Order]) -> Plan {
    let members = orders.iter().flat_map(|order| {
        let (passing, unknown) = members(*order);
        passing.into_iter().chain(unknown)
    });
    let mailboxes = members.map(|it| it.split('@').next().unwrap_or_default().to_owned());
    Plan {
        world: World {
            mailboxes: mailboxes.collect(),
            ..World::default()
        },
        tweaks: format!("[greylist]\nmode = \"{mode}\"\n{DELAYS}"),
        ..Plan::default()
    }
}

/// Those that pass, and the others.
fn members(order: Order) -> (Vec<String>, Vec<String>) {
    let named = |count, name: fn(Order, usize) -> String| {
        let numbers = 0..count;
        numbers
            .map(|number| address(&format!("{order:?}{}", name(order, number)).to_lowercase()))
            .collect()
    };
    let passing = |order, number: usize| match order {
        Order::PassingFirst => format!("-a{number:02}"),
        Order::UnknownFirst => format!("-b{number:02}"),
        Order::ByTurns => format!("-{number:02}a"),
    };
    let unknown = |order, number: usize| match order {
        Order::PassingFirst => format!("-b{number:02}"),
        Order::UnknownFirst => format!("-a{number:02}"),
        Order::ByTurns => format!("-{number:02}b"),
    };
    (named(PASSING, passing), named(UNKNOWN, unknown))
}

fn list(order: Order) -> String {
    format!("{order:?}@list.example").to_lowercase()
}

fn issue(order: Order) -> Message {
    Message::new(&list(order), &format!("issue-{order:?}"))
}

const SMTP: u16 = 25;

/// `[greylist] rcpt_deferrals`, by default.
const RCPT_DEFERRALS: usize = 8;

/// The rounds after the first that it may take.
const ROUNDS: usize = 2;
