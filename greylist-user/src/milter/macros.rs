//! Macros: the named values an MTA sends ahead of a command.
//!
//! Knows how they lie in a frame and the few names greygate asks for. Leaves what follows from a
//! value to `session`. Names come with or without braces, lists come empty, and Sendmail sends odd
//! counts: a name without a value has the empty value.

/// The macros of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macros<'a> {
    /// The kind byte of the command they belong to; 0 when the MTA named none.
    pub stage: u8,
    pairs: &'a [u8],
}

impl<'a> Macros<'a> {
    /// The macros in the payload of a macro frame.
    pub(super) fn parse(payload: &'a [u8]) -> Self {
        match payload.split_first() {
            Some((&stage, pairs)) => Self { stage, pairs },
            None => Self {
                stage: 0,
                pairs: b"",
            },
        }
    }

    /// The value of `name`, which is given without braces; `None` when the MTA did not send it.
    pub fn value(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.pairs;
        while !rest.is_empty() {
            let key = take_text(&mut rest);
            let value = take_text(&mut rest);
            if without_braces(key) == name {
                return Some(value);
            }
        }
        None
    }
}

/// The address of ours that the client connected to.
pub(super) const DAEMON_ADDR: &[u8] = b"daemon_addr";
/// The client's SASL login name, at MAIL.
pub(super) const AUTH_AUTHEN: &[u8] = b"auth_authen";
/// The delivery agent, at RCPT; `error` for a recipient that the MTA refuses itself.
pub(super) const RCPT_MAILER: &[u8] = b"rcpt_mailer";
/// What it is delivered to; for a refused recipient the enhanced status code.
pub(super) const RCPT_HOST: &[u8] = b"rcpt_host";
/// The queue id, from DATA on.
pub(super) const QUEUE_ID: &[u8] = b"i";

/// Takes the text up to the next NUL, or to the end where the last NUL is missing.
pub(super) fn take_text<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let bytes = *rest;
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        *rest = &bytes[end + 1..];
        &bytes[..end]
    } else {
        *rest = b"";
        bytes
    }
}

fn without_braces(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"{")
        .and_then(|name| name.strip_suffix(b"}"))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_with_and_without_braces() {
        let macros = Macros::parse(b"Mi\0ABC123\0{auth_authen}\0joe\0");
        assert_eq!(macros.stage, b'M');
        assert_eq!(macros.value(QUEUE_ID), Some(b"ABC123".as_slice()));
        assert_eq!(macros.value(AUTH_AUTHEN), Some(b"joe".as_slice()));
        assert_eq!(macros.value(RCPT_MAILER), None);
    }

    #[test]
    fn empty_list_and_odd_count_are_legal() {
        assert_eq!(Macros::parse(b"H").value(QUEUE_ID), None);
        assert_eq!(Macros::parse(b"").stage, 0);
        assert_eq!(Macros::parse(b"Mi\0").value(QUEUE_ID), Some(b"".as_slice()));
        assert_eq!(
            Macros::parse(b"Mi\0AB").value(QUEUE_ID),
            Some(b"AB".as_slice())
        );
    }
}
