//! Readers of the page who are slow, silent or many: mail does not notice, and the page comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::page::Watched;

#[test]
fn reader_that_never_reads_holds_up_no_mail_and_is_cut_off() {
    let watched = Watched::new();
    let mut readers: Vec<_> = (0..4).map(|_| connect(&watched)).collect();
    for reader in &mut readers {
        reader.write_all(REQUEST).expect("it is taken");
    }
    mail_flows(&watched);
    assert!(watched.page().contains("greygate_verdicts_total"));
    // What was written for a reader ends, and so does its connection, whether it was read or not.
    for reader in &mut readers {
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).expect("it is closed");
        assert!(answer.len() < 1 << 20, "{} bytes", answer.len());
    }
}

#[test]
fn request_that_comes_in_drips_is_cut_off_and_holds_up_no_mail() {
    let watched = Watched::new();
    let mut reader = connect(&watched);
    reader
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("a timeout");
    let begun = Instant::now();
    let mut byte = [0];
    for drip in REQUEST.iter().cycle() {
        // A request head that never ends; the daemon hangs up, or says that it took too long.
        let drip = if *drip == b'\n' { b'x' } else { *drip };
        if reader.write_all(&[drip]).is_err() {
            break;
        }
        match reader.read(&mut byte) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => break,
        }
        thread::sleep(Duration::from_millis(80));
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it is never cut off"
        );
        if begun.elapsed() < Duration::from_secs(1) {
            mail_flows(&watched);
        }
    }
    mail_flows(&watched);
    assert!(watched.page().contains("greygate_verdicts_total"));
}

#[test]
fn hundred_connections_hold_up_no_mail_and_those_beyond_the_bound_are_closed() {
    let watched = Watched::new();
    let mut crowd: Vec<_> = (0..100).map(|_| connect(&watched)).collect();
    mail_flows(&watched);
    let closed = crowd
        .iter_mut()
        .filter_map(|reader| {
            let timeout = Some(Duration::from_millis(50));
            reader.set_read_timeout(timeout).expect("a timeout");
            let outcome = reader.read(&mut [0]);
            (!matches!(outcome, Err(ref error) if error.kind() == ErrorKind::WouldBlock))
                .then_some(())
        })
        .count();
    assert_eq!(closed, 100 - 16, "sixteen at once");
    drop(crowd);
    let deadline = Instant::now() + Duration::from_secs(20);
    while watched
        .get("/livez")
        .map_or(true, |it| !it.ends_with("ok\n"))
    {
        assert!(Instant::now() < deadline, "the page does not come back");
        thread::sleep(Duration::from_millis(10));
    }
    let turned_away = watched.page();
    let counted = "greygate_admin_turned_away_total{door=\"metrics\"} ";
    assert!(turned_away.contains(counted), "{turned_away}");
}

#[test]
fn health_is_told_to_people_and_to_programs() {
    let watched = Watched::new();
    let answer = watched.get("/healthz").expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains("content-type: application/json\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("\r\n\r\n{\"healthy\":true,\"complaints\":[]}\n"),
        "{answer}"
    );
    assert!(watched.page().contains("\ngreygate_complaints 0\n"));
    assert!(watched.directory().join("state").is_dir());
}

/// Verdicts come while the readers are there, and as fast as ever.
fn mail_flows(watched: &Watched) {
    let begun = Instant::now();
    for number in 0..5 {
        watched
            .deferral(&format!("r{number}"))
            .expect("the milter answers");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}

fn connect(watched: &Watched) -> TcpStream {
    let stream = TcpStream::connect(watched.address()).expect("it listens");
    let timeout = Some(Duration::from_secs(30));
    stream.set_read_timeout(timeout).expect("a timeout");
    stream
}

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: mx\r\n\r\n";
