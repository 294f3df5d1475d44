//! How one event looks: text behind a priority, a JSON object, or the fields of a journal entry.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Text for a journal that reads standard error: `<6>deferred client=192.0.2.7`.
pub(super) struct PrioritisedLine;

impl<S, N> FormatEvent<S, N> for PrioritisedLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        context.format_fields(writer.by_ref(), event)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer)
    }
}

/// One JSON object: `{"time":"…","level":"info","event":"deferred","client":"192.0.2.7"}`. Numbers and
/// truth values are such, all else is text.
pub(super) struct JsonLine {
    /// Whether a journal reads it, which wants the priority in front.
    pub(super) prioritised: bool,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.prioritised {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        writeln!(writer, "{}", json(event)?)
    }
}

/// The fields of an entry of the journal, in the form that its socket takes. A value has no line end
/// in it, so that none needs the binary form.
pub(super) struct JournalEntry {
    /// Whether the message is a JSON object, as [`JsonLine`] writes it.
    pub(super) json: bool,
}

impl<S, N> FormatEvent<S, N> for JournalEntry
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = String::new();
        if self.json {
            message = json(event)?;
        } else {
            context.format_fields(format::Writer::new(&mut message), event)?;
        }
        writeln!(writer, "MESSAGE={}", one_line(&message))?;
        writeln!(writer, "PRIORITY={}", priority(*event.metadata().level()))?;
        writeln!(writer, "SYSLOG_IDENTIFIER=greygate")?;
        let mut fields = JournalFields {
            text: String::new(),
        };
        event.record(&mut fields);
        writer.write_str(&fields.text)
    }
}

/// The syslog priority (`sd-daemon(3)`).
pub(super) fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => 6,
        _ => 7,
    }
}

fn json(event: &Event<'_>) -> Result<String, fmt::Error> {
    let mut time = String::new();
    SystemTime.format_time(&mut format::Writer::new(&mut time))?;
    let level = event.metadata().level().as_str().to_ascii_lowercase();
    let mut object = JsonFields {
        text: format!("{{\"time\":\"{time}\",\"level\":\"{level}\""),
    };
    event.record(&mut object);
    object.text.push('}');
    Ok(object.text)
}

/// The members of a JSON object.
struct JsonFields {
    text: String,
}

impl JsonFields {
    fn put(&mut self, field: &Field, value: impl fmt::Display) {
        let name = name_of(field);
        write!(self.text, ",\"{name}\":{value}").expect(CANNOT_FAIL);
    }
}

impl Visit for JsonFields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, serde_json::Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The fields of a journal entry, `GREYGATE_` before each.
struct JournalFields {
    text: String,
}

impl Visit for JournalFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let name = name_of(field).to_ascii_uppercase();
        writeln!(self.text, "GREYGATE_{name}={}", one_line(value)).expect(CANNOT_FAIL);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The first word of a line is its `event`.
fn name_of(field: &Field) -> &'static str {
    match field.name() {
        "message" => "event",
        name => name,
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}

const CANNOT_FAIL: &str = "writing to a String cannot fail";

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::tests::Written;
    use super::*;

    #[test]
    fn line_for_a_journal_begins_with_priority_and_word() {
        let written = write(PrioritisedLine);
        assert_eq!(
            written,
            "<6>deferred client=\"192.0.2.7\" left=3 helo_hops=true\n<3>full\n"
        );
    }

    #[test]
    fn json_line_is_one_object_with_values_of_their_kind() {
        let written = write(JsonLine { prioritised: false });
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(lines.len(), 2, "{written}");
        let object: serde_json::Value = serde_json::from_str(lines[0]).expect("it is JSON");
        assert_eq!(object["level"], "info");
        assert_eq!(object["event"], "deferred");
        assert_eq!(object["client"], "192.0.2.7");
        assert_eq!(object["left"], 3);
        assert_eq!(object["helo_hops"], true);
        let time = object["time"].as_str().expect("a text");
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(
            object.get("attempts").is_none(),
            "what is not known is left out"
        );
    }

    #[test]
    fn json_line_for_a_journal_has_its_priority_in_front() {
        let written = write(JsonLine { prioritised: true });
        assert!(written.starts_with("<6>{\"time\":"), "{written}");
    }

    #[test]
    fn journal_entry_has_a_field_for_each_value() {
        let written = write(JournalEntry { json: false });
        let (first, _) = written.split_once("MESSAGE=full").expect("two entries");
        assert_eq!(
            first,
            "MESSAGE=deferred client=\"192.0.2.7\" left=3 helo_hops=true\nPRIORITY=6\n\
             SYSLOG_IDENTIFIER=greygate\nGREYGATE_EVENT=deferred\nGREYGATE_CLIENT=192.0.2.7\n\
             GREYGATE_LEFT=3\nGREYGATE_HELO_HOPS=true\n"
        );
    }

    #[test]
    fn line_end_in_a_value_begins_no_field() {
        let written = Written::default();
        written.through(JournalEntry { json: false }, Level::Info, || {
            tracing::error!(why = "one\nPRIORITY=0", "unsaved");
        });
        let text = written.text();
        let priorities = text.lines().filter(|it| it.starts_with("PRIORITY="));
        assert_eq!(priorities.collect::<Vec<_>>(), ["PRIORITY=3"], "{text}");
    }

    fn write(
        form: impl FormatEvent<tracing_subscriber::Registry, format::DefaultFields>
        + Send
        + Sync
        + 'static,
    ) -> String {
        let written = Written::default();
        written.through(form, Level::Info, || {
            let attempts: Option<u32> = None;
            tracing::info!(
                client = "192.0.2.7",
                left = 3,
                attempts,
                helo_hops = true,
                "deferred"
            );
            tracing::error!("full");
            tracing::debug!("unseen");
        });
        written.text()
    }
}
