//! Sharing over TLS: with the right authority, with another one, and with a server that speaks in clear.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use greygate::cluster::{Secret, State};
use support::process;
use support::requirements;
use tempfile::TempDir;

use crate::engine::{Engine, PORT, equipment};
use crate::hosts::{ATTEMPT, Site, is_new, play, until};
use crate::stranger::Stranger;

#[test]
fn hosts_share_over_tls_where_they_know_the_authority() {
    with_tls(|authority| {
        let [mx1, mx2] = secured(authority.certificate()).hosts();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        until("mx2 knows the tuple", || mx2.knows(&ATTEMPT));
    });
}

#[test]
fn server_that_an_unknown_authority_vouches_for_is_not_spoken_to() {
    with_tls(|_| {
        let stranger = Authority::new("another");
        let host = secured(stranger.certificate()).host("mx1");
        host.wait_until(
            "it says why it is alone",
            |it| matches!(&it.state, State::Alone(why) if why.contains("certificate")),
        );
        assert!(is_new(host.judge(&ATTEMPT)), "mail flows");
    });
}

#[test]
fn authority_that_cannot_be_read_is_named() {
    with_tls(|authority| {
        let missing = authority.certificate().with_extension("missing");
        let host = secured(missing.clone()).host("mx1");
        host.wait_until("it names the file", |it| {
            matches!(&it.state, State::Alone(why) if why.contains(&missing.display().to_string()))
        });
        assert!(is_new(host.judge(&ATTEMPT)), "mail flows");
    });
}

#[test]
fn nothing_is_said_in_clear_where_tls_is_wanted() {
    requirements::program("openssl").expect("the suite's needs are installed");
    play(|_, _| {
        let authority = Authority::new("ours");
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let stranger = Stranger::listening(Arc::clone(&heard));
        let mut site = secured(authority.certificate());
        site.settings.servers = vec![stranger.server()];
        let host = site.host("mx1");
        let noted = || heard.lock().expect("nobody panics").len();
        until("it tries again and again", || noted() > 2);
        host.wait_until("it is alone", |it| matches!(it.state, State::Alone(_)));
        assert!(is_new(host.judge(&ATTEMPT)), "mail flows");
        drop(host);
        for said in heard.lock().expect("nobody panics").iter() {
            assert_eq!(said.first(), Some(&HANDSHAKE), "{}", said.escape_ascii());
            let has_password = said
                .windows(PASSWORD.len())
                .any(|it| it == PASSWORD.as_bytes());
            assert!(!has_password, "{}", said.escape_ascii());
        }
    });
}

/// Plays a test where an engine speaks TLS on loopback, with a certificate of the given authority.
fn with_tls(test: impl FnOnce(&Authority) + Send) {
    equipment().expect("the suite's needs are installed");
    requirements::program("openssl").expect("the suite's needs are installed");
    let authority = Authority::new("ours");
    let server = authority.certify("server", "IP:127.0.0.1");
    let (port, key) = (TLS_PORT.to_string(), server.with_extension("key"));
    let file = |path: &Path| {
        path.to_str()
            .expect("a temporary directory is text")
            .to_owned()
    };
    let engine = Engine::start(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &file(&server),
        "--tls-key-file",
        &file(&key),
        "--tls-ca-cert-file",
        &file(&authority.certificate()),
        "--tls-auth-clients",
        "no",
        "--requirepass",
        PASSWORD,
    ]);
    engine.with(|| test(&authority));
}

/// A site that shares over TLS alone.
fn secured(authority: PathBuf) -> Site {
    let mut site = Site::new();
    site.settings.servers[0].port = TLS_PORT;
    site.settings.tls = true;
    site.settings.tls_ca_file = Some(authority);
    site.settings.password = Secret::new(PASSWORD.to_owned());
    site
}

/// Who vouches for servers.
struct Authority {
    name: &'static str,
    directory: TempDir,
}

impl Authority {
    fn new(name: &'static str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let authority = Self { name, directory };
        authority.openssl(&format!(
            "req -x509 {NEW_KEY} -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2"
        ));
        authority
    }

    /// What tells it: the file of a configuration.
    fn certificate(&self) -> PathBuf {
        self.directory.path().join(self.name).with_extension("pem")
    }

    /// Gives a server a certificate for `names`; its key lies beside.
    fn certify(&self, server: &str, names: &str) -> PathBuf {
        let path = self.directory.path().join(server);
        std::fs::write(&path, format!("subjectAltName={names}\n")).expect("the directory is ours");
        self.openssl(&format!(
            "req {NEW_KEY} -keyout {server}.key -out {server}.csr -subj /CN={server}"
        ));
        let name = self.name;
        self.openssl(&format!(
            "x509 -req -in {server}.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial \
             -extfile {server} -days 2 -out {server}.pem"
        ));
        path.with_extension("pem")
    }

    fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace());
        command.current_dir(&self.directory);
        process::run(&mut command).unwrap_or_else(|error| panic!("{error}"));
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
const PASSWORD: &str = "swordfish";
/// Beside the port in clear, which nobody is told of.
const TLS_PORT: u16 = PORT + 1;
/// What a record of TLS that begins a handshake begins with.
const HANDSHAKE: u8 = 22;
