//! The whole way from files to what is printed: what is written here is what operators and scripts
//! see. With `BLESS=1` the expected files are written anew; read the difference before it is kept.

use std::fs;
use std::path::PathBuf;

use super::*;

fn fixture(name: &str) -> PathBuf {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/simulate/fixtures");
    Path::new(place).join(name)
}

fn agrees(name: &str, told: &str) {
    let file = fixture(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, told).expect("the fixture can be written");
    }
    let expected = fs::read_to_string(&file).expect("the fixture is there");
    assert_eq!(told, expected, "{name}; BLESS=1 writes it anew");
}

fn reported(log: &str) -> simulate::Report {
    let options = Options {
        logs: vec![fixture(log)],
        config_file: None,
        config: Config::default(),
        model: Model {
            queues: Queues::Mixed,
            no_retry: (5, 50),
        },
        since: None,
        until: None,
        year: Some(2026),
        ahead: 0,
        greylist_texts: Vec::new(),
        warmed_up: true,
        now: crate::policy::Timestamp::from_millis(1_800_000_000_000),
    };
    let mut report = simulate::run(&options, |_| ()).expect("the fixture is a log");
    // The directory it was checked out to is of no concern.
    report.log.files = vec![log.to_owned()];
    report
}

fn both(name: &str) {
    let report = reported(&format!("{name}.log"));
    let mut paper = Paper::new(false);
    text::show(&report, &mut paper);
    let text = paper.into_text();
    let wide: Vec<_> = text.lines().filter(|it| it.chars().count() > 80).collect();
    assert!(wide.is_empty(), "wider than 80 columns: {wide:#?}");
    agrees(&format!("{name}.txt"), &text);
    let json = serde_json::to_string_pretty(&report).expect("plain data");
    agrees(&format!("{name}.json"), &(json + "\n"));
}

#[test]
fn log_of_a_host_with_another_greylister() {
    both("postgrey");
}

#[test]
fn log_of_a_host_without_greylisting() {
    both("plain");
}

#[test]
fn log_that_postfix_wrote_behind_greygate() {
    both("greygate");
}
