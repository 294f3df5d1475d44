//! Messages that greygate reads as they pass, and those whose content comes to it unread.

use std::time::{Duration, Instant};

use support::Error;
use support::postfix::address;
use support::smtp::{Message, Reply, Session};

use crate::send;
use crate::stage::{KNOWN, READ, Stage, WAITED};

const PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn message_without_size_is_read_and_deferred_at_its_end_and_nothing_is_lost() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    let mut session = stage.client().open(PATIENCE)?;
    let text = Message::new("bob@sender.example", "a-message").text();
    let other = text.replace("This is", "This was");
    for text in [&text, &text, &other] {
        let reply = deliver(&mut session, READ, text)?;
        assert!(reply.is_greylisting(), "{reply}");
    }
    let reply = deliver(&mut session, KNOWN, &text)?;
    assert!(reply.is_positive(), "{reply}");
    session.quit()?;
    assert_eq!(stage.metrics.contents_read.get(), 3);
    let contents = stage.script.contents();
    assert!(contents[0].is_some());
    assert_eq!(contents[0], contents[1], "the same message");
    assert_ne!(contents[0], contents[2], "another body");
    assert_eq!(contents.len(), 3);
    stage.postfix().wait_for_delivery(KNOWN, "a-message")?;
    assert!(stage.postfix().delivered(READ)?.is_empty());
    Ok(())
}

#[test]
fn recipients_that_pass_wait_with_one_that_is_read() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    let message = Message::new("bob@sender.example", "a-message");
    let round = send(stage.client(), &message, &[KNOWN, READ, WAITED])?;
    let all_taken = round.recipients.iter().all(|(_, it)| it.is_positive());
    assert!(all_taken, "{round:?}");
    assert!(round.outcome().is_greylisting(), "{round:?}");
    assert_eq!(round.taken(), [""; 0]);
    assert!(stage.postfix().delivered(KNOWN)?.is_empty());
    Ok(())
}

#[test]
fn body_of_20_megabytes_is_read_in_constant_memory() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    let mut session = stage.client().open(PATIENCE)?;
    let text = of_length(20_000_000);
    // The client's copies are in this process too, so they are there in what it is compared with.
    let reply = deliver(&mut session, KNOWN, &text)?;
    assert!(reply.is_positive(), "{reply}");
    let before = peak()?;
    let began = Instant::now();
    let reply = deliver(&mut session, READ, &text)?;
    let took = began.elapsed();
    let grown = peak()? - before;
    assert!(reply.is_greylisting(), "{reply}");
    assert_eq!(stage.metrics.contents_read.get(), 1);
    eprintln!("20 MB read in {took:?}; the peak of memory grew by {grown} kB");
    assert!(grown < 8_000, "{grown} kB");
    Ok(())
}

/// No time is asserted, since a busy machine has none to promise: what is shown is compared by who
/// changes what is negotiated. A stall would be 40 ms a message.
#[test]
fn header_that_is_due_costs_no_stall() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    for length in [500, 10_000, 70_000, 140_000, 300_000] {
        let text = of_length(length);
        let mut times = [Duration::ZERO; 3];
        for (time, to) in times.iter_mut().zip([KNOWN, WAITED, READ]) {
            for _ in 0..SESSIONS {
                let mut session = stage.client().open(PATIENCE)?;
                let began = Instant::now();
                for _ in 0..MESSAGES {
                    let reply = deliver(&mut session, to, &text)?;
                    assert_eq!(reply.is_positive(), to != READ, "{reply}");
                }
                *time += began.elapsed() / (SESSIONS * MESSAGES);
                session.quit()?;
            }
        }
        let [ended, header, read] = times;
        eprintln!(
            "{length} bytes: {ended:?} ended at DATA, {header:?} with a header, {read:?} read"
        );
    }
    assert_eq!(stage.metrics.headers_added.get(), 5 * 50);
    Ok(())
}

/// One message, without `SIZE=`; the reply to its end.
fn deliver(session: &mut Session, to: &str, text: &str) -> Result<Reply, Error> {
    session.command("MAIL FROM:<bob@sender.example>")?;
    let reply = session.command(&format!("RCPT TO:<{}>", address(to)))?;
    assert!(reply.is_positive(), "{reply}");
    let reply = session.command("DATA")?;
    assert_eq!(reply.code, 354, "{reply}");
    Ok(session.command(&format!("{text}."))?)
}

fn of_length(bytes: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(76));
    let header = "From: <bob@sender.example>\r\nMessage-ID: <1@sender.example>\r\n\r\n";
    header.to_owned() + &line.repeat(bytes / line.len())
}

/// The most memory that this process ever had resident, in kilobytes.
fn peak() -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status");
    let status = status.map_err(Error::io("reading /proc/self/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    line.and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| Error::unexpected("there should be a VmHWM", status))
}

/// Few enough in a session that Postfix does not slow it for its errors.
const MESSAGES: u32 = 5;
const SESSIONS: u32 = 10;
