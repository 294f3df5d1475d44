//! A list file of any text gives entries and complaints, each with its line, without a panic; an entry
//! written out names the same when it is read again.

use greygate::config::{ListLine, parse_list};
use greygate::policy::{AddressPattern, Entry};

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (lines, wrong) = parse_list(&text);
    let count = text.lines().count();
    assert!(lines.len() + wrong.len() <= count);
    assert!(lines.is_sorted_by(|a, b| a.line < b.line));
    assert!(wrong.is_sorted_by(|a, b| a.0 < b.0));
    for ListLine {
        line,
        entry,
        comment,
    } in lines
    {
        assert!((1..=count).contains(&line));
        assert!(!comment.contains('\n'));
        let written = entry.to_string();
        assert_eq!(written.parse::<Entry>().as_ref(), Ok(&entry), "{written:?}");
        let _wide_or_not = entry.is_wide();
    }
    for (line, error) in wrong {
        assert!((1..=count).contains(&line));
        assert!(!error.to_string().is_empty());
    }
    for line in text.lines() {
        if let Ok(pattern) = line.parse::<AddressPattern>() {
            let written = pattern.to_string();
            assert_eq!(written.parse().as_ref(), Ok(&pattern), "{written:?}");
        }
    }
}
