use std::fs;

use tempfile::TempDir;

use super::*;

fn options(logs: Vec<PathBuf>) -> Options {
    Options {
        logs,
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
        warmed_up: false,
        now: Timestamp::from_millis(1_800_000_000_000),
    }
}

fn line(day: u32, text: &str) -> String {
    format!("Nov {day:2} 06:25:01 mx postfix/smtpd[9]: {text}\n")
}

fn refused(day: u32) -> String {
    line(
        day,
        "NOQUEUE: reject: RCPT from a[192.0.2.7]: 451 4.7.1 Come back soon; from=<s@a.example> \
         to=<r@here.example> proto=ESMTP helo=<a>",
    )
}

#[test]
fn log_of_a_host_is_named_once_and_of_two_hosts_not_at_all() {
    let place = TempDir::new().expect("there is room for a directory");
    let file = |name: &str, days: [u32; 2]| {
        let path = place.path().join(name);
        fs::write(&path, days.map(refused).concat()).expect("the directory is ours");
        path
    };
    let (first, second) = (file("first", [2, 4]), file("second", [3, 5]));
    let error = run(&options(vec![second, first.clone()]), |_| ()).expect_err("they overlap");
    let text = error.to_string();
    assert!(
        text.contains("second begins before") && text.contains("first ends"),
        "{text}"
    );
    assert!(run(&options(vec![first.clone(), first]), |_| ()).is_err());
}

#[test]
fn log_without_mail_is_no_report_of_zeros() {
    let place = TempDir::new().expect("there is room for a directory");
    let path = place.path().join("sys.log");
    fs::write(&path, "Nov  2 06:25:01 mx sshd[1]: hello\n").expect("the directory is ours");
    let error = run(&options(vec![path]), |_| ()).expect_err("there is no mail");
    assert!(
        error.to_string().contains("no mail was found in 1 lines"),
        "{error}"
    );
}

#[test]
fn own_words_of_a_site_are_a_greylisters() {
    let place = TempDir::new().expect("there is room for a directory");
    let path = place.path().join("mail.log");
    let mail = (2..5).map(refused).collect::<String>();
    fs::write(&path, mail).expect("the directory is ours");
    let mut options = options(vec![path]);
    let without = run(&options, |_| ());
    assert!(
        matches!(without, Err(SimulateError::NoMail { .. })),
        "Postfix's own 451"
    );
    options.greylist_texts = vec!["come back SOON".to_owned()];
    let told = run(&options, |_| ()).expect("it has mail");
    assert!(told.log.shows_greylisting);
    assert_eq!(told.seen.attempts, 3);
    assert!(told.assumed.is_none(), "nothing had to be assumed");

    options.since = maillog::parse_time("2026-11-03", 0);
    options.until = maillog::parse_time("2026-11-04", 0);
    let told = run(&options, |_| ()).expect("it has mail");
    assert_eq!((told.seen.attempts, told.left_out.outside_period), (1, 2));
}
