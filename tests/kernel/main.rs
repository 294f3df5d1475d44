//! The kernel program and the room that drives it, on a real kernel: root, network namespaces and
//! the object that `cargo xtask build` makes.
//!
//! - [`table`]: one table of frames, judged by the library on the host and by the object in the
//!   kernel, under `BPF_PROG_TEST_RUN`. The two must agree.
//! - [`traffic`]: real connections over a cable between two namespaces.
//! - [`refusals`]: what is in the way of a filter costs no mail and says its name.
//! - [`debug_log`]: what the program says of frames, in a build that does.
//! - [`neighbours`]: what a blocked client and the MX still have to say to each other.
//! - [`rights`]: a daemon that runs has none, and works.
//! - [`pinned`]: what outlives the process, and the way out of everything.

mod debug_log;
mod frames;
mod neighbours;
mod pinned;
mod refusals;
mod rights;
mod stage;
mod table;
mod traffic;
