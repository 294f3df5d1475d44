//! `greygate top`: the daemon, live on a terminal.
//!
//! Asks the control socket and nothing else, in a thread of its own: a daemon that hangs hangs no key.
//! `view` is what is known, `draw` how it looks, `live` the terminal with its keys and signals. Without a
//! terminal it prints: one screen as text, or a JSON document each time.

mod draw;
mod live;
mod view;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use serde::Serialize;
use tokio::time::Instant;

use super::failure::Failure;
use crate::admin::{
    self, Answer, CallError, ListOrder, ListQuestion, ListRows, ListTable, Listing, Request, Status,
};
use view::View;

/// What of `top` is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The daemon's socket.
    pub(super) socket: PathBuf,
    /// How often the daemon is asked.
    pub(super) every: Duration,
    /// Print one screen, and end.
    pub(super) once: bool,
    /// Print JSON documents.
    pub(super) json: bool,
}

/// Shows the daemon until it is told to stop.
pub(super) fn run(wanted: &Wanted) -> Result<(), Failure> {
    match (wanted.json, wanted.once) {
        (true, _) => documents(wanted),
        (false, true) => Ok(write!(io::stdout(), "{}", screen(&wanted.socket)?)?),
        (false, false) if io::stdout().is_terminal() => live::run(wanted),
        (false, false) => Err(Failure::NoTerminal),
    }
}

/// One JSON document each time the daemon was asked.
fn documents(wanted: &Wanted) -> Result<(), Failure> {
    let mut asker = Asker::new(&wanted.socket);
    loop {
        let told = asker.ask(ListOrder::Drops)?;
        let json = serde_json::to_string(&told).expect("answers are plain data");
        writeln!(io::stdout(), "{json}")?;
        if wanted.once {
            return Ok(());
        }
        std::thread::sleep(wanted.every);
    }
}

/// One screen as text, without colours.
fn screen(socket: &Path) -> Result<String, Failure> {
    let mut view = View::default();
    view.take(Asker::new(socket).ask(view.order())?, Instant::now());
    let mut terminal = Terminal::new(TestBackend::new(COLUMNS, ROWS)).map_err(Failure::of)?;
    let drawn = terminal.draw(|frame| draw::screen(frame, &view, Instant::now()));
    Ok(text_of(drawn.map_err(Failure::of)?.buffer))
}

fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(buffer.area.width).max(1)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What the daemon said when it was asked.
#[derive(Clone, Debug, Serialize)]
struct Told {
    status: Box<Status>,
    /// The clients with most strikes; absent where the daemon does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Listing>,
    /// The sentences, those with most drops first unless another order was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentences: Option<Listing>,
}

/// Asks the daemon. Lists, for which it looks through its tables, are asked for more seldom.
struct Asker<'a> {
    socket: &'a Path,
    lists: Option<Lists>,
}

struct Lists {
    asked: Instant,
    order: ListOrder,
    clients: Option<Listing>,
    sentences: Option<Listing>,
}

impl<'a> Asker<'a> {
    fn new(socket: &'a Path) -> Self {
        Self {
            socket,
            lists: None,
        }
    }

    fn ask(&mut self, order: ListOrder) -> Result<Told, CallError> {
        let Answer::Status(status) = admin::call(self.socket, &Request::Status)? else {
            return Err(CallError::Refused(
                "the daemon answered another question".to_owned(),
            ));
        };
        let is_fresh = |it: &Lists| it.order == order && it.asked.elapsed() < LISTS_EVERY;
        if !self.lists.as_ref().is_some_and(is_fresh) {
            self.lists = Some(Lists {
                clients: self.list(ListTable::Clients, None)?,
                sentences: self.list(ListTable::Sentences, Some(order))?,
                asked: Instant::now(),
                order,
            });
        }
        let lists = self.lists.as_ref();
        Ok(Told {
            status,
            clients: lists.and_then(|it| it.clients.clone()),
            sentences: lists.and_then(|it| it.sentences.clone()),
        })
    }

    /// [`None`] from a daemon that has no such list.
    fn list(&self, what: ListTable, sort: Option<ListOrder>) -> Result<Option<Listing>, CallError> {
        let question = ListQuestion {
            sort,
            limit: Some(LISTED),
            ..ListQuestion::of(what)
        };
        match admin::call(self.socket, &Request::List(Box::new(question))) {
            Ok(Answer::List(listing)) if fits(what, &listing.rows) => Ok(Some(*listing)),
            Ok(_) | Err(CallError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn fits(what: ListTable, rows: &ListRows) -> bool {
    matches!(
        (what, rows),
        (ListTable::Clients, ListRows::Clients(_)) | (ListTable::Sentences, ListRows::Sentences(_))
    )
}

/// Rows of a list that a large terminal shows.
const LISTED: u64 = 50;
/// A list of a million clients is some tens of milliseconds of the daemon's time.
const LISTS_EVERY: Duration = Duration::from_secs(5);
/// The screen that is printed.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

#[cfg(test)]
mod tests;
