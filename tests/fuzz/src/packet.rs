//! A frame of any bytes is judged without a panic; only a SYN without ACK to the protected port, of
//! a sentenced client that is not allowed, is ever dropped; cutting a frame never makes a connection
//! of what was none.

use greylist_ebpf::{
    abi::{Admitted, Config, Counter, Dropped, KernelTime, Level, Limit},
    packet::{Address, NewConnection, new_connection},
    verdict::{Action, Entry, Nearby, Tables, decide},
};

/// Everybody is sentenced, for ever, and has nothing left of any limit: the worst that a parser's
/// mistake can meet. Those whose address ends in an odd byte are allowed.
struct Everybody(Config);

impl Tables for Everybody {
    type Entry = Spent;

    fn is_protected(&self, port: u16) -> bool {
        port == 25
    }

    fn presence(&self, _: &Address) -> Nearby {
        Nearby {
            host: true,
            network: true,
        }
    }

    fn host(&self, client: &Address) -> Option<Spent> {
        Some(Spent(level_of(client)))
    }

    fn network(&self, _: &Address) -> Option<Spent> {
        Some(Spent(Level::Observe))
    }

    fn now(&self) -> KernelTime {
        KernelTime::default()
    }

    fn config(&self) -> Option<&Config> {
        Some(&self.0)
    }

    fn is_destination(&self, _: &Address) -> bool {
        true
    }

    fn is_allowed(&self, client: &Address) -> bool {
        is_allowed(client)
    }

    fn tell(&self, connection: &NewConnection, counter: Counter, _: KernelTime, _: u64) {
        assert_eq!(connection.port, 25);
        assert!(counter.is_dropped() || counter == Counter::Observed);
    }
}

/// An entry of this level that lets nobody through.
struct Spent(Level);

impl Entry for Spent {
    fn until(&self) -> KernelTime {
        KernelTime::from_nanos(u64::MAX)
    }

    fn level(&self) -> Option<Level> {
        Some(self.0)
    }

    fn generation(&self) -> u16 {
        Config::NO_GENERATION
    }

    fn arrival(&self) -> KernelTime {
        KernelTime::from_nanos(u64::MAX)
    }

    fn swap_arrival(&self, _: KernelTime, _: KernelTime) -> bool {
        true
    }

    fn admitted(&self) -> Admitted {
        Admitted::NONE
    }

    fn admit(&self, _: Admitted) {
        panic!("nobody has anything left");
    }

    fn swap_admitted(&self, _: Admitted, _: Admitted) -> bool {
        panic!("nobody was admitted");
    }

    fn dropped(&self) -> Dropped {
        Dropped::NONE
    }

    fn note_dropped(&self, dropped: Dropped) {
        assert_ne!(dropped, Dropped::NONE);
    }

    fn count(&self) {}
}

/// Panics where it does not hold.
pub fn holds(frame: &[u8]) {
    let mut config = Config::new(Limit::new(1_000, 3), Limit::new(1_000_000, 1), 1);
    config.event_interval = 1;
    let outcome = decide(frame, &Everybody(config));
    assert_eq!(
        outcome.action == Action::Drop,
        outcome.counter.is_dropped(),
        "{outcome:?}"
    );
    let connection = new_connection(frame);
    let expected = match connection {
        Err(reason) => reason,
        Ok(connection) if connection.port != 25 => Counter::OtherPort,
        Ok(connection) if is_allowed(&connection.client) => Counter::Allowed,
        Ok(connection) => match level_of(&connection.client) {
            Level::Observe => Counter::Observed,
            Level::Rate => Counter::RateLimited,
            Level::Block => Counter::Blocked,
        },
    };
    assert_eq!(outcome.counter, expected);
    if outcome.action == Action::Drop {
        assert!(ends_in_a_syn(frame), "something else was dropped");
    }

    config.flags = Config::OBSERVE;
    let observed = decide(frame, &Everybody(config));
    assert_eq!(observed.action, Action::Pass, "under observation");

    for length in 0..frame.len().min(400) {
        let cut = new_connection(&frame[..length]);
        assert!(cut == connection || cut == Err(Counter::Truncated));
    }
}

/// Whether somewhere in the frame, at an even offset, stands what can be the TCP header of a SYN to
/// the protected port. It knows nothing of what the parser knows, so that both do not err alike.
fn ends_in_a_syn(frame: &[u8]) -> bool {
    frame.windows(20).step_by(2).any(|header| {
        header[2..4] == 25_u16.to_be_bytes()
            && header[12] >> 4 >= 5
            && header[13] & 0b0001_0111 == 0b0000_0010
    })
}

fn is_allowed(client: &Address) -> bool {
    client.as_ipv6()[15] % 2 == 1
}

fn level_of(client: &Address) -> Level {
    match client.as_ipv6()[14] % 3 {
        0 => Level::Observe,
        1 => Level::Rate,
        _ => Level::Block,
    }
}
