//! A month and more of mail on a turned clock, with restarts, and the books checked: the plugin that
//! content greylisting is taken from was proven by that time on four hosts.

use std::net::{IpAddr, Ipv4Addr};

use greygate::policy::{Attempt, Policy};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture};
use crate::message::{Answer, Message, member, message};

const DAYS: u32 = 40;
const BOTS_AN_HOUR: u32 = 12;
const HONEST_AN_HOUR: u32 = 6;

#[test]
fn forty_days_of_mail_lose_none_let_no_bot_in_and_leave_what_still_counts() {
    let mut fixture = Fixture::with_known_seed(Policy::default());
    fixture.settings.capacity = 20_000;
    let mut store = fixture.open();
    let mut books = Books::default();
    for day in 0..DAYS {
        for hour in 24 * day..24 * (day + 1) {
            books.bots(&fixture, &store, hour);
            books.servers_and_a_pool(&fixture, &store, hour);
            fixture.wait_minutes(30);
        }
        if day % 4 == 3 {
            // As from one host's stop to its start: the snapshot leaves out what has lapsed.
            fixture.rows(&store);
            drop(store);
            store = fixture.open();
            check_size(&store);
        }
    }
    let messages = DAYS * 24 * (HONEST_AN_HOUR + 1);
    assert_eq!(books.delivered, messages, "every honest message");
    assert_eq!(books.bots_let_in, 0, "of {} bots", books.bots);
    assert!(books.worst_tries <= 3, "{} tries", books.worst_tries);
    let tries = f64::from(books.tries) / f64::from(messages);
    assert!(tries < 2.0, "{tries} tries a message: trust was earned");
}

/// What came of all mail.
#[derive(Default)]
struct Books {
    bots: u32,
    bots_let_in: u32,
    delivered: u32,
    tries: u32,
    worst_tries: u32,
}

impl Books {
    /// Each from an address of its own, once, in the name of somebody else; some with bounces.
    fn bots(&mut self, fixture: &Fixture, store: &Store, hour: u32) {
        for number in 0..BOTS_AN_HOUR {
            let reverse_path = match number % 4 {
                0 => String::new(),
                _ => format!("forged{}@victim.example", number * 31 + hour % 7),
            };
            let recipient = format!("r{}@here.example", (hour * BOTS_AN_HOUR + number) % 900);
            let bot = Message::of(Attempt {
                client: address(0x0b00_0000, hour * BOTS_AN_HOUR + number),
                client_name: b"",
                helo: b"",
                reverse_path: reverse_path.as_bytes(),
                recipient: recipient.as_bytes(),
                ..ATTEMPT
            })
            .with_id(&format!("{hour}.{number}@bot.example"));
            self.bots += 1;
            let answer = bot.answer(fixture, store);
            self.bots_let_in += u32::from(matches!(answer, Answer::Delivered(_)));
        }
    }

    /// Some servers with one address each, and one pool of fifteen; each with a new message.
    fn servers_and_a_pool(&mut self, fixture: &Fixture, store: &Store, hour: u32) {
        let mut queue = Vec::new();
        for number in 0..HONEST_AN_HOUR {
            let reverse_path = format!("s@server{}.example", (hour * HONEST_AN_HOUR + number) % 40);
            let recipient = format!("r{}@here.example", (hour + number) % 50);
            let client = address(0xc612_0000, (hour * HONEST_AN_HOUR + number) % 40 * 256);
            queue.push((reverse_path, recipient, vec![client]));
        }
        let members = (0..15).map(|it| member((u8::try_from(hour % 15).unwrap_or(0) + it) % 15));
        let recipient = format!("r{}@here.example", hour % 50);
        queue.push(("s@pool.example".to_owned(), recipient, members.collect()));
        let mut tries = 0;
        while !queue.is_empty() {
            queue.retain(|(reverse_path, recipient, clients)| {
                let next = usize::try_from(tries).unwrap_or(0) % clients.len();
                let attempt = Attempt {
                    reverse_path: reverse_path.as_bytes(),
                    recipient: recipient.as_bytes(),
                    ..message().attempt
                };
                let sent = Message::of(attempt)
                    .with_id(&format!("{hour}@{reverse_path}"))
                    .by_client(clients[next]);
                self.tries += 1;
                let is_delivered = matches!(sent.answer(fixture, store), Answer::Delivered(_));
                self.delivered += u32::from(is_delivered);
                !is_delivered
            });
            tries += 1;
            assert!(tries < 20, "somebody waits for ever: {queue:?}");
            fixture.wait_minutes(10);
        }
        self.worst_tries = self.worst_tries.max(tries);
        // The hour is as long whoever had to come again.
        fixture.wait_minutes(u64::from(3_u32.saturating_sub(tries)) * 10);
    }
}

/// What is held is what was tried within a day, and what passed within the time of trust.
fn check_size(store: &Store) {
    let census = store.census();
    let a_day = usize::try_from(24 * (BOTS_AN_HOUR + HONEST_AN_HOUR + 3)).unwrap_or(0);
    assert!(census.contents <= a_day, "{census:?}");
    // A pair is remembered for as many retry windows as the way out takes contacts.
    assert!(census.pairs <= 6 * a_day, "{census:?}");
    let servers = 40 * 50 + 15 * 50;
    assert!(census.tuples <= a_day + servers, "{census:?}");
    assert!(census.trusted <= 40 + 15 + 15, "{census:?}");
}

fn address(first: u32, number: u32) -> IpAddr {
    Ipv4Addr::from(first + number).into()
}
