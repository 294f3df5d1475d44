//! The tables in `docs/benchmarks.md`: what stands between `<!-- bench SUBJECT -->` and the next
//! `<!-- end -->`, each on a line of its own. Text only; nothing else of the page changes.

/// Why a page was left as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    #[error("there is no line `{0}`")]
    NoBegin(String),
    #[error("there is more than one line `{0}`")]
    TwoBegins(String),
    #[error("no line `{END}` follows `{0}` before the next table")]
    NoEnd(String),
}

/// The page with `block` as the table of `subject`.
pub(crate) fn replace(page: &str, subject: &str, block: &str) -> Result<String, BlockError> {
    let begin = format!("{BEGIN}{subject} -->");
    let mut begins = lines(page).filter(|(_, line)| line.trim_end() == begin);
    let Some((at, line)) = begins.next() else {
        return Err(BlockError::NoBegin(begin));
    };
    if begins.next().is_some() {
        return Err(BlockError::TwoBegins(begin));
    }
    let inside = at + line.len();
    let end = lines(&page[inside..])
        .take_while(|(_, line)| !line.starts_with(BEGIN))
        .find(|(_, line)| line.trim_end() == END);
    let Some((length, _)) = end else {
        return Err(BlockError::NoEnd(begin));
    };
    let (before, after) = (&page[..inside], &page[inside + length..]);
    // The marker of the last line of a page may lack its line break, and is found all the same.
    Ok(format!("{before}{}\n{after}", block.trim_end()))
}

/// Each line with its line break, and where it begins.
fn lines(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    page.split_inclusive('\n').map(move |line| {
        let begins = at;
        at += line.len();
        (begins, line)
    })
}

const BEGIN: &str = "<!-- bench ";
const END: &str = "<!-- end -->";

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Figures\r\n\n<!-- bench milter -->\nold\nolder\n<!-- end -->\n\ttext \u{b5}\n\
                        <!-- bench store -->\n<!-- end -->\nno line break";

    #[test]
    fn replaces_a_table_and_no_other_byte() {
        let page = replace(PAGE, "milter", "new\nnewer\n\n").expect("it has the table");
        assert_eq!(page, PAGE.replace("old\nolder\n", "new\nnewer\n"));
        let page = replace(&page, "milter", "old\nolder").expect("it has the table still");
        assert_eq!(page, PAGE);
    }

    #[test]
    fn fills_a_table_that_is_empty() {
        let page = replace(PAGE, "store", "new").expect("it has the table");
        let filled = "<!-- bench store -->\nnew\n<!-- end -->";
        assert_eq!(
            page,
            PAGE.replace("<!-- bench store -->\n<!-- end -->", filled)
        );
    }

    #[test]
    fn refuses_a_page_without_the_table() {
        let error = replace(PAGE, "kernel", "new").expect_err("it has none");
        assert_eq!(
            error,
            BlockError::NoBegin("<!-- bench kernel -->".to_owned())
        );
        assert!(replace("see `<!-- bench kernel -->`\n<!-- end -->\n", "kernel", "").is_err());
    }

    #[test]
    fn refuses_a_page_with_two_of_them() {
        let twice = format!("{PAGE}\n{PAGE}");
        let error = replace(&twice, "milter", "new").expect_err("which one?");
        assert_eq!(
            error,
            BlockError::TwoBegins("<!-- bench milter -->".to_owned())
        );
    }

    #[test]
    fn refuses_a_table_without_an_end() {
        let endless = PAGE.replacen("<!-- end -->\n", "", 1);
        let error = replace(&endless, "milter", "new").expect_err("the next end is another's");
        assert_eq!(error, BlockError::NoEnd("<!-- bench milter -->".to_owned()));
        assert!(replace("<!-- bench milter -->", "milter", "new").is_err());
    }
}
