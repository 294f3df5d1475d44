//! Which of this site's addresses clients connect to, told apart by small numbers.
//!
//! Knows the first few addresses that MTAs name, in the order they were named; leaves what a
//! delivery round over several of them means to `policy`. Nothing is ever forgotten: a site has a
//! handful of addresses, and who may name them is checked before the first byte.

use std::net::IpAddr;
use std::sync::OnceLock;

use crate::policy::ServerMark;

/// The addresses seen so far. Reading them takes no lock.
#[derive(Debug, Default)]
pub(super) struct Servers {
    seen: [OnceLock<IpAddr>; ServerMark::MOST as usize],
}

impl Servers {
    /// The mark of `address`; [`None`] when all marks are given to others.
    pub(super) fn mark(&self, address: IpAddr) -> Option<ServerMark> {
        let number = (1..).zip(&self.seen).find_map(|(number, slot)| {
            let holder = slot.get_or_init(|| address);
            (*holder == address).then_some(number)
        });
        number.map(ServerMark::numbered)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::thread;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn tells_as_many_addresses_apart_as_there_are_marks() {
        let servers = Servers::default();
        let marks: Vec<_> = (0..20).map(|last| servers.mark(address(last))).collect();
        for (number, mark) in (1..).zip(&marks[..15]) {
            assert_eq!(*mark, Some(ServerMark::numbered(number)));
        }
        assert_eq!(marks[15..], [None; 5]);
        assert_eq!(servers.mark(address(3)), marks[3], "the same again");
    }

    #[test]
    fn threads_agree_on_the_marks() {
        let servers = Servers::default();
        let marks = || [3, 1, 2].map(|last| servers.mark(address(last)));
        let all = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(marks)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
            threads.into_iter().map(join).collect::<Vec<_>>()
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    }
}
