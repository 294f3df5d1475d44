//! What one value may be: TOML → the type a room wants, with what to write instead when it is
//! not, and back again for `default-config`.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Bound, Range, RangeBounds};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::duration;

use super::model::{Each, Greylisted, NoRetry, Switch};
use crate::admin::MetricsListen;
use crate::cluster;
use crate::dns::{Server, Zone};
use crate::kernel::Mode;
use crate::log::{self, Addresses, Destination, Level, Verdicts};
use crate::milter::{Endpoint, HeaderName, HeaderOn, RefusalText, ReplyText};
use crate::policy::{self, Action, AddressPattern, ContentTrust, Entry, Identity, Refusing, Who};
use crate::store::JournalMode;

/// A value as it stands in the file, with its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// Reads the value, or says what to write instead.
    fn read(value: &Value<'_>) -> Result<Self, Fault>;

    /// The value in TOML, such that [`Setting::read`] gives it back.
    fn show(&self) -> String;
}

/// What is wrong with a value, and where in the text it stands.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) what: String,
    /// The number, where it is one that the type cannot hold, and so lies outside of any bounds.
    pub(super) beyond: Option<String>,
}

impl Fault {
    pub(super) fn new(value: &Value<'_>, what: impl Into<String>) -> Self {
        Self {
            at: value.span(),
            what: what.into(),
            beyond: None,
        }
    }
}

impl Setting for Duration {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        match value.get_ref() {
            DeValue::Integer(number) => duration::parse(number.as_str()),
            _ => duration::parse(string(value, "a duration such as \"3m\"")?),
        }
        .map_err(|invalid| Fault::new(value, invalid.to_string()))
    }

    fn show(&self) -> String {
        quote(&duration::format(*self))
    }
}

impl Setting for String {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "a text in quotes")?;
        if text.chars().any(char::is_control) {
            return Err(Fault::new(
                value,
                "control characters are not allowed; remove them",
            ));
        }
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        quote(self)
    }
}

impl Setting for PathBuf {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let path = Self::from(string(value, "a path in quotes")?);
        if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) {
            Ok(path)
        } else {
            Err(Fault::new(
                value,
                format!(
                    "\"{}\" does not begin at the root; write the whole path, from \"/\" on",
                    path.display().to_string().escape_debug()
                ),
            ))
        }
    }

    fn show(&self) -> String {
        quote(&self.display().to_string())
    }
}

impl Setting for IpAddr {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "an address such as \"192.0.2.25\"")?;
        text.parse().map_err(|_| {
            let what = format!(
                "{text:?} is no address; write one such as \"192.0.2.25\" or \"2001:db8::25\""
            );
            Fault::new(value, what)
        })
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for bool {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        match value.get_ref() {
            DeValue::Boolean(word) => Ok(*word),
            other => Err(Fault::new(
                value,
                format!("expected true or false, found {}", kind(other)),
            )),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for IpNet {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "a network such as \"192.0.2.0/24\"")?;
        policy::network_of(text).map_err(|what| Fault::new(value, what))
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for Endpoint {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "an endpoint such as \"inet:127.0.0.1:8892\"")?;
        text.parse().map_err(|invalid| {
            let what = format!(
                "{invalid}; write it in Postfix's form, \"inet:127.0.0.1:8892\" or \"unix:/run/greygate/milter.sock\""
            );
            Fault::new(value, what)
        })
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for ReplyText {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "a reply in quotes")?;
        text.parse().map_err(|invalid| {
            let default = Self::default();
            Fault::new(value, format!("{invalid}; write one such as \"{default}\""))
        })
    }

    fn show(&self) -> String {
        quote(self.as_str())
    }
}

impl Setting for RefusalText {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "a text in quotes")?;
        text.parse().map_err(|invalid| {
            let example = Self::for_bad_reputation();
            Fault::new(value, format!("{invalid}; write one such as \"{example}\""))
        })
    }

    fn show(&self) -> String {
        quote(self.as_str())
    }
}

impl Setting for Option<HeaderName> {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let name = string(value, "a header name, or \"off\"")?;
        if name == OFF {
            return Ok(None);
        }
        name.parse().map(Some).map_err(|invalid| {
            let what = format!("{invalid}; write one such as \"X-Greylist\", or \"off\"");
            Fault::new(value, what)
        })
    }

    fn show(&self) -> String {
        quote(self.as_ref().map_or(OFF, HeaderName::as_str))
    }
}

impl Setting for Server {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "an address such as \"127.0.0.1\"")?;
        text.parse().map_err(|invalid| {
            let what = format!(
                "{invalid}; write one such as \"127.0.0.1\" or \"192.0.2.53:5353\", and no name"
            );
            Fault::new(value, what)
        })
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for cluster::Server {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "a server such as \"10.0.0.7:6379\"")?;
        // What is wrong with it may hold a password, and is not repeated.
        text.parse()
            .map_err(|invalid: cluster::InvalidServer| Fault::new(value, invalid.to_string()))
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for cluster::Secret {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        // What was written is the password, quotes or not, and is not repeated.
        let unquoted = |_| Fault::new(value, "expected a text in quotes");
        string(value, "").map_err(unquoted)?;
        String::read(value).map(Self::new)
    }

    /// Tells one from another, and nothing else.
    fn show(&self) -> String {
        quote(&self.mark())
    }
}

/// None where the text is empty.
impl Setting for Option<PathBuf> {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        match string(value, "a path in quotes")? {
            "" => Ok(None),
            _ => PathBuf::read(value).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| quote(""), PathBuf::show)
    }
}

impl Setting for Zone {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "a zone such as \"list.dnswl.org\"")?;
        text.parse().map_err(|invalid| {
            let what = format!("{invalid}; write a domain such as \"list.dnswl.org\"");
            Fault::new(value, what)
        })
    }

    fn show(&self) -> String {
        quote(self.as_str())
    }
}

impl Setting for MetricsListen {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "an address with its port, or \"off\"")?;
        if text == OFF {
            return Ok(Self::Off);
        }
        text.parse::<SocketAddr>().map(Self::At).map_err(|_| {
            let what = format!(
                "{text:?} is no address with its port; write one such as \"127.0.0.1:9892\", or \"off\""
            );
            Fault::new(value, what)
        })
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for Entry {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "an entry such as \"192.0.2.0/24\"")?;
        text.parse()
            .map_err(|invalid: policy::InvalidEntry| Fault::new(value, invalid.to_string()))
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for AddressPattern {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let text = string(value, "a recipient or a domain in quotes")?;
        text.parse()
            .map_err(|invalid: policy::InvalidEntry| Fault::new(value, invalid.to_string()))
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

/// Each item is read by itself, so that all that are wrong are named.
impl<T: Setting> Setting for Each<T> {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let DeValue::Array(items) = value.get_ref() else {
            let found = kind(value.get_ref());
            let what = format!("expected a list in [brackets], found {found}");
            return Err(Fault::new(value, what));
        };
        let mut each = Self::default();
        for item in items {
            match T::read(item) {
                Ok(read) => each.items.push((item.span().start, read)),
                Err(Fault { at, what, .. }) => each.faults.push((at.start, what)),
            }
        }
        Ok(each)
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.items.iter().map(|(_, item)| item.show()).collect();
        format!("[{}]", items.join(", "))
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(value: &Value<'_>) -> Result<Self, Fault> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().map(T::read).collect(),
            other => Err(Fault::new(
                value,
                format!("expected a list in [brackets], found {}", kind(other)),
            )),
        }
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(T::show).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Whole numbers, in the range of their type.
macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn read(value: &Value<'_>) -> Result<Self, Fault> {
                let DeValue::Integer(number) = value.get_ref() else {
                    let found = kind(value.get_ref());
                    return Err(Fault::new(value, format!("expected a whole number, found {found}")));
                };
                Self::from_str_radix(number.as_str(), number.radix()).map_err(|_| {
                    let number = number.to_string();
                    let what = out_of_range(&number, &(Self::MIN..=Self::MAX));
                    Fault {
                        beyond: Some(number),
                        ..Fault::new(value, what)
                    }
                })
            }

            fn show(&self) -> String {
                grouped(&self.to_string())
            }
        }
    )*};
}

whole_numbers!(u8, u16, u32, u64, usize);

/// Words of which one is chosen, with the type each stands for.
macro_rules! words {
    ($($type:ty { $($word:literal => $variant:path),+ $(,)? })*) => {$(
        impl Setting for $type {
            fn read(value: &Value<'_>) -> Result<Self, Fault> {
                let words = [$(concat!("\"", $word, "\"")),+].join(" or ");
                match string(value, &words)? {
                    $($word => Ok($variant),)+
                    other => Err(Fault::new(value, format!("{other:?} is not known; write {words}"))),
                }
            }

            fn show(&self) -> String {
                quote(match self { $($variant => $word),+ })
            }
        }
    )*};
}

words! {
    Action { "enforce" => Action::Enforce, "observe" => Action::Observe }
    Addresses { "full" => Addresses::Full, "domain" => Addresses::Domain, "hash" => Addresses::Hash }
    cluster::Mode { "single" => cluster::Mode::Single, "sentinel" => cluster::Mode::Sentinel, "cluster" => cluster::Mode::Cluster }
    ContentTrust { "domain" => ContentTrust::Domain, "address" => ContentTrust::Address, "off" => ContentTrust::Off }
    Destination { "stderr" => Destination::Stderr, "journal" => Destination::Journal }
    JournalMode { "second" => JournalMode::Second, "each" => JournalMode::Each, "never" => JournalMode::Never }
    log::Format { "text" => log::Format::Text, "json" => log::Format::Json }
    policy::Mode { "envelope" => policy::Mode::Envelope, "content" => policy::Mode::Content, "hybrid" => policy::Mode::Hybrid }
    Greylisted { "all" => Greylisted::All, "listed" => Greylisted::Listed }
    Identity { "network" => Identity::Network, "spf" => Identity::Spf }
    Who { "everyone" => Who::Everyone, "suspicious" => Who::Suspicious }
    HeaderOn { "delayed" => HeaderOn::Delayed, "passed" => HeaderOn::Passed }
    NoRetry { "shipped" => NoRetry::Shipped, "off" => NoRetry::Off }
    Level {
        "error" => Level::Error,
        "warn" => Level::Warn,
        "info" => Level::Info,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
    }
    Switch { "on" => Switch::On, "off" => Switch::Off }
    Verdicts { "all" => Verdicts::All, "passed" => Verdicts::Passed, "none" => Verdicts::None }
    Refusing { "observe" => Refusing::Observe, "defer" => Refusing::Defer, "reject" => Refusing::Reject }
    Mode {
        "native-preferred" => Mode::NativePreferred,
        "native-required" => Mode::NativeRequired,
        "generic" => Mode::Generic,
    }
}

/// What there is to say of a value, as it is shown, that does not lie within `bounds`.
pub(super) fn out_of_range<T: Setting>(shown: &str, bounds: &impl RangeBounds<T>) -> String {
    format!("{shown} is out of range; write one {}", show_bounds(bounds))
}

/// The bounds as an operator reads them: "from 1 to 128", "at least 1".
pub(super) fn show_bounds<T: Setting>(bounds: &impl RangeBounds<T>) -> String {
    match (bounds.start_bound(), bounds.end_bound()) {
        (Bound::Included(low), Bound::Included(high)) => {
            format!("from {} to {}", low.show(), high.show())
        }
        (Bound::Included(low), _) => format!("at least {}", low.show()),
        (_, Bound::Included(high)) => format!("at most {}", high.show()),
        _ => "another".to_owned(),
    }
}

fn string<'v>(value: &'v Value<'_>, expected: &str) -> Result<&'v str, Fault> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        other => Err(Fault::new(
            value,
            format!("expected {expected}, found {}", kind(other)),
        )),
    }
}

fn kind(value: &DeValue<'_>) -> String {
    match value {
        // It may have a password in it.
        DeValue::String(text) if text.contains("://") => "a URL".to_owned(),
        DeValue::String(text) if text.contains('@') => "a text with an @".to_owned(),
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(word) => word.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The word for doing without.
const OFF: &str = "off";

/// A TOML basic string.
fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Digits in groups of three, as TOML allows.
fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}
