//! What a real Postfix said, replayed at every split.

use std::{fs, path::Path, time::Duration};

use greygate::{
    milter::Endpoint,
    policy::{PassReason, RefuseReason, Verdict},
};
use support::mta::Mta;

use crate::world::World;

#[test]
fn recorded_sessions_get_the_recorded_replies_at_every_split() {
    let world = World::new();
    let waited = Duration::from_secs(187);
    let verdict = Verdict::Pass(PassReason::Waited { waited });
    world.table.tell("waited@lab.example", verdict);
    let sentenced = Verdict::Refuse(RefuseReason::Sentenced);
    world.table.tell("sentenced@lab.example", sentenced);
    let mut replayed = 0;
    for entry in fs::read_dir(directory()).expect("traces are there") {
        let path = entry.expect("a file").path();
        let trace = Trace::read(&path);
        for split in 1..trace.from_mta.len() {
            let endpoint = &world.server.endpoints()[split % 2];
            let heard = trace.replay(endpoint, split);
            assert!(
                heard == trace.from_milter,
                "{} split at {split}:\n heard {}\n not   {}",
                path.display(),
                heard.escape_ascii(),
                trace.from_milter.escape_ascii(),
            );
        }
        replayed += 1;
    }
    assert_eq!(replayed, 11, "a trace was lost or added");
}

struct Trace {
    from_mta: Vec<u8>,
    from_milter: Vec<u8>,
}

impl Trace {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a trace");
        let mut trace = Self {
            from_mta: Vec::new(),
            from_milter: Vec::new(),
        };
        for line in text.lines() {
            match line.split_at(2.min(line.len())) {
                ("> ", frame) => put(&mut trace.from_mta, frame),
                ("< ", frame) => put(&mut trace.from_milter, frame),
                _ => assert!(line.starts_with('#'), "{}: {line}", path.display()),
            }
        }
        trace
    }

    /// Everything the milter says until it closes.
    fn replay(&self, endpoint: &Endpoint, split: usize) -> Vec<u8> {
        let mut mta = Mta::connect(endpoint).expect("a connection");
        let (head, tail) = self.from_mta.split_at(split);
        mta.write(head).expect("written");
        // So that the server has a chance to read the head alone.
        std::thread::yield_now();
        mta.write(tail).expect("written");
        mta.read_to_close().expect("read")
    }
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("milter/traces")
}

/// Appends a frame to the bytes of its direction.
fn put(bytes: &mut Vec<u8>, escaped: &str) {
    let frame = unescaped(escaped);
    let length = u32::try_from(frame.len()).expect("a short frame");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&frame);
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'\\' {
            let digits = text_of(&tail[1..3]);
            bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
            rest = &tail[3..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    bytes
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("traces are ASCII")
}
