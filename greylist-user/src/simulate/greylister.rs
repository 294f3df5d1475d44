//! Whose words a deferral is: those of a greylister, so that the message will come again in the log.

/// The greylisters that are known by what they say.
#[derive(Clone, Debug)]
pub(super) struct Greylisters {
    /// What this site says, in lower case.
    own: Vec<Vec<u8>>,
    /// How its own refusals begin, of whom it has sentenced, or denied: greygate said so itself.
    refusals: Vec<Vec<u8>>,
}

impl Greylisters {
    /// Knows `own` texts beside those of the known ones.
    pub(super) fn with(own: impl IntoIterator<Item = String>) -> Self {
        let own = own.into_iter().map(|text| text.to_ascii_lowercase());
        let own = own.filter(|text| !text.is_empty());
        Self {
            own: own.map(String::into_bytes).collect(),
            refusals: Vec::new(),
        }
    }

    /// Knows how greygate itself refuses, too.
    pub(super) fn refusing(self, beginnings: impl IntoIterator<Item = String>) -> Self {
        let beginnings = beginnings.into_iter().map(|it| it.to_ascii_lowercase());
        let beginnings = beginnings.filter(|it| !it.is_empty());
        Self {
            refusals: beginnings.map(String::into_bytes).collect(),
            ..self
        }
    }

    /// Whether greygate itself refused so: what it would say now is asked anew.
    pub(super) fn refuses(&self, text: &[u8]) -> bool {
        let text = text.to_ascii_lowercase();
        let says = |words: &[u8]| text.windows(words.len()).any(|it| it == words);
        self.refusals.iter().any(|words| says(words))
    }

    /// Whose `text`, a reply 4yz, is; [`None`] if it is no greylister's.
    pub(super) fn name(&self, text: &[u8]) -> Option<&'static str> {
        let text = text.to_ascii_lowercase();
        let says = |words: &[u8]| text.windows(words.len()).any(|it| it == words);
        if self.own.iter().any(|own| says(own)) {
            return Some("as configured");
        }
        let known = WORDS.iter().find(|(words, _)| says(words));
        known.map(|(_, name)| *name)
    }
}

/// What they say, the more special first.
const WORDS: [(&[u8], &str); 10] = [
    (b"greylisted, see http", "Postgrey"),
    (b"greylisting in action", "milter-greylist"),
    (b"greylisted for ", "SQLgrey"),
    (b"greylisted, please try again later", "greygate"),
    // What Postfix says for a milter that defers without words of its own.
    (
        b"service unavailable - try again later",
        "a milter without words",
    ),
    (b"try again later", "rspamd or another"),
    (b"greylist", "another greylister"),
    (b"graylist", "another greylister"),
    (b"grey listed", "another greylister"),
    (b"please try later", "policyd or another"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greylisters_are_known_by_their_words_and_others_by_the_operators() {
        let known = Greylisters::with(["Come Back In A While".to_owned()]);
        for (text, name) in [
            (
                "450 4.2.0 <r@b>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/b.html",
                Some("Postgrey"),
            ),
            (
                "451 4.7.1 Greylisting in action, please come back in 00:04:59",
                Some("milter-greylist"),
            ),
            (
                "450 4.2.0 <r@b>: Recipient address rejected: Greylisted for 5 minutes",
                Some("SQLgrey"),
            ),
            ("4.7.1 Try again later", Some("rspamd or another")),
            (
                "451 4.7.1 Service unavailable - try again later",
                Some("a milter without words"),
            ),
            (
                "451 4.7.1 Greylisted, please try again later",
                Some("greygate"),
            ),
            ("450 4.7.1 come back in a while", Some("as configured")),
            (
                "450 4.1.8 <s@a>: Sender address rejected: Domain not found",
                None,
            ),
            (
                "450 4.7.25 Client host rejected: cannot find your hostname",
                None,
            ),
            ("", None),
        ] {
            assert_eq!(known.name(text.as_bytes()), name, "{text}");
        }
    }

    #[test]
    fn refusals_of_greygate_itself_are_told_from_those_of_a_filter_behind() {
        let known = Greylisters::with([]).refusing([
            "Your host is limited for a while; contact ".to_owned(),
            String::new(),
        ]);
        assert!(known.refuses(b"421 4.7.0 Your host is limited for a while; contact x@y"));
        assert!(!known.refuses(b"550 5.7.1 This is spam"));
    }
}
