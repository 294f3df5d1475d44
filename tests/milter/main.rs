//! The milter on the wire: a real server on loopback, and an MTA that is played byte by byte.

mod bad_input;
mod content;
mod descriptors;
mod drain;
mod funnel;
mod limits;
mod refusals;
mod sessions;
mod traces;
mod world;
