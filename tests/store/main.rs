//! The store as the daemon uses it: many threads, restarts, files of other versions, a turned
//! clock.

mod behaviour_restart;
mod concurrent;
mod content;
mod content_trust;
mod crash;
mod disk;
mod evidence;
mod explain;
mod failures;
mod fixture;
mod funnel;
mod hopping;
mod keeper;
mod ladder;
mod ladder_of_sentences;
mod layouts;
mod message;
mod pools;
mod reading;
mod reputation;
mod rhythm;
mod senders;
mod sentences;
mod soak;
