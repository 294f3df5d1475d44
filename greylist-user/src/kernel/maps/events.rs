//! The sample of dropped connections that the kernel tells, as lines of the debug log.
//!
//! Nothing depends on it: any event may be lost.

use std::net::{IpAddr, Ipv6Addr};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use greylist_ebpf::abi::{Counter, map};

use super::take_map;
use crate::kernel::FilterError;

/// The ring buffer.
pub(super) struct Events(RingBuf<MapData>);

impl Events {
    /// Takes the ring buffer out of `ebpf`.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, FilterError> {
        take_map(ebpf, map::EVENTS).map(Self)
    }

    /// Tells the log what was sampled since the last call, or the oldest of it.
    pub(super) fn tell(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(item) = self.0.next() else { return };
            if let Some((client, port, counter)) = parse(&item) {
                let reason = counter.name();
                tracing::debug!(%client, port, reason, "sampled");
            }
        }
    }
}

/// What an [`Event`](greylist_ebpf::abi::Event) says: who, to which port, counted as what.
fn parse(event: &[u8]) -> Option<(IpAddr, u16, Counter)> {
    let (client, rest) = event.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let counter = Counter::ALL.get(usize::from(*rest.first()?))?;
    let client = IpAddr::V6(Ipv6Addr::from(*client)).to_canonical();
    Some((client, u16::from_ne_bytes(*port), *counter))
}

/// Events of one call: what 16 CPUs may tell between two calls, five seconds apart.
const AT_ONCE: usize = 1_024;

#[cfg(test)]
mod tests {
    use greylist_ebpf::abi::{Event, mapped};

    use super::*;
    use crate::kernel::sys::bytes_of;

    #[test]
    fn reads_what_the_program_writes() {
        let event = Event::new(mapped([192, 0, 2, 7]), 25, Counter::Blocked);
        assert_eq!(
            parse(bytes_of(&[event])),
            Some(([192, 0, 2, 7].into(), 25, Counter::Blocked))
        );
        let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
        let event = Event::new(client.octets(), 587, Counter::RateLimited);
        assert_eq!(
            parse(bytes_of(&[event])),
            Some((client.into(), 587, Counter::RateLimited))
        );
    }

    #[test]
    fn what_is_no_event_is_left_out() {
        assert_eq!(parse(&[0; 10]), None);
        assert_eq!(parse(&[0xff; 24]), None, "no counter has this index");
    }
}
