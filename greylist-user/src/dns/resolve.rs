//! One look-up over the DNS, bounded in time: the addresses of a name, or what SPF says.
//!
//! The wire, its caches and its retries are hickory's, SPF with its ten look-ups (RFC 7208, 4.6.4)
//! mail-auth's; both ask through one resolver. Leaves what an answer means to `zone`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{MessageAuthenticator, SpfResult};
use tokio::time::{Instant, timeout};

use super::settings::{Server, Settings};

/// Asks servers.
pub(super) struct Resolver {
    authenticator: MessageAuthenticator,
    timeout: Duration,
}

/// The addresses of a name, none if there is no such name, and how long that holds.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) until: Instant,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// None came in time.
    Timeout,
    /// The server could not tell, or what it sent was none.
    Error(String),
}

impl Failure {
    /// The word for the metric.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Error(_) => "error",
        }
    }

    /// As it is told to people, behind a name.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Timeout => "does not answer in time".to_owned(),
            Self::Error(error) => format!("cannot be asked: {error}"),
        }
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Timeout => Self::Timeout,
            other => Self::Error(other.to_string()),
        }
    }
}

impl Resolver {
    /// A resolver by `settings`, or by the system's where they name no server.
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        let (config, mut options) = if settings.servers.is_empty() {
            read_system_conf()?
        } else {
            let servers = settings.servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            (config, ResolverOpts::default())
        };
        tune(&mut options, settings);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        Ok(Self {
            authenticator: MessageAuthenticator(resolver),
            timeout: settings.timeout,
        })
    }

    /// The IPv4 addresses of `name`, which ends in a dot.
    pub(super) async fn addresses(&self, name: &str) -> Result<Addresses, Failure> {
        let resolver = &self.authenticator.0;
        let found = self.in_time(resolver.ipv4_lookup(name)).await;
        let now = Instant::now();
        match found {
            Ok(lookup) => {
                let addresses = lookup.answers().iter().filter_map(|it| match &it.data {
                    RData::A(address) => Some(address.0),
                    _ => None,
                });
                let until = Instant::from_std(lookup.valid_until());
                Ok(Addresses {
                    addresses: addresses.collect(),
                    until: until.clamp(now + SHORTEST_KEPT, now + LONGEST_KEPT),
                })
            }
            Err(None) => Err(Failure::Timeout),
            Err(Some(NetError::Dns(DnsError::NoRecordsFound(none))))
                if matches!(
                    none.response_code,
                    ResponseCode::NoError | ResponseCode::NXDomain
                ) =>
            {
                let kept = Duration::from_secs(none.negative_ttl.unwrap_or_default().into());
                Ok(Addresses {
                    addresses: Vec::new(),
                    until: now + kept.clamp(SHORTEST_KEPT, LONGEST_DENIAL),
                })
            }
            Err(Some(error)) => Err(error.into()),
        }
    }

    /// The same, asked whether or not it is known.
    pub(super) async fn addresses_anew(&self, name: &str) -> Result<Addresses, Failure> {
        self.authenticator.0.clear_lookup_cache(name, RecordType::A);
        self.addresses(name).await
    }

    /// Whether the servers answer at all: of the root, which nobody can have broken but they.
    pub(super) async fn answers(&self) -> Result<(), Failure> {
        let resolver = &self.authenticator.0;
        resolver.clear_lookup_cache(".", RecordType::NS);
        match self.in_time(resolver.lookup(".", RecordType::NS)).await {
            // Some answer that there is nothing: a resolver of a site that has no root.
            Ok(_) | Err(Some(NetError::Dns(DnsError::NoRecordsFound(_)))) => Ok(()),
            Err(None) => Err(Failure::Timeout),
            Err(Some(error)) => Err(error.into()),
        }
    }

    /// Whether SPF passes for `client` and not for everybody. An empty `reverse_path` is judged by
    /// the HELO argument.
    pub(super) async fn spf(
        &self,
        client: IpAddr,
        helo: &str,
        reverse_path: &str,
    ) -> Result<bool, Failure> {
        let asked = async {
            let says = async |client| {
                let parameters = if reverse_path.is_empty() {
                    SpfParameters::verify_ehlo(client, helo, NOBODY)
                } else {
                    SpfParameters::verify_mail_from(client, helo, NOBODY, reverse_path)
                };
                self.authenticator.verify_spf(parameters).await.result()
            };
            match says(client).await {
                SpfResult::Pass => {}
                SpfResult::TempError => {
                    let error = "the records of a sender's domain cannot be had".to_owned();
                    return Err(Failure::Error(error));
                }
                _ => return Ok(false),
            }
            let stranger = match client {
                IpAddr::V4(_) => IpAddr::V4(STRANGER),
                IpAddr::V6(_) => IpAddr::V6(STRANGER_IPV6),
            };
            Ok(client == stranger || says(stranger).await != SpfResult::Pass)
        };
        timeout(self.timeout, asked)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    /// What came in time; an error is [`None`] where nothing did.
    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, Option<NetError>> {
        match timeout(self.timeout, asked).await {
            Ok(Err(NetError::Timeout)) | Err(_) => Err(None),
            Ok(answered) => answered.map_err(Some),
        }
    }
}

fn name_server(server: &Server) -> NameServerConfig {
    let address = server.0;
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

/// Bounds in time and memory: what servers and strangers send must not set them.
fn tune(options: &mut ResolverOpts, settings: &Settings) {
    options.timeout = settings.timeout / ATTEMPTS;
    options.attempts = ATTEMPTS as usize - 1;
    // A socket each.
    options.num_concurrent_reqs = 1;
    options.max_active_requests = settings.in_flight;
    options.cache_size = RECORDS;
    options.positive_max_ttl = Some(LONGEST_KEPT);
    options.negative_max_ttl = Some(LONGEST_DENIAL);
    options.preserve_intermediates = false;
}

/// Datagrams get lost: so many tries share the time of one question.
const ATTEMPTS: u32 = 3;

/// Responses that the resolver keeps for SPF; most are small, none is more than 64 KiB.
const RECORDS: u64 = 1_024;

/// Whatever a record says: a moment, so that one session asks once; and no more than an hour, in which
/// a list can change its mind.
const SHORTEST_KEPT: Duration = Duration::from_secs(5);
const LONGEST_KEPT: Duration = Duration::from_hours(1);
/// Who is not listed may be in minutes.
const LONGEST_DENIAL: Duration = Duration::from_mins(5);

/// Addresses of documentation (RFC 5737, RFC 3849), which send no mail: a record that passes them
/// passes everybody, and so speaks for nobody.
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 201);
const STRANGER_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 201);

/// What stands for the receiving host in a macro of SPF where it does not say (RFC 7208, 7.3).
const NOBODY: &str = "unknown";
