//! The milter on the wire: a real server on loopback, and an MTA that is played byte by byte.

mod attempt;
mod bad_input;
mod content;
mod cut;
mod descriptors;
mod drain;
mod funnel;
mod handed;
mod hybrid;
mod idle;
mod limits;
mod peers;
mod pulse;
mod refusals;
mod round_trips;
mod selective;
mod sessions;
mod traces;
mod world;
