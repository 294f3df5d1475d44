//! What the operator wants, read from one TOML file.
//!
//! Knows every key with its range, default and the reason for it, and says `FILE:LINE: what is
//! wrong; how to mend it` of a file that is not legal. Leaves what a setting does to the room
//! that owns it: each room has a `Settings` with its defaults, and the rules are a
//! [`Policy`](crate::policy::Policy).
//!
//! A key is declared once, in `model`; reading a file and printing the defaults both walk that
//! one declaration, so neither can know a key that the other does not.

mod changes;
mod check;
mod default;
mod document;
mod duration;
mod error;
mod list_file;
mod lists;
mod model;
mod overrides;
mod read;
mod remark;
mod usable;
mod value;

pub use changes::KeyName;
pub use default::default_config;
pub use duration::{InvalidDuration, format as format_duration, parse as parse_duration};
pub use error::{ConfigError, Problem};
pub use list_file::{ListLine, parse as parse_list};
pub use model::Config;
pub use overrides::{InvalidOverride, Override};
pub use read::{
    defaults_under, parse, read, read_anywhere, read_rules_under, read_under, socket_of,
};

/// Where the file is looked for when nobody names another.
pub const DEFAULT_FILE: &str = "/etc/greygate/greygate.toml";
