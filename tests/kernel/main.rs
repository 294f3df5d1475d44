//! The kernel program and the room that drives it, on a real kernel: root, network namespaces and
//! the object that `cargo xtask build` makes.
//!
//! - [`table`]: one table of frames ([`cases`]), judged by the library on the host and by the object
//!   in the kernel, under `BPF_PROG_TEST_RUN` ([`judge`]). The two must agree.
//! - [`cable`]: the same table, sent over a cable to the attached program.
//! - [`stories`]: what has a past, rates and repetitions, judged by both as well.
//! - [`contention`]: what is promised when many CPUs look at one client.
//! - [`traffic`]: real connections over a cable between two namespaces.
//! - [`capacity`]: many sentences, a full table, and strangers who write into it.
//! - [`refusals`]: what is in the way of a filter costs no mail and says its name.
//! - [`pinned`]: what outlives the process by hand, and the way out of everything.
//! - [`lifecycle`]: restarts, upgrades, crashes, interfaces that come and go.
//! - [`upgrades`]: pins of other layouts, and those that a crash left half done.
//! - [`commands`]: the same with the real daemon and the real command line.
//! - [`neighbours`]: what a blocked client and the MX still have to say to each other.
//! - [`rights`]: a daemon that runs has none, and works.
//! - [`debug_log`]: what the program says of frames, in a build that does.

mod cable;
mod capacity;
mod cases;
mod commands;
mod contention;
mod debug_log;
mod frames;
mod judge;
mod lifecycle;
mod neighbours;
mod pinned;
mod refusals;
mod rights;
mod stage;
mod stories;
mod table;
mod traffic;
mod upgrades;
