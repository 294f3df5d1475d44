//! The engine, reached: Redis or Valkey, as one server, behind Sentinels, or as a cluster.
//!
//! Knows connections and commands; leaves what is in a value to `layout`, when to ask to `clerk`, and
//! when to give up to `circuit`. A connection that breaks stays broken: whoever holds it has to connect
//! anew, and by that knows that something may have been missed.
//!
//! Two connections: what sessions wait for does not queue behind what is written.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind,
    TlsCertificates, TlsMode, Value, cmd,
};

use super::clerk::Parted;
use super::settings::{Mode, Server, Settings};

/// An engine that is connected.
#[derive(Clone)]
pub(super) struct Engine {
    /// For what is waited for.
    pub(super) quick: Link,
    /// For what is written.
    pub(super) bulk: Link,
    /// Its version, as it says.
    pub(super) version: String,
}

/// A connection.
#[derive(Clone)]
pub(super) enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// A file that is named in the configuration.
    #[error("cannot read {}", path.display())]
    File {
        /// It.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is too old.
    #[error("it is {0}, and Redis 7.0 or Valkey 7.2 is the oldest that will do")]
    TooOld(String),
    /// None of the servers may be written to.
    #[error(
        "none of the servers is a master; with several, say mode = \"sentinel\" or \"cluster\""
    )]
    NoMaster,
    /// Nobody answers there, or hangs up.
    #[error("{0}")]
    Gone(String),
    /// Whatever else the library said.
    #[error("{0}")]
    Redis(String),
}

/// As a text, which has the causes in it: as a source, it would say them again.
impl From<RedisError> for EngineError {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        if error.is_connection_refusal() || error.is_connection_dropped() || error.is_timeout() {
            Self::Gone(text)
        } else {
            Self::Redis(text)
        }
    }
}

impl Engine {
    /// Connects, and makes sure that it will do.
    pub(super) async fn connect(settings: &Settings) -> Result<Self, EngineError> {
        let access = Access::of(settings)?;
        let (quick, server) = access.connect(None).await?;
        let version = version_of(&quick).await?;
        let (bulk, _same) = access.connect(server).await?;
        Ok(Self {
            quick,
            bulk,
            version,
        })
    }
}

impl Link {
    /// Says one command.
    pub(super) async fn say(&self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(link) => link.clone().req_packed_command(command).await,
            Self::Cluster(link) => link.clone().req_packed_command(command).await,
        }?
        .extract_error()
    }

    /// Says several at once. What comes of each stands in its place.
    pub(super) async fn say_all(&self, commands: Vec<Cmd>) -> Vec<RedisResult<Value>> {
        match self {
            Self::Single(link) => say_in_one(link.clone(), commands).await,
            // Which server is to hear of it differs from one to the next.
            Self::Cluster(_) => join_all(commands.iter().map(|command| self.say(command))).await,
        }
    }
}

/// A connection, and which server's it is where there are several.
type Connected<'a> = (Link, Option<&'a Server>);

/// How to reach the engine, with the password in it.
struct Access<'a> {
    settings: &'a Settings,
    login: RedisConnectionInfo,
    certificates: Option<TlsCertificates>,
}

impl<'a> Access<'a> {
    fn of(settings: &'a Settings) -> Result<Self, EngineError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| EngineError::File {
                path: path.clone(),
                source,
            })
        };
        let mut login = RedisConnectionInfo::default().set_lib_name("greygate", crate::VERSION);
        if !settings.user.is_empty() {
            login = login.set_username(&settings.user);
        }
        if let Some(file) = &settings.password_file {
            let bytes = read(file)?;
            let text = String::from_utf8_lossy(&bytes);
            login = login.set_password(text.lines().next().unwrap_or_default());
        } else if !settings.password.is_empty() {
            login = login.set_password(settings.password.reveal());
        }
        let file = settings.tls_ca_file.as_ref().filter(|_| settings.tls);
        let root_cert = file.map(read).transpose()?;
        let certificates = root_cert.map(|root_cert| TlsCertificates {
            client_tls: None,
            root_cert: Some(root_cert),
        });
        Ok(Self {
            settings,
            login,
            certificates,
        })
    }

    /// A connection, and by which server of several; by `server` if it is named.
    async fn connect(&self, server: Option<&'a Server>) -> Result<Connected<'a>, EngineError> {
        let settings = self.settings;
        match settings.mode {
            Mode::Single => match server {
                Some(server) => Ok((self.connect_to(server).await?, Some(server))),
                None => self.connect_to_any().await,
            },
            Mode::Sentinel => {
                let name = &settings.sentinel_name;
                Ok((self.connect_behind_sentinels(name).await?, None))
            }
            Mode::Cluster => Ok((self.connect_cluster().await?, None)),
        }
    }

    /// The first that answers and may be written to.
    async fn connect_to_any(&self) -> Result<Connected<'a>, EngineError> {
        let mut why = EngineError::NoMaster;
        let is_one_of_several = self.settings.servers.len() > 1;
        for server in &self.settings.servers {
            let link = match self.connect_to(server).await {
                Ok(link) => link,
                Err(error) => {
                    why = error;
                    continue;
                }
            };
            match is_master(&link).await {
                Ok(is_master) if is_master || !is_one_of_several => {
                    return Ok((link, Some(server)));
                }
                Ok(_) => {}
                Err(error) => why = error.into(),
            }
        }
        Err(why)
    }

    async fn connect_to(&self, server: &Server) -> Result<Link, EngineError> {
        let info = self.info(server)?;
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
            None => Client::open(info)?,
        };
        let patience = patience();
        let connected = client.get_multiplexed_async_connection_with_config(&patience);
        Ok(Link::Single(connected.await?))
    }

    async fn connect_behind_sentinels(&self, name: &str) -> Result<Link, EngineError> {
        let servers = self.settings.servers.iter().map(|it| self.address(it));
        let kind = SentinelServerType::Master;
        let mut builder = SentinelClientBuilder::new(servers, name, kind)?
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_sentinel_tcp_settings(tcp());
        if let Some(user) = self.login.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = self.login.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if self.settings.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        let mut client = builder.build()?;
        let connected = client.get_async_connection_with_config(&patience()).await?;
        Ok(Link::Single(connected))
    }

    async fn connect_cluster(&self) -> Result<Link, EngineError> {
        let servers: RedisResult<Vec<_>> = self
            .settings
            .servers
            .iter()
            .map(|server| self.info(server))
            .collect();
        let mut builder: ClusterClientBuilder = ClusterClient::builder(servers?)
            .connection_timeout(CONNECTING)
            .response_timeout(ANSWERING)
            .overall_response_timeout(Some(ANSWERING))
            .retries(1)
            .tcp_settings(tcp());
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        let client = builder.build()?;
        Ok(Link::Cluster(client.get_async_connection().await?))
    }

    fn info(&self, server: &Server) -> RedisResult<ConnectionInfo> {
        let info = self.address(server).into_connection_info()?;
        let info = info.set_redis_settings(self.login.clone());
        Ok(info.set_tcp_settings(tcp()))
    }

    fn address(&self, server: &Server) -> ConnectionAddr {
        let (host, port) = (server.host.clone(), server.port);
        if self.settings.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }
}

/// Whether a command has to be said with its script first.
pub(super) fn lacks_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether a key that is ours by its name holds something else altogether.
pub(super) fn is_of_another_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// Whether what went wrong is of one key alone: somebody else's value stands there.
pub(super) fn is_foreign(error: &RedisError) -> bool {
    matches!(error.code(), Some("FOREIGN" | "WRONGTYPE"))
}

/// What an error of a command means that everything hangs on.
pub(super) fn parted(error: &RedisError) -> Parted {
    if is_foreign(error) {
        Parted::Foreign
    } else {
        Parted::Broken(error.to_string())
    }
}

/// Whether the engine has no room, or takes nothing that is written.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    matches!(
        error.code(),
        Some("OOM" | "MISCONF" | "READONLY" | "NOREPLICAS" | "NOPERM" | "NOAUTH")
    )
}

/// Says several in one message, and waits for one answer: with a message each, handing them over would cost more
/// than saying them.
async fn say_in_one(
    mut link: MultiplexedConnection,
    commands: Vec<Cmd>,
) -> Vec<RedisResult<Value>> {
    let count = commands.len();
    if count == 0 {
        return Vec::new();
    }
    let mut pipeline = Pipeline::with_capacity(count);
    for command in commands {
        pipeline.add_command(command);
    }
    match link.req_packed_commands(&pipeline, 0, count).await {
        Ok(answers) => answers.into_iter().map(Value::extract_error).collect(),
        Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
    }
}

async fn is_master(link: &Link) -> RedisResult<bool> {
    let role = link.say(&cmd("ROLE")).await?;
    let Value::Array(role) = role else {
        return Ok(false);
    };
    let word = role.first().cloned().map(redis::from_redis_value::<String>);
    Ok(matches!(word, Some(Ok(word)) if word == "master"))
}

/// Name and version of the engine, if it is new enough.
async fn version_of(link: &Link) -> Result<String, EngineError> {
    let mut command = cmd("INFO");
    command.arg("server");
    let told = link.say(&command).await?;
    let told = match told {
        // Of a cluster, each says its own.
        Value::Map(of_each) => of_each.into_iter().map(|(_, it)| it).collect(),
        told => vec![told],
    };
    let mut version = String::new();
    for text in told {
        let text: String = redis::from_redis_value(text).unwrap_or_default();
        version = checked_version(&text).map_err(EngineError::TooOld)?;
    }
    Ok(version)
}

/// What `INFO server` says an engine is; as an error if it is too old.
fn checked_version(info: &str) -> Result<String, String> {
    let field = |name: &str| {
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        fields
            .find(|(it, _)| *it == name)
            .map(|(_, value)| value.trim())
    };
    let named = match (field("valkey_version"), field("redis_version")) {
        (Some(valkey), _) => ("Valkey", valkey),
        (None, Some(redis)) => ("Redis", redis),
        (None, None) => return Err("something without a version".to_owned()),
    };
    let (name, version) = named;
    let told = format!("{name} {version}");
    let major = version.split('.').next().and_then(|it| it.parse().ok());
    if major.unwrap_or(0) >= OLDEST_MAJOR {
        Ok(told)
    } else {
        Err(told)
    }
}

fn patience() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECTING))
        .set_response_timeout(Some(ANSWERING))
        .set_pipeline_buffer_size(PIPELINE)
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

const OLDEST_MAJOR: u32 = 7;
const CONNECTING: Duration = Duration::from_secs(2);
/// Beyond this a connection is as good as none. Sessions wait for a much shorter time.
const ANSWERING: Duration = Duration::from_secs(2);
/// Commands that may wait for a connection to take them.
const PIPELINE: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::chain;

    #[test]
    fn why_there_is_no_engine_is_said_once() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let library = RedisError::from(refused());
        assert_eq!(chain(&EngineError::from(library)), refused().to_string());
        let file = EngineError::File {
            path: PathBuf::from("/etc/greygate/redis"),
            source: refused(),
        };
        let expected = format!("cannot read /etc/greygate/redis: {}", refused());
        assert_eq!(chain(&file), expected);
    }

    #[test]
    fn old_and_unknown_engines_are_told() {
        let info = |text: &str| checked_version(text);
        assert_eq!(
            info("# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\n"),
            Ok("Redis 7.0.15".to_owned())
        );
        assert_eq!(
            info("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n"),
            Ok("Valkey 8.0.1".to_owned())
        );
        assert_eq!(
            info("redis_version:6.0.16\r\n"),
            Err("Redis 6.0.16".to_owned())
        );
        assert!(info("HTTP/1.1 400 Bad Request").is_err());
    }
}
