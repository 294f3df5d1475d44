//! Orders to list somebody, or not any more, as they are told: of two the later counts, whole.

use std::sync::Arc;
use std::time::Duration;

use super::read::Bytes;
use super::written::Fields;
use super::{Unreadable, Value};
use crate::policy::{Entry, ListOrder, LiveList, Order, Timestamp, Word};

/// What is told of an order at `now`.
pub fn order_value(order: &ListOrder, now: Timestamp) -> Value {
    let mut fields = Fields::new();
    fields.time(order.word.at());
    let lasts = match &order.word {
        Word::Listed(order) => {
            fields.u8(LISTED);
            fields.time(order.until.unwrap_or(Timestamp::NEVER));
            fields.u32(order.uid);
            fields.rest(order.note.as_bytes());
            // It is the latest word even when it is over.
            let until = order.until.map_or(FOR_EVER, |until| until.since(now));
            until.max(Word::REMOVED_KEPT)
        }
        Word::Removed(_) => {
            fields.u8(REMOVED);
            Word::REMOVED_KEPT
        }
    };
    Value {
        form: FORM.into(),
        bytes: fields.done(),
        lasts,
    }
}

/// What the engine has of an entry.
///
/// # Errors
///
/// The value is of another layout, or is no order that an operator can give.
pub fn read_order(list: LiveList, entry: Entry, value: &[u8]) -> Result<ListOrder, Unreadable> {
    let word = read_word(&mut Bytes::of(value)?).ok_or(Unreadable)?;
    Ok(ListOrder { list, entry, word })
}

fn read_word(bytes: &mut Bytes<'_>) -> Option<Word> {
    let at = bytes.time().filter(|it| *it < BEYOND_DATES)?;
    match bytes.u8()? {
        REMOVED if bytes.rest().is_empty() => Some(Word::Removed(at)),
        LISTED => {
            let until = bytes.time().filter(|it| *it < BEYOND_DATES)?;
            let until = Some(until).filter(|it| *it > Timestamp::NEVER);
            let uid = bytes.u32()?;
            let note = std::str::from_utf8(bytes.rest()).ok()?;
            // A line of its own in a list file would be another entry.
            if note.len() > Order::LONGEST_NOTE || note.contains(char::is_control) {
                return None;
            }
            let note = note.to_owned();
            Some(Word::Listed(Arc::new(Order {
                at,
                uid,
                until,
                note,
            })))
        }
        _ => None,
    }
}

const FORM: &str = "r";
/// Removing counts before listing of the same moment.
const LISTED: u8 = 0;
const REMOVED: u8 = 1;
/// The year 10000, which no list file can tell.
const BEYOND_DATES: Timestamp = Timestamp::from_millis(253_402_300_800_000);
/// Ten years.
const FOR_EVER: Duration = Duration::from_hours(10 * 365 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(until: Option<Timestamp>, note: &str) -> ListOrder {
        ListOrder {
            list: LiveList::Deny,
            entry: "from @example.org".parse().expect("an entry"),
            word: Word::Listed(Arc::new(Order {
                at: NOW,
                uid: 1_000,
                until,
                note: note.to_owned(),
            })),
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn what_is_written_is_read() {
        let removed = ListOrder {
            word: Word::Removed(NOW),
            ..listed(None, "")
        };
        let soon = NOW.after(Duration::from_secs(7));
        for order in [
            listed(None, ""),
            listed(Some(soon), "ticket 4711 # ü"),
            removed,
        ] {
            let value = order_value(&order, NOW);
            let read = read_order(order.list, order.entry.clone(), &value.bytes);
            assert_eq!(read, Ok(order));
        }
    }

    #[test]
    fn value_lasts_as_long_as_the_order_counts() {
        let lasts = |order: &ListOrder| order_value(order, NOW).lasts;
        let longer = 2 * Word::REMOVED_KEPT;
        assert_eq!(lasts(&listed(Some(NOW.after(longer)), "")), longer);
        assert_eq!(
            lasts(&listed(Some(NOW), "")),
            Word::REMOVED_KEPT,
            "as the latest word"
        );
        assert!(lasts(&listed(None, "")) > longer);
    }

    #[test]
    fn values_compare_as_the_words_do() {
        let words = [
            Word::Removed(NOW),
            listed(None, "a").word,
            listed(Some(NOW), "").word,
            listed(None, "").word,
            Word::Removed(NOW.after(Duration::from_secs(1))),
        ];
        let bytes = |word: &Word| {
            let word = word.clone();
            let order = ListOrder {
                word,
                ..listed(None, "")
            };
            order_value(&order, NOW).bytes
        };
        for word in &words {
            for other in &words {
                let expected = bytes(word) > bytes(other);
                assert_eq!(word.supersedes(other), expected, "{word:?} {other:?}");
            }
        }
    }

    #[test]
    fn note_that_would_be_a_line_of_its_own_is_refused() {
        let value = order_value(&listed(None, "x\n0.0.0.0/0"), NOW);
        let entry = listed(None, "").entry;
        assert_eq!(
            read_order(LiveList::Deny, entry, &value.bytes),
            Err(Unreadable)
        );
    }
}
