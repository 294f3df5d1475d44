//! The table of frames over a cable: every row is sent by the clients' end as it stands there, and
//! the program on the MX's interface must do with it what the library says, natively and in the
//! network stack.
//!
//! A test run shows the program a buffer; here it is shown what a driver, or the stack, makes of a
//! frame.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use aya::programs::XdpMode;
use greylist_ebpf::{abi::Counter, verdict::Action};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, sendto, socket,
    },
};
use support::{interrupt::settle, needs, requirements};

use crate::{
    cases::{Case, cases, populate},
    judge::Program,
    stage::{CLIENT_INTERFACE, INTERFACE, Stage},
};

#[test]
fn every_frame_of_the_table_meets_its_end_in_the_driver() {
    meets_its_end(XdpMode::Driver);
}

#[test]
fn every_frame_of_the_table_meets_its_end_in_the_stack() {
    meets_its_end(XdpMode::Skb);
}

fn meets_its_end(mode: XdpMode) {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    for (namespace, interface) in [(&stage.mx, INTERFACE), (&stage.clients, CLIENT_INTERFACE)] {
        namespace
            .ip(&["link", "set", "dev", interface, "mtu", "9000"])
            .expect("our own cable");
    }
    let mut program = Program::load(&object);
    populate(&mut program);
    stage
        .mx
        .run(|| program.xdp_mut().attach(INTERFACE, mode))
        .expect("an empty interface");
    let sender = Sender::open(&stage);
    let mut dropped = 0;
    for Case {
        name,
        frame,
        action,
        counter,
    } in cases()
    {
        let as_told = || count(&program, counter);
        let before = as_told();
        for _ in 0..COPIES {
            sender
                .send(&frame)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let counted = || (as_told() >= before + COPIES).then_some(());
        settle(PATIENCE, counted).unwrap_or_else(|| {
            let counted = as_told() - before;
            panic!(
                "{name}: {counted} of {COPIES} counted as {}",
                counter.name()
            )
        });
        if action == Action::Drop {
            dropped += COPIES;
        }
        let drops = |counter: &Counter| counter.is_dropped().then(|| program.count(*counter));
        let drops: u64 = Counter::ALL.iter().filter_map(drops).sum();
        assert_eq!(drops, dropped, "{name}");
    }
}

/// Frames counted as this, copies of a dropped one among them.
fn count(program: &Program, counter: Counter) -> u64 {
    let again = counter
        .is_dropped()
        .then(|| program.count(Counter::DroppedAgain));
    program.count(counter) + again.unwrap_or_default()
}

/// A socket that takes frames whole.
struct Sender {
    socket: OwnedFd,
    to: LinkAddr,
}

impl Sender {
    /// Opens one at the clients' end of the cable.
    fn open(stage: &Stage) -> Self {
        stage.clients.run(|| {
            let to = getifaddrs()
                .expect("the addresses of this namespace")
                .filter(|interface| interface.interface_name == CLIENT_INTERFACE)
                .find_map(|interface| interface.address?.as_link_addr().copied())
                .expect("our own cable has a hardware address");
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None::<SockProtocol>,
            )
            .expect("root may send frames");
            Self { socket, to }
        })
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        sendto(self.socket.as_raw_fd(), frame, &self.to, MsgFlags::empty())?;
        Ok(())
    }
}

/// More than the machine itself sends of a kind while a row is judged: neighbour discovery, mostly.
const COPIES: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(10);
