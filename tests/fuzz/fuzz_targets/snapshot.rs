//! A snapshot of any bytes is read or refused, without a panic or much memory; what was read can
//! be written and read again.
#![no_main]

use greygate::store::codec::{Reader, Row, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = Reader::begin(bytes) else {
        return;
    };
    let header = *reader.header();
    let mut rows = Vec::new();
    if reader.for_each(|row| rows.push(row)).is_err() {
        return;
    }
    rows.retain(|row| *row != Row::Unknown);
    let mut writer = Writer::begin(Vec::new(), &header).expect("memory is writable");
    for row in &rows {
        writer.push(row).expect("memory is writable");
    }
    let (written, _, _) = writer.end().expect("memory is writable");
    let mut again = Vec::new();
    Reader::begin(&written[..])
        .and_then(|reader| reader.for_each(|row| again.push(row)))
        .expect("what was written can be read");
    assert_eq!(again, rows);
});
