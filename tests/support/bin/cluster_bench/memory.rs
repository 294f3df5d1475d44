//! What a new mail leaves in Redis, by kind of record; and how fast a host tells all that it knows to one
//! that was emptied.

use std::time::{Duration, Instant};

use support::{
    Error,
    bench::{
        report::{Report, Row, Samples, Spread, Unit},
        run::Pace,
    },
    interrupt,
};

use crate::{
    cost,
    site::{Engine, Site},
};

/// Records of one kind.
#[derive(Clone, Copy, Debug)]
struct Kept {
    keys: f64,
    bytes: f64,
}

/// Fills an engine by new mails at one host, and says what it holds.
pub(crate) fn measure(report: &mut Report) -> Result<(), Error> {
    let site = Site::sharing("a host", 1)?;
    let absent = || Error::unexpected("a site that shares", "has an engine");
    let engine = site.engine.as_ref().ok_or_else(absent)?;
    let empty = used(engine)?;
    cost::play(&site, "new mails", 0, MAILS, Pace::AtOnce)?;
    let full = used(engine)?;
    let kept = KINDS
        .iter()
        .map(|(what, letter)| Ok((*what, taken_away(engine, letter)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let keys: f64 = kept.iter().map(|(_, it)| it.keys).sum();
    let bytes: f64 = kept.iter().map(|(_, it)| it.bytes).sum();
    let places = full - empty - bytes;

    let mails = f64::from(MAILS);
    let mut rows: Vec<_> = kept
        .iter()
        .map(|(what, it)| {
            let figures = [it.keys, it.bytes / it.keys, it.bytes / mails];
            ((*what).to_owned(), figures.map(Some).to_vec())
        })
        .collect();
    rows.push((
        "its places in Redis' tables".to_owned(),
        [keys, places / keys, places / mails].map(Some).to_vec(),
    ));
    let all = (full - empty) / mails;
    rows.push((
        "all that a new mail leaves".to_owned(),
        vec![Some(keys), None, Some(all)],
    ));
    report.spread(Spread {
        what: format!("memory of Redis, {MAILS} new mails"),
        columns: &["keys", "B/key", "B/mail"],
        rows,
    });
    report.heading("a host tells all it knows, Redis emptied");
    report.extend(told_again(&site, engine, keys)?);
    Ok(())
}

/// Has `records` told again to an engine that forgot them.
fn told_again(site: &Site, engine: &Engine, records: f64) -> Result<[Row; 3], Error> {
    let told_before = site.telling()?.told;
    let before = site.spent()?;
    engine.say(&["flushall"])?;
    let mut begun = None;
    let (told, took) = interrupt::wait_for("all to be told again", PATIENCE, || {
        let told = site.telling()?.told - told_before;
        if told > 0.0 {
            let begun = begun.get_or_insert_with(|| (told, Instant::now()));
            if told >= records {
                return Ok(Some((told - begun.0, begun.1.elapsed())));
            }
        }
        Ok(None)
    })?;
    let after = site.spent()?;
    let row = |what: &str, unit, figure| Row {
        what: what.to_owned(),
        unit,
        greygate: Ok(Samples::one(figure)),
        beside: Vec::new(),
        target: None,
    };
    let micros = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e6 / records
    };
    Ok([
        row(
            "changes told a second",
            Unit::ChangesASecond,
            told / took.as_secs_f64(),
        ),
        row(
            "a change, the thread that shares",
            Unit::MicrosAChange,
            micros(before.sharing, after.sharing),
        ),
        row(
            "a change, Redis",
            Unit::MicrosAChange,
            micros(before.engine, after.engine),
        ),
    ])
}

/// Bytes that the engine uses.
fn used(engine: &Engine) -> Result<f64, Error> {
    let info = engine.say(&["info", "memory"])?;
    let used = info
        .lines()
        .find_map(|it| it.strip_prefix("used_memory:")?.trim().parse().ok());
    used.ok_or_else(|| Error::unexpected("used_memory", info))
}

/// Takes away all records whose names begin with a letter, and says what they were.
fn taken_away(engine: &Engine, letter: &str) -> Result<Kept, Error> {
    let said = engine.say(&["eval", TAKE_AWAY, "0", &format!("greygate:{letter}*")])?;
    let mut numbers = said.lines().filter_map(|it| it.trim().parse::<f64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(keys), Some(bytes)) if keys > 0.0 => Ok(Kept { keys, bytes }),
        _ => Err(Error::unexpected(format!("records {letter}"), said)),
    }
}

/// All in one go, so that nothing else comes and goes meanwhile.
const TAKE_AWAY: &str = "\
local function used() return tonumber(redis.call('INFO', 'memory'):match('used_memory:(%d+)')) end
local before, cursor, keys = used(), '0', 0
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  if #page[2] > 0 then keys = keys + redis.call('DEL', unpack(page[2])) end
until cursor == '0'
return {keys, before - used()}";

/// What a new mail leaves, and the letters of the records' names.
const KINDS: [(&str, &str); 2] = [("tuple (T)", "T"), ("reverse-path and recipient (Q)", "Q")];
const MAILS: u32 = 200_000;
/// For all of it to be told.
const PATIENCE: Duration = Duration::from_mins(2);
