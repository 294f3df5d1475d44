//! `greygate export` as it is read: a header, one [`Item`] a line, and the end, which says how many there
//! were.

use serde::{Deserialize, Serialize};

use super::format::{Parsed, Parser};
use super::item::Item;

/// What an export says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always `export`.
    pub greygate: String,
    /// The layout of the lines; see [`Header::FORMAT`].
    pub format: u32,
    /// The greygate that wrote it.
    #[serde(default)]
    pub version: String,
    /// When the snapshot was taken that it was made of, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub taken: u64,
    /// Since when there was a history; absent if only some kinds were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_begun: Option<u64>,
    /// Names the seed that the keys were made with, and does not reveal it; absent where nothing has
    /// a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_check: Option<String>,
}

impl Header {
    /// The layout that this greygate writes and reads.
    pub const FORMAT: u32 = 1;
    /// What [`Header::greygate`] says.
    pub const EXPORT: &'static str = "export";
}

/// The last line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Always `end`.
    pub greygate: String,
    /// Items before it.
    pub items: u64,
}

impl End {
    /// After so many items.
    pub fn after(items: u64) -> Self {
        Self {
            greygate: END.to_owned(),
            items,
        }
    }
}

/// Reads an export.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    header: Option<Header>,
    /// Lines of items, good or bad.
    items: u64,
    end: Option<u64>,
}

impl Parser for JsonLines {
    fn line(&mut self, line: &str) -> Result<Parsed, String> {
        if line.trim().is_empty() {
            return Ok(Parsed::Nothing);
        }
        if self.end.is_some() {
            return Err("something follows the end".to_owned());
        }
        let Some(header) = &self.header else {
            let header: Header = serde_json::from_str(line).unwrap_or_default();
            if header.greygate != Header::EXPORT {
                return Err(format!(
                    "an export begins with {{\"greygate\":\"export\",\"format\":{}}}",
                    Header::FORMAT
                ));
            }
            if header.format != Header::FORMAT {
                return Err(format!(
                    "it has format {}, and this greygate reads {}",
                    header.format,
                    Header::FORMAT
                ));
            }
            self.header = Some(header.clone());
            return Ok(Parsed::Header(header));
        };
        if let Ok(end) = serde_json::from_str::<End>(line)
            && end.greygate == END
        {
            self.end = Some(end.items);
            return Ok(Parsed::End(end));
        }
        self.items += 1;
        let item: Item = serde_json::from_str(line).map_err(|error| format!("no item: {error}"))?;
        if item.has_key() && header.seed_check.is_none() {
            return Err("the header has no seed_check, which tells whose the key is".to_owned());
        }
        // Whether it is one at all shall be known before anything is sent.
        item.clone()
            .into_arrival()
            .map_err(|error| error.to_string())?;
        Ok(Parsed::Item(item))
    }

    fn end(&mut self) -> Result<(), String> {
        match (&self.header, self.end) {
            (None, _) => Err("the file has no header".to_owned()),
            (_, Some(items)) if items == self.items => Ok(()),
            (_, Some(items)) => Err(format!(
                "the end says that there are {items} items, and there are {}",
                self.items
            )),
            (_, None) => Err("the file has no end: it is not whole".to_owned()),
        }
    }
}

const END: &str = "end";
