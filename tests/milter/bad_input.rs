//! Bytes that no MTA sends: the connection they come on is closed, counted, and nobody else
//! notices.

use support::mta::{Mta, POSTFIX};

use crate::world::World;

#[test]
fn strange_bytes_close_their_connection_only() {
    let world = World::new();
    let mut neighbour = world.session();
    let cases: [(&[u8], &str); 7] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "tls"),
        (b"\0\0\0\0", "frame_length"),
        (b"\x7f\xff\xff\xffB", "frame_length"),
        (b"\0\0\x40\x01H", "frame_length"),
        (b"\0\0\0\x01?", "unknown_command"),
        (b"\0\0\0\x02Hx", "order"),
    ];
    for (bytes, reason) in cases {
        let metric = format!(r#"milter_ended_total{{reason="{reason}"}}"#);
        let before = world.metric(&metric);
        let mut mta = Mta::connect(world.inet()).expect("a connection");
        mta.write(bytes).expect("written");
        mta.wait_for_close().expect(reason);
        world.wait_for_metric(&metric, before + 1);
    }
    neighbour.mail("a@x.example").expect("held");
    assert!(
        neighbour
            .rcpt("b@y.example")
            .expect("an answer")
            .is_deferral()
    );
}

#[test]
fn malformed_commands_after_negotiation_close_the_connection() {
    let world = World::new();
    let cases: [(u8, &[u8], &str); 4] = [
        (b'C', b"mx\x004\0\x19999.0.2.7\0", "malformed"),
        (b'C', b"mx\0Z\0\x19192.0.2.7\0", "malformed"),
        (b'O', b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff", "order"),
        (b'R', b"<b@y.example>\0", "order"),
    ];
    for (kind, payload, reason) in cases {
        let metric = format!(r#"milter_ended_total{{reason="{reason}"}}"#);
        let before = world.metric(&metric);
        let (mut mta, _) = Mta::negotiate(world.unix(), POSTFIX).expect("terms");
        mta.hold(kind, payload);
        mta.flush().expect("written");
        mta.wait_for_close().expect(reason);
        world.wait_for_metric(&metric, before + 1);
    }
}

#[test]
fn version_1_is_refused() {
    let world = World::new();
    Mta::negotiate(world.inet(), [1, 0x0f, 0x0f]).expect_err("no terms");
    world.wait_for_metric(r#"milter_ended_total{reason="version"}"#, 1);
}

#[test]
fn end_in_the_middle_of_a_frame_is_an_end() {
    let world = World::new();
    let mut mta = world.session();
    mta.flush().expect("written");
    mta.write(b"\0\0\0\x20M<half").expect("written");
    mta.finish().expect("closed");
    mta.wait_for_close().expect("closed");
    world.wait_for_metric(r#"milter_ended_total{reason="eof"}"#, 1);
}

#[test]
fn longest_body_chunk_is_taken() {
    let world = World::new();
    let (mut mta, _) = Mta::negotiate(world.inet(), [2, 0, 0]).expect("terms");
    let chunk = vec![b'x'; 65_535];
    assert!(mta.command(b'B', &chunk).expect("an answer").is_continue());
}

#[test]
fn hostile_texts_are_only_texts() {
    let world = World::new();
    let mut mta = world.session();
    mta.command(b'M', b"<%s%n\r\n\xff\x1b@x>\0SIZE=\xff\0")
        .expect("held");
    let answer = mta.command(b'R', b"<%d\r\n.\r\n@y>\0").expect("an answer");
    assert_eq!(
        answer.status,
        r"y451 4.7.1 Greylisted, please try again later\x00"
    );
}

#[test]
fn judge_that_falls_over_takes_one_session_with_it() {
    let world = World::with(|settings| settings.workers = 1);
    let mut neighbour = world.session();
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    mta.rcpt("panic@y.example").expect_err("the session ended");
    world.wait_for_metric(r#"milter_ended_total{reason="panic"}"#, 1);
    neighbour.mail("a@x.example").expect("held");
    assert!(
        neighbour
            .rcpt("b@y.example")
            .expect("an answer")
            .is_deferral()
    );
    drop(neighbour);
    world.wait_for_metric("milter_connections_open", 0);
}
