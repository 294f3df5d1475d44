//! `greygate allow` and `greygate deny`: what is asked, and what was answered, for people.

use std::time::Duration;

use super::args::ListCommand;
use super::moment::Now;
use super::paper::{Paper, number};
use crate::admin::{LiveChange, LiveEntries, LiveEntry, LiveOrder, Request};
use crate::policy::LiveList;

/// What the command asks of the daemon.
pub(super) fn request(list: LiveList, command: &ListCommand) -> Request {
    match command {
        ListCommand::Add {
            entry,
            duration,
            note,
            force,
        } => Request::LiveAdd(LiveOrder {
            list,
            entry: entry.join(" "),
            seconds: duration.as_ref().map(Duration::as_secs),
            note: note.clone().unwrap_or_default(),
            force: *force,
        }),
        ListCommand::List => Request::LiveShow { list },
        ListCommand::Remove { entry } => Request::LiveRemove {
            list,
            entry: entry.join(" "),
        },
    }
}

/// Writes what became of an order.
pub(super) fn change(change: &LiveChange, paper: &mut Paper) {
    let LiveChange {
        list,
        entry,
        added,
        until,
        also,
    } = change;
    let done = match list {
        LiveList::Allow => "allowed",
        LiveList::Deny => "denied",
    };
    match (added, until) {
        (true, Some(until)) => {
            let until = super::moment::date(*until);
            paper.line(format_args!("{entry} is {done} until {until}"));
        }
        (true, None) => paper.line(format_args!("{entry} is {done}, until it is removed")),
        (false, _) => paper.line(format_args!("{entry} is {done} no more by a command")),
    }
    match (added, also) {
        (_, None) => {}
        (true, Some(source)) => paper.line(format_args!("and it stands at {source}")),
        (false, Some(source)) => {
            let but = format!("but still by {source}");
            paper.line(paper.bad(&but));
        }
    }
}

/// Writes what is listed.
pub(super) fn entries(entries: &LiveEntries, paper: &mut Paper) {
    let now = Now(entries.now);
    let all = entries.entries.len() as u64 + entries.left_off;
    paper.line(format_args!(
        "{}: {} by command, of at most {}; {} in the configuration",
        paper.bold(entries.list.as_str()),
        number(all),
        number(entries.limit),
        number(entries.configured)
    ));
    for LiveEntry {
        entry,
        at,
        uid,
        until,
        note,
    } in &entries.entries
    {
        paper.line(entry);
        let until = match until {
            Some(until) => format!(", until {}", now.tell(*until)),
            None => String::new(),
        };
        let at = now.tell(*at);
        paper.row("", format_args!("by uid {uid}, {at}{until}"));
        if !note.is_empty() {
            paper.row("", note);
        }
    }
    if entries.left_off > 0 {
        paper.line(format_args!("and {} more", number(entries.left_off)));
    }
    if all > 0 {
        paper.line(format_args!("kept in {}", entries.file));
    }
}
