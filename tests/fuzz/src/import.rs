//! Files of any bytes, in every format that is imported, are read to their end without a panic or much
//! memory, and what is read of them can be taken in or is refused.

use greygate::transfer::{Format, Lines, Options, Parsed};

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    let _format_or_none = Format::of(bytes);
    for format in Format::ALL {
        let mut lines = Lines::new(bytes, format, &Options::default());
        while let Some(line) = lines.next_line().expect("memory is readable") {
            if let Ok(Parsed::Item(item)) = line {
                item.into_arrival().expect("an item that was read is one");
            }
        }
        assert_eq!(lines.bytes(), bytes.len() as u64);
    }
}
