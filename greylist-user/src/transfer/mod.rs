//! What greygate writes for others, and what it reads of others: records as lines of text.
//!
//! Knows the formats: greygate's own JSON lines, milter-greylist's `greylist.db`, Postgrey's databases
//! as `db_dump` writes them, and SQLgrey's tables as CSV. Every parser is pure, takes one line at a
//! time and keeps nothing of it, so that a file of any size, or of any bytes, costs little memory.
//! Leaves what a record is worth to `policy`, and asking a daemon to `cli`.

mod civil;
mod db_dump;
mod format;
mod item;
mod jsonl;
mod lines;
mod milter_greylist;
mod postgrey;
mod sqlgrey;

pub use format::{Format, Options, Parsed, Parser};
pub use item::{InvalidItem, Item, Kind};
pub use jsonl::{End, Header};
pub use lines::{Finding, Lines};
