use std::fs;
use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tempfile::TempDir;

use super::*;

const READING: Reading = Reading {
    year: Some(2026),
    ahead: 0,
    now: Timestamp::from_millis(1_800_000_000_000),
};

const TWO_LINES: &str = "Nov  2 06:25:01 mx postfix/smtpd[9]: connect from a[192.0.2.7]\n\
                         Nov  2 06:25:02 mx postfix/smtpd[9]: disconnect from a[192.0.2.7]\n";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room for a directory"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("the directory is ours");
        path
    }
}

/// What is said in a file, line by line; "-" for what is nothing.
fn said(path: &Path) -> Result<Vec<String>, ReadError> {
    let mut reader = Reader::open(path, READING, Arc::default())?;
    let mut said = Vec::new();
    loop {
        said.push(match reader.next()? {
            Cutting::Entry(entry) => format!(
                "{} {}[{}] {}",
                entry.time.as_millis(),
                String::from_utf8_lossy(entry.program.daemon),
                entry.program.pid,
                String::from_utf8_lossy(entry.message)
            ),
            Cutting::Other => "-".to_owned(),
            Cutting::TooLong => "too long".to_owned(),
            Cutting::End => return Ok(said),
        });
    }
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory is writable");
    encoder.finish().expect("memory is writable")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

#[test]
fn form_is_told_by_content_not_by_name() {
    let place = Place::new();
    let plain = said(&place.file("a.gz", TWO_LINES.as_bytes())).expect("it is readable");
    assert_eq!(
        plain,
        [
            "1793600701000 smtpd[9] connect from a[192.0.2.7]",
            "1793600702000 smtpd[9] disconnect from a[192.0.2.7]"
        ]
    );
    let (one, other) = TWO_LINES.split_at(64);
    let members = [zipped(one.as_bytes()), zipped(other.as_bytes())].concat();
    assert_eq!(
        said(&place.file("b", &members)).expect("two members"),
        plain
    );
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..]];
    let frames = [
        zstd(one.as_bytes()),
        skipped.concat(),
        zstd(other.as_bytes()),
    ]
    .concat();
    assert_eq!(
        said(&place.file("c.log", &frames)).expect("two frames"),
        plain
    );
    let json = r#"{"__REALTIME_TIMESTAMP":"1793600701000000","SYSLOG_IDENTIFIER":"postfix/smtpd","_PID":"9","MESSAGE":"connect from a[192.0.2.7]","_HOSTNAME":"mx"}
{"__REALTIME_TIMESTAMP":"1793600702000000","SYSLOG_IDENTIFIER":"postfix/smtpd","SYSLOG_PID":"9","_PID":"1","MESSAGE":[100,105,115,99,111,110,110,101,99,116,32,102,114,111,109,32,97,91,49,57,50,46,48,46,50,46,55,93]}
"#;
    assert_eq!(
        said(&place.file("d", json.as_bytes())).expect("it is readable"),
        plain
    );
    let mut export = b"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1793600701000000\n_HOSTNAME=mx\n\
        SYSLOG_IDENTIFIER=postfix/smtpd\nSYSLOG_PID=9\n_PID=4\nMESSAGE=connect from a[192.0.2.7]\n\n\
        __CURSOR=s=2\n__REALTIME_TIMESTAMP=1793600702000000\nSYSLOG_IDENTIFIER=postfix/smtpd\n_PID=9\nMESSAGE\n"
        .to_vec();
    export.extend(28_u64.to_le_bytes());
    export.extend(b"disconnect from a[192.0.2.7]\n\n");
    assert_eq!(
        said(&place.file("e", &export)).expect("it is readable"),
        plain
    );
}

#[test]
fn broken_archive_is_an_error_with_file_and_offset() {
    let place = Place::new();
    let long = TWO_LINES.repeat(20_000);
    for (name, whole) in [
        ("a.gz", zipped(long.as_bytes())),
        ("a.zst", zstd(long.as_bytes())),
    ] {
        let cut = place.file(name, &whole[..whole.len() * 2 / 3]);
        let error = said(&cut).expect_err("it is cut");
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains("behind byte"),
            "{text}"
        );
        assert!(!text.contains("byte 0 "), "{text}");
    }
    let error = said(&place.0.path().join("none")).expect_err("there is none");
    assert!(error.to_string().contains("none"), "{error}");
    assert!(said(place.0.path()).is_err(), "a directory is no log");
}

#[test]
fn line_has_a_bound_and_what_is_none_is_counted() {
    let place = Place::new();
    let long = "x".repeat(LONGEST_LINE + 1);
    let text = format!(
        "{long}\nhello\n\n{}\n{TWO_LINES}\u{0}",
        "y".repeat(LONGEST_LINE)
    );
    let told = said(&place.file("a", text.as_bytes())).expect("it is readable");
    assert_eq!(told[..4], ["too long", "-", "-", "-"]);
    assert!(told[4].ends_with("connect from a[192.0.2.7]"));
    assert_eq!(told.last().map(String::as_str), Some("-"));
}

#[test]
fn rotated_logs_are_put_in_the_order_of_their_times() {
    let place = Place::new();
    let at = |name: &str, stamp: &str| {
        let text = format!("garbage\n{stamp} mx postfix/smtpd[9]: connect from a[192.0.2.7]\n");
        place.file(name, text.as_bytes())
    };
    let old = at("mail.log.1", "2026-11-01T00:00:00Z");
    let newest = at("mail.log", "2026-11-03T00:00:00Z");
    let oldest = at("mail.log.2", "2026-10-31T00:00:00+02:00");
    let named = [
        newest.clone(),
        PathBuf::from("-"),
        old.clone(),
        oldest.clone(),
    ];
    let ordered = in_order(&named, READING).expect("they are readable");
    assert_eq!(ordered, [oldest, old, newest, PathBuf::from("-")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn file_of_any_bytes_is_read_or_refused_and_never_panics(
        begin in prop::sample::select(vec![
            &b""[..], b"{", b"__CURSOR=1\n", b"__\n", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18",
            b"Nov  2 06:25:01 mx postfix/smtpd[9]: ",
        ]),
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let place = Place::new();
        let file = place.file("any", &[begin, &bytes].concat());
        let _read_or_refused = said(&file);
    }
}
