//! The terminal: keys, signals, and leaving it as it was.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::draw;
use super::view::View;
use super::{Asker, Told, Wanted};
use crate::admin::{CallError, ListOrder};
use crate::chain::chain;
use crate::cli::failure::Failure;

/// Draws until `q`, a signal, or the end of the terminal.
pub(super) fn run(wanted: &Wanted) -> Result<(), Failure> {
    let (news, heard) = mpsc::channel();
    // Before the terminal is touched, so that no signal leaves it as it should not be.
    watch_signals(news.clone())?;
    let order = Arc::new(Mutex::new(ListOrder::Drops));
    let asker = {
        let (socket, every) = (wanted.socket.clone(), wanted.every);
        let (news, order) = (news.clone(), Arc::clone(&order));
        thread::Builder::new()
            .name("asker".to_owned())
            .spawn(move || ask_on(&socket, every, &order, &news))?
    };
    let screen = Screen;
    let mut terminal = ratatui::try_init()?;
    watch_keys(news)?;
    let mut view = View::default();
    let result = loop {
        if let Err(error) = show(&mut terminal, &view) {
            break Err(error.into());
        }
        match heard.recv_timeout(REDRAWN) {
            Ok(News::Told(Ok(told))) => view.take(*told, Instant::now()),
            Ok(News::Told(Err(error))) => view.miss(chain(&error)),
            Ok(News::Terminal(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                if !view.obey(key) {
                    break Ok(());
                }
                *order.lock().unwrap_or_else(PoisonError::into_inner) = view.order();
            }
            // Of another size, too: drawing finds out. Clearing would ask the terminal for its cursor,
            // and the answer would come to the thread that reads keys.
            Ok(News::Terminal(_)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(News::End) | Err(RecvTimeoutError::Disconnected) => break Ok(()),
        }
        if asker.is_finished() {
            let gone =
                io::Error::other("the thread that asks the daemon has ended, which is a bug");
            break Err(gone.into());
        }
    };
    // First the cursor, which dropping the terminal shows again, then the rest.
    drop(terminal);
    drop(screen);
    result
}

/// Gives the terminal back, however it is left.
struct Screen;

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell where it fails: the terminal has gone.
        let _ = ratatui::try_restore();
    }
}

/// What the loop hears of.
enum News {
    Told(Result<Box<Told>, CallError>),
    Terminal(Event),
    /// A signal, or a terminal that has gone.
    End,
}

fn show(terminal: &mut DefaultTerminal, view: &View) -> io::Result<()> {
    terminal.draw(|frame| draw::screen(frame, view, Instant::now()))?;
    Ok(())
}

/// Asks until nobody listens; a daemon that is gone is asked again.
fn ask_on(socket: &Path, every: Duration, order: &Mutex<ListOrder>, news: &Sender<News>) {
    let mut asker = Asker::new(socket);
    loop {
        let order = *order.lock().unwrap_or_else(PoisonError::into_inner);
        let told = asker.ask(order).map(Box::new);
        if news.send(News::Told(told)).is_err() {
            return;
        }
        thread::sleep(every);
    }
}

fn watch_keys(news: Sender<News>) -> io::Result<()> {
    let watch = move || {
        loop {
            let heard = event::read().map_or(News::End, News::Terminal);
            let is_end = matches!(heard, News::End);
            if news.send(heard).is_err() || is_end {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("keys".to_owned())
        .spawn(watch)
        .map(drop)
}

fn watch_signals(news: Sender<News>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let caught = {
        let _context = runtime.enter();
        [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
        ]
        .map(signal)
    };
    let [mut hangup, mut interrupt, mut quit, mut terminate] = match caught {
        [Ok(hangup), Ok(interrupt), Ok(quit), Ok(terminate)] => {
            [hangup, interrupt, quit, terminate]
        }
        failed => {
            return Err(failed
                .into_iter()
                .find_map(Result::err)
                .unwrap_or_else(|| io::Error::other("signals cannot be caught")));
        }
    };
    let watch = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // Whoever listened may have ended already.
        let _ = news.send(News::End);
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map(drop)
}

/// At least as often it is drawn anew, so that the age of an answer is true.
const REDRAWN: Duration = Duration::from_secs(1);
