//! What a session writes to the log.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Level;

use super::*;

#[test]
fn message_that_was_read_is_told_by_its_name_and_each_recipient_with_its_reason() {
    let lines = logged(|| {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.reads("roams@1", content(300));
        talk.greets();
        for is_known in [false, true] {
            if is_known {
                talk.reads("roams@2", Verdict::Pass(PassReason::ContentAgain));
            }
            talk.mails("a@x.example");
            talk.rcpts("roams@1");
            talk.rcpts("roams@2");
            talk.says(b'D', b"Ti\x004ABC\0");
            talk.says(b'T', b"");
            talk.says(b'E', b"x");
        }
    });
    let of = |queue_id: &str, to: &str, verdict: &str, reason: &str| {
        let from = "client=192.0.2.7 name=mx.client.example helo=helo.client.example";
        let paths = format!("reverse_path=a@x.example recipient={to}");
        format!("{queue_id}{from} {paths} verdict=\"{verdict}\" reason=\"{reason}\"")
    };
    let read = |to| format!("DEBUG read {} attempts=1", of("", to, "read", "roaming"));
    let id = "queue_id=4ABC ";
    let passed = |to, reason| of(id, to, "passed", reason);
    let expected = [
        read("roams@1"),
        read("roams@2"),
        "DEBUG content queue_id=4ABC".to_owned(),
        format!(
            " INFO passed {} waited=300 held=true",
            passed("roams@1", "content")
        ),
        format!(
            " INFO deferred {}",
            of(id, "roams@2", "deferred", "content-new")
        ),
        "DEBUG held queue_id=4ABC stage=\"end_of_message\"".to_owned(),
        read("roams@1"),
        read("roams@2"),
        "DEBUG content queue_id=4ABC".to_owned(),
        format!(" INFO passed {} waited=300", passed("roams@1", "content")),
        format!(" INFO passed {}", passed("roams@2", "content-again")),
        "DEBUG delayed queue_id=4ABC waited=300".to_owned(),
    ];
    assert_eq!(lines, expected);
}

/// The lines that are written meanwhile.
fn logged(work: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer({
            let written = written.clone();
            move || written.clone()
        })
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = written.0.lock().expect("no writer panics").clone();
    let text = String::from_utf8(bytes).expect("log lines are text");
    text.lines().map(str::to_owned).collect()
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
