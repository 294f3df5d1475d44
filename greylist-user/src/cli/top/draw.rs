//! How `top` looks. Pure: what is known, and the present, in; cells out.
//!
//! Made for 80 columns and 24 rows; a larger terminal shows more rows of the lists, a smaller one what
//! fits. Whatever the daemon says is escaped before it is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};
use tokio::time::Instant;

use super::view::{Rates, View};
use crate::admin::{
    Amount, Census, ClientRow, FunnelFacts, ListRows, Listing, Recent, SentenceRow, Status,
};
use crate::cli::answer::seconds;
use crate::cli::paper::number;
use crate::cli::recent::{latency_text, per_second};
use crate::kernel::FilterStatus;

/// Draws everything.
pub(super) fn screen(frame: &mut Frame<'_>, view: &View, now: Instant) {
    let [head, figures, funnel, lists, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(8),
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let halves =
        |area| Layout::horizontal([Constraint::Length(34), Constraint::Min(20)]).areas(area);
    frame.render_widget(Paragraph::new(heading(view, now)), head);
    if let Some(told) = view.told() {
        let status = &*told.status;
        let [left, right] = halves(figures);
        frame.render_widget(Paragraph::new(rates(view.rates(), &status.recent)), left);
        frame.render_widget(Paragraph::new(store(status)), right);
        frame.render_widget(Paragraph::new(funnelled(&status.funnel)), funnel);
        let [left, right] =
            Layout::horizontal([Constraint::Length(27), Constraint::Min(20)]).areas(lists);
        frame.render_widget(Paragraph::new(clients(told.clients.as_ref(), left)), left);
        let listing = told.sentences.as_ref();
        let order = view.order().as_str();
        let sentences = sentences(listing, order, right);
        frame.render_widget(Paragraph::new(sentences), right);
    }
    frame.render_widget(Paragraph::new(footer(view)), foot);
    if view.shows_help() {
        help(frame);
    }
}

fn heading(view: &View, now: Instant) -> Vec<Line<'static>> {
    let Some(told) = view.told() else {
        let says = view
            .trouble()
            .map_or_else(|| "asking the daemon ...".to_owned(), safe);
        return vec![
            Line::styled("greygate top", BOLD),
            Line::styled(says, warning(view)),
        ];
    };
    let status = &told.status;
    let mut title = vec![
        Span::styled(format!("greygate {}", safe(&status.version)), BOLD),
        Span::raw(format!(
            "  pid {}  up {}  {}  greylisting {}",
            status.pid,
            seconds(status.uptime),
            safe(&status.mode),
            safe(&status.greylist_action)
        )),
    ];
    if view.is_paused() {
        title.push(Span::styled("  PAUSED", BAD));
    }
    let health = match (view.trouble(), status.health.complaints.as_slice()) {
        (Some(trouble), _) => Line::styled(
            format!("{}s old, asking again: {}", view.age(now), safe(trouble)),
            BAD,
        ),
        (None, _) if !view.is_paused() && view.age(now) > STALE => {
            Line::styled(format!("no answer for {}s", view.age(now)), BAD)
        }
        (None, []) => Line::styled("healthy", GOOD),
        (None, [only]) => Line::styled(safe(only), BAD),
        (None, [first, others @ ..]) => {
            Line::styled(format!("({} more) {}", others.len(), safe(first)), BAD)
        }
    };
    vec![Line::from(title), health]
}

fn warning(view: &View) -> Style {
    if view.trouble().is_some() { BAD } else { DIM }
}

fn rates(now: Option<&Rates>, minute: &Recent) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(
        format!("{:<12}{:>9}{:>10}", "a second", "now", "minute"),
        DIM,
    )];
    let mut line = |label: &str, now: Option<f64>, minute_count: u64| {
        let now = now.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
        let minute = match minute.seconds {
            0 => "-".to_owned(),
            seconds => per_second(minute_count, seconds),
        };
        lines.push(Line::raw(format!("{label:<12}{now:>9}{minute:>10}")));
    };
    line("sessions", now.map(|it| it.sessions), minute.sessions);
    line("deferred", now.map(|it| it.deferred), minute.deferred);
    line("passed", now.map(|it| it.passed), minute.passed);
    line("refused", now.map(|it| it.refused), minute.refused);
    line("to be read", now.map(|it| it.read), minute.read);
    line("SYNs dropped", now.map(|it| it.dropped), minute.dropped);
    lines
}

fn store(status: &Status) -> Vec<Line<'static>> {
    let Census {
        tuples,
        capacity,
        contents,
        content_capacity,
        clients,
        client_capacity,
        sentences,
        trusted,
        snapshot_age,
        ..
    } = status.store;
    let latency = latency_text(&status.recent.latency);
    let snapshot = snapshot_age.map_or_else(
        || "none yet".to_owned(),
        |age| format!("{} ago", seconds(age)),
    );
    let row = |label: &str, value: String| {
        Line::from(vec![
            Span::styled(format!("{label:<10}"), DIM),
            Span::raw(value),
        ])
    };
    vec![
        row(
            "verdict in",
            latency.map_or_else(|| " -".to_owned(), |it| format!(" {it}")),
        ),
        filled("tuples", tuples, capacity),
        filled("messages", contents, content_capacity),
        filled("clients", clients, client_capacity),
        row(
            "sentences",
            format!(" {}, {} trusted", number(sentences), number(trusted)),
        ),
        row("kernel", format!(" {}", kernel(&status.xdp))),
        row("snapshot", format!(" {snapshot}")),
    ]
}

/// `tuples     [####......]  40 % of 4,000,000`
fn filled(label: &str, held: u64, capacity: u64) -> Line<'static> {
    let percent = held
        .saturating_mul(100)
        .checked_div(capacity)
        .unwrap_or_default();
    let bars = usize::try_from(percent.div_ceil(10).min(10)).unwrap_or(10);
    let style = if percent >= FULL { BAD } else { GOOD };
    Line::from(vec![
        Span::styled(format!("{label:<11}"), DIM),
        Span::raw("["),
        Span::styled("#".repeat(bars), style),
        Span::raw(format!(
            "{}] {percent:>3} % of {}",
            ".".repeat(10 - bars),
            number(capacity)
        )),
    ])
}

fn kernel(filter: &FilterStatus) -> String {
    match filter {
        FilterStatus::Off { why } => format!("no filter: {}", safe(why)),
        FilterStatus::On(on) => {
            let interfaces = on.interfaces.iter();
            let modes: Vec<_> = interfaces
                .map(|it| format!("{} {}", safe(&it.name), it.mode))
                .collect();
            let observes = if on.observes { ", observes" } else { "" };
            let entries = on.entries_ipv4 + on.entries_ipv6;
            format!(
                "{}{observes}, {} entries",
                modes.join(", "),
                number(entries)
            )
        }
    }
}

fn funnelled(funnel: &FunnelFacts) -> Vec<Line<'static>> {
    let share = |amount: Amount| {
        let percent = amount
            .messages
            .saturating_mul(100)
            .checked_div(funnel.seen.messages);
        format!(
            "{} ({} %)",
            number(amount.messages),
            percent.unwrap_or_default()
        )
    };
    let all = Span::raw(format!(
        "{} messages since the start",
        number(funnel.seen.messages)
    ));
    let parts = [
        ("refused", funnel.refused),
        ("deferred", funnel.deferred),
        ("left", funnel.left),
        ("passed", funnel.passed),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .map(|(word, amount)| format!("{word} {}", share(amount)))
        .collect();
    vec![
        Line::from(vec![Span::styled("funnel  ", DIM), all]),
        Line::raw(format!("        {}", parts.join("  "))),
    ]
}

fn clients(listing: Option<&Listing>, area: Rect) -> Vec<Line<'static>> {
    let mut lines = vec![
        Line::raw(""),
        Line::styled(format!("{:<18}{:>8}", "worst clients", "strikes"), DIM),
    ];
    match listing.map(|it| &it.rows) {
        Some(ListRows::Clients(rows)) => {
            let struck = rows.iter().filter(|row| row.strikes > 0);
            lines.extend(struck.take(room(area)).map(client));
            if lines.len() == 2 {
                lines.push(Line::styled("nobody holds a strike", DIM));
            }
        }
        _ => lines.push(Line::styled("the daemon does not tell", DIM)),
    }
    lines
}

fn client(row: &ClientRow) -> Line<'static> {
    let name = row.client.as_deref().unwrap_or(&row.fingerprint);
    Line::raw(format!("{:<18}{:>8}", cut(&safe(name), 18), row.strikes))
}

fn sentences(listing: Option<&Listing>, order: &str, area: Rect) -> Vec<Line<'static>> {
    let columns = usize::from(area.width.saturating_sub(34)).clamp(19, 40);
    let heading = format!("sentences by {order}");
    let mut lines = vec![
        Line::raw(""),
        Line::styled(
            format!("{heading:<columns$}{:>8}{:>7}  for", "drops", "left"),
            DIM,
        ),
    ];
    match listing.map(|it| (&it.rows, it.now)) {
        Some((ListRows::Sentences(rows), now)) => {
            let rows = rows.iter().take(room(area));
            lines.extend(rows.map(|row| sentence(row, now, columns)));
            if lines.len() == 2 {
                lines.push(Line::styled("nobody is sentenced", DIM));
            }
        }
        _ => lines.push(Line::styled("the daemon does not tell", DIM)),
    }
    lines
}

fn sentence(row: &SentenceRow, now: u64, columns: usize) -> Line<'static> {
    let left = seconds(coarse(row.until.saturating_sub(now)));
    Line::raw(format!(
        "{:<columns$}{:>8}{left:>7}  {}",
        cut(&safe(&row.client), columns),
        number(row.drops),
        safe(&row.reason)
    ))
}

/// To the minute, hour or day, as it fits a column.
fn coarse(seconds: u64) -> u64 {
    let unit = match seconds {
        0..600 => 1,
        600..86_400 => 60,
        _ => 3_600,
    };
    seconds / unit * unit
}

fn footer(view: &View) -> Line<'static> {
    let pause = if view.is_paused() {
        "p go on"
    } else {
        "p pause"
    };
    Line::styled(format!("q quit   {pause}   s sort sentences   ? help"), DIM)
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let [_, area, _] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(12),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(Clear, area);
    let lines: Vec<_> = HELP.lines().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).style(Style::new().reversed()), area);
}

/// Rows of a list for which there is room under its heading.
fn room(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(2))
}

fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept = text.chars().take(columns.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// What somebody said, without a character that could do anything to a terminal.
fn safe(text: &str) -> String {
    text.chars()
        .flat_map(|it| {
            let plain = !it.is_control() && !is_direction(it);
            let escaped = (!plain).then(|| it.escape_unicode());
            plain
                .then_some(it)
                .into_iter()
                .chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// The characters that turn the direction of text.
fn is_direction(it: char) -> bool {
    matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red);

/// Percent of a table that are too many.
const FULL: u64 = 80;
/// Seconds without an answer that are worth a word.
const STALE: u64 = 5;

const HELP: &str = "
  q, Esc     quit
  p, space   stand still, and go on
  s          sort sentences by drops, end or beginning
  ?, h       this help

  now: since the answer before. minute: the last one, as the daemon counts.
  `verdict in` is from a whole frame to its answer, written.
  funnel: what became of messages, as in `greygate status`.
  worst clients and sentences are asked for every five seconds;
  `greygate why ADDRESS` says more of one, `greygate forgive` undoes it.
";
