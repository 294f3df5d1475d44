//! A line of any bytes is understood or not, without a panic; what is understood is part of the line.

use greygate::simulate::maillog::{Calendar, Event, Line, Program, parse_time, zone};

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    let _zone_or_not = zone(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _time_or_not = parse_time(text, 3_600);
    }
    let mut calendar = Calendar::beginning(2026, 0);
    for line in bytes.split(|&byte| byte == b'\n') {
        if let Some(line) = Line::parse(line) {
            let _time_or_not = calendar.follow(line.stamp);
            let _event_or_not = Event::parse(&line.program, line.message);
        }
        // Past the stamp, which takes a fuzzer long to find.
        for daemon in [&b"smtpd"[..], b"cleanup", b"qmgr", b"postscreen", b"lmtp"] {
            let program = Program {
                instance: b"postfix",
                service: b"",
                daemon,
                pid: 1,
            };
            if let Some(Event::Refusal(refusal)) = Event::parse(&program, line) {
                assert!(refusal.text.len() <= line.len());
                assert!(matches!(refusal.class, 4 | 5));
            }
        }
    }
}
