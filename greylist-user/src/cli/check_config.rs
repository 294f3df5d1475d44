//! What a configuration amounts to, before a daemon runs with it: the answer to
//! `greygate check-config`.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::args::Cli;
use super::failure::Failure;
use super::paper::{Paper, number, wants_colour};
use crate::config::{self, Config, ConfigError, Override, Problem};
use crate::policy::{Mode, Policy, RecipientPolicy, Source};

/// Says whether `file`, under `overrides`, is legal, and what it amounts to.
pub(super) fn run(cli: &Cli, file: &Path, overrides: &[Override]) -> Result<(), Failure> {
    let read = config::read_under(file, overrides);
    if cli.json {
        let verdict = match &read {
            Ok(config) => json!({
                "legal": true,
                "mode": config.policy.mode.as_str(),
                "new_tuples_per_second": config.sustained_new_tuples(),
                "new_messages_per_second": config.sustained_new_messages(),
                "memory": config.memory(),
                "kernel_memory": config.kernel_memory(),
                "tuples_memory": config.store.tuples_memory(),
                "trust_memory": config.store.trust_memory(),
                "sentences_memory": config.store.sentences_memory(),
                "clients_memory": config.clients_memory(),
                "contents_memory": config.contents_memory(),
                "pairs_memory": config.pairs_memory(),
                "addresses_memory": config.addresses_memory(),
                "remarks": remarks(config),
                "findings": noted(file, config),
            }),
            Err(ConfigError::Illegal(problems)) => json!({
                "legal": false,
                "problems": problems,
                "findings": problems.iter().map(|it| finding(it, "error")).collect::<Vec<_>>(),
            }),
            Err(unreadable) => json!({"legal": false, "error": unreadable.to_string()}),
        };
        writeln!(io::stdout(), "{verdict}")?;
        return read.map(drop).map_err(Failure::from);
    }
    let config = read?;
    let mut paper = Paper::new(wants_colour(&io::stdout()));
    summary(file, &config, &mut paper);
    Ok(write!(io::stdout(), "{}", paper.into_text())?)
}

fn summary(file: &Path, config: &Config, paper: &mut Paper) {
    paper.line(format_args!("{}: {}", file.display(), paper.good("ok")));
    let listen: Vec<_> = config
        .milter
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    paper.row("milter", listen.join(", "));
    paper.row("mode", mode(&config.policy));
    paper.row(
        "window",
        format_args!(
            "opens after {}, closes after {}",
            config::format_duration(config.policy.delay),
            config::format_duration(config.policy.retry_window)
        ),
    );
    paper.row(
        "store",
        format_args!(
            "{}, {} tuples: sustains {:.1} new ones a second; up to {} MB",
            config.store.directory.display(),
            number(config.store.capacity as u64),
            config.sustained_new_tuples(),
            megabytes(config.store.tuples_memory())
        ),
    );
    remembered(config, paper);
    if let Some(lists) = lists(&config.policy) {
        paper.row("lists", lists);
    }
    for own in config.policy.recipients.policies() {
        paper.row("recipients", recipients(own));
    }
    let interfaces = &config.xdp.interfaces;
    if interfaces.is_empty() {
        paper.row("kernel", "no filter: [xdp] interfaces is empty");
    } else {
        let ports: Vec<_> = config.xdp.ports.iter().map(u16::to_string).collect();
        let (interfaces, ports) = (interfaces.join(", "), ports.join(", "));
        paper.row("kernel", format_args!("{interfaces}, port {ports}"));
        paper.row(
            "memory",
            format_args!(
                "{} MB in the kernel for {} sentences each of IPv4 and IPv6",
                megabytes(config.kernel_memory()),
                number(config.xdp.capacity.into())
            ),
        );
    }
    for remark in remarks(config) {
        paper.row("note", remark);
    }
}

/// What the tables take, beside the tuples.
fn remembered(config: &Config, paper: &mut Paper) {
    if config.policy.reads_anywhere() {
        paper.row(
            "messages",
            format_args!(
                "{} fingerprints: sustains {:.1} new ones a second; up to {} MB as they come",
                number(config.store.contents as u64),
                config.sustained_new_messages(),
                megabytes(config.contents_memory())
            ),
        );
        paper.row(
            "pairs",
            format_args!(
                "of sender and recipient, as many as tuples: up to {} MB as they come",
                megabytes(config.pairs_memory())
            ),
        );
    }
    paper.row(
        "clients",
        format_args!(
            "{} remembered, and as many networks: up to {} MB as they come",
            number(config.store.clients as u64),
            megabytes(config.clients_memory())
        ),
    );
    paper.row(
        "trust",
        format_args!(
            "as many records as tuples: up to {} MB as they come",
            megabytes(config.store.trust_memory())
        ),
    );
    paper.row(
        "sentences",
        format_args!(
            "{}: up to {} MB as they come",
            number(config.store.sentences as u64),
            megabytes(config.store.sentences_memory())
        ),
    );
    if config.store.keep_addresses {
        paper.row(
            "addresses",
            format_args!(
                "in clear, as long as their records: up to {} MB as they come",
                megabytes(config.addresses_memory())
            ),
        );
    }
    paper.row(
        "in all",
        format_args!(
            "up to {} MB of memory when every table is full",
            megabytes(config.memory())
        ),
    );
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

/// How many each list names, if the operator named any.
fn lists(policy: &Policy) -> Option<String> {
    let lists = &policy.lists;
    let all = [
        ("allow", &lists.allow),
        ("deny", &lists.deny),
        ("local", &lists.local),
        ("never_trust", &lists.never_trust),
        ("no_retry", &lists.no_retry),
    ];
    let is_ours = |source: &Source| matches!(source, Source::File { .. });
    let named = all
        .iter()
        .filter(|(_, list)| list.entries().iter().any(|it| is_ours(&it.source)))
        .map(|(name, list)| format!("{name} {}", number(list.entries().len() as u64)));
    let named: Vec<_> = named.collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// Whom a policy is for, and what it says.
fn recipients(own: &RecipientPolicy) -> String {
    let shown = own.recipients.iter().take(SHOWN).map(ToString::to_string);
    let mut whom = shown.collect::<Vec<_>>().join(", ");
    let others = own.recipients.len().saturating_sub(SHOWN);
    if others > 0 {
        whom = format!("{whom} and {others} more");
    }
    if !own.policy.greylists {
        return format!("{whom}: not greylisted");
    }
    let delay = config::format_duration(own.policy.delay);
    let mode = own.policy.mode.as_str();
    format!("{whom}: greylisted by {mode}, after {delay}")
}

/// By what mail is told when it comes again, in a sentence.
fn mode(policy: &Policy) -> String {
    let delay = config::format_duration(policy.content.delay);
    let mode = policy.mode.as_str();
    match policy.mode {
        Mode::Envelope => format!("{mode}: by client network, sender and recipient, at RCPT"),
        Mode::Content => format!(
            "{mode}: a message passes when it comes again {delay} after it was read, from any network"
        ),
        Mode::Hybrid => format!(
            "{mode}: by the envelope, and from other networks by the message, {delay} after it was read"
        ),
    }
}

/// What editors and scripts read: where, what, and whether it keeps the daemon from starting.
fn finding(problem: &Problem, severity: &str) -> serde_json::Value {
    let Problem { file, line, text } = problem;
    json!({"file": file, "line": line, "text": text, "severity": severity})
}

fn noted(file: &Path, config: &Config) -> Vec<serde_json::Value> {
    let problem = |text| Problem {
        file: file.to_owned(),
        line: 0,
        text,
    };
    let remarks = remarks(config).into_iter();
    remarks
        .map(|text| finding(&problem(text), "note"))
        .collect()
}

fn remarks(config: &Config) -> Vec<String> {
    let mut remarks = config.remarks();
    remarks.extend(config.remarks_on_this_host());
    remarks
}

/// Recipients of a policy that are named in one line.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn summed_up(text: &str) -> String {
        let file = Path::new("greygate.toml");
        let config = config::parse(file, text.as_bytes()).expect("the file is legal");
        let mut paper = Paper::new(false);
        summary(file, &config, &mut paper);
        paper.into_text()
    }

    #[test]
    fn defaults_are_summed_up_with_the_memory_they_may_take() {
        assert_eq!(
            summed_up(""),
            "greygate.toml: ok\n\
             milter        inet:127.0.0.1:8892\n\
             mode          hybrid: by the envelope, and from other networks by the message, 1m after it was read\n\
             window        opens after 3m, closes after 24h\n\
             store         /var/lib/greygate, 4,000,000 tuples: sustains 46.3 new ones a second; up to 354 MB\n\
             messages      1,000,000 fingerprints: sustains 11.6 new ones a second; up to 95 MB as they come\n\
             pairs         of sender and recipient, as many as tuples: up to 87 MB as they come\n\
             clients       1,000,000 remembered, and as many networks: up to 465 MB as they come\n\
             trust         as many records as tuples: up to 376 MB as they come\n\
             sentences     1,000,000: up to 222 MB as they come\n\
             in all        up to 1698 MB of memory when every table is full\n\
             kernel        no filter: [xdp] interfaces is empty\n"
        );
    }

    #[test]
    fn lists_and_recipients_are_summed_up_where_there_are_any() {
        let text = summed_up(
            "[lists]\nallow = [\"192.0.2.7\", \"from @a.example\"]\ndeny = [\"helo ylmf-pc\"]\n\
             [[recipients]]\nmatch = [\"out.example\"]\ngreylist = \"off\"\n\
             [[recipients]]\nmatch = [\"a@q.example\", \"b@q.example\", \"c@q.example\", \"d@q.example\"]\n\
             mode = \"envelope\"\ndelay = \"1m\"\n",
        );
        for row in [
            "lists         allow 2, deny 1\n",
            "recipients    @out.example: not greylisted\n",
            "recipients    a@q.example, b@q.example, c@q.example and 1 more: greylisted by envelope, after 1m\n",
        ] {
            assert!(text.contains(row), "{text}");
        }
    }

    #[test]
    fn file_under_which_nothing_is_read_takes_no_memory_for_it() {
        let text = summed_up("[greylist]\nmode = \"envelope\"\n");
        let mode = "mode          envelope: by client network, sender and recipient, at RCPT\n";
        assert!(text.contains(mode), "{text}");
        assert!(
            !text.contains("fingerprints") && !text.contains("pairs"),
            "{text}"
        );
    }
}
