//! A configuration of any bytes is taken or refused without a panic; what is wrong with it names a line
//! of the file and says something; and what is printed as the default can be read, whichever of its
//! settings are set to whatever else.

use std::path::Path;

use arbitrary::Unstructured;
use greygate::config::{
    Config, ConfigError, Override, default_config, defaults_under, format_duration, parse,
    parse_duration,
};

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    check(bytes);
    check(edited(&mut Unstructured::new(bytes)).as_bytes());
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(duration) = parse_duration(text) {
        let written = format_duration(duration);
        assert_eq!(parse_duration(&written), Ok(duration), "{written}");
    }
    if let Ok(given) = text.parse::<Override>() {
        assert_eq!(given.to_string().parse(), Ok(given.clone()));
        match defaults_under(&[given]) {
            Ok(_) => {}
            Err(ConfigError::Illegal(problems)) => assert!(!problems.is_empty()),
            Err(error) => panic!("no file is read: {error}"),
        }
    }
}

/// Reads the bytes as a file, and judges what is said of them.
fn check(bytes: &[u8]) {
    let file = Path::new("greygate.toml");
    let lines = bytes.split(|byte| *byte == b'\n').count();
    let first = parse(file, bytes);
    match &first {
        Ok(_) => {}
        Err(ConfigError::Illegal(problems)) => {
            assert!(!problems.is_empty(), "it is refused, and nothing is said");
            for problem in problems {
                assert_eq!(problem.file, file);
                assert!(problem.line <= lines, "{problem}");
                assert!(!problem.text.trim().is_empty(), "{problem}");
                assert!(!problem.text.contains('\n'), "{problem}");
            }
        }
        Err(error) => panic!("no file is read: {error}"),
    }
    // Read again it means the same.
    let told = |it: Result<Config, ConfigError>| it.map_err(|error| error.to_string());
    assert!(
        told(parse(file, bytes)) == told(first),
        "read twice it differs"
    );
}

/// The default as it is printed, with some of its settings set: as they are, or to something else.
fn edited(input: &mut Unstructured<'_>) -> String {
    let mut text = String::new();
    for line in default_config().lines() {
        let setting = line.strip_prefix('#').filter(|it| it.contains(" = "));
        match (setting, input.arbitrary::<u8>().unwrap_or(0)) {
            (Some(setting), 64..=127) => text.push_str(setting),
            (Some(setting), 128..) => {
                let key = setting.split(" = ").next().unwrap_or(setting);
                text.push_str(key);
                text.push_str(" = ");
                match input.choose(&VALUES) {
                    Ok(&"") | Err(_) => {
                        let length = input.int_in_range(0..=12).unwrap_or(0);
                        let value = input.bytes(length).unwrap_or_default();
                        text.push_str(&String::from_utf8_lossy(value));
                    }
                    Ok(value) => text.push_str(value),
                }
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// What an operator may write behind any key; nothing stands for anything.
const VALUES: [&str; 32] = [
    "",
    "0",
    "1",
    "-1",
    "2",
    "25",
    "1000",
    "18446744073709551615",
    "0.5",
    "1e300",
    "nan",
    "true",
    "false",
    "\"\"",
    "\"0s\"",
    "\"1ms\"",
    "\"3m\"",
    "\"24h\"",
    "\"36d\"",
    "\"10000w\"",
    "\"off\"",
    "\"on\"",
    "\"observe\"",
    "\"enforce\"",
    "\"hybrid\"",
    "[]",
    "[\"192.0.2.0/24\"]",
    "[\"\", \"x\", \".example\"]",
    "[\"inet:127.0.0.1:0\", \"unix:/x\"]",
    "\"550 5.7.1 No\\n100%\"",
    "{ a = 1 }",
    "1979-05-27",
];
