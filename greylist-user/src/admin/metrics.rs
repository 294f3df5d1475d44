//! The metrics endpoint: `/metrics` in Prometheus' text form, `/health` for people and `/healthz` for
//! programs, and `/livez`, which answers as long as the process does.
//!
//! A thread of its own with bounded connections and time. No label holds an address, a domain or
//! a HELO argument, so that what strangers send cannot grow the page.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::control::Control;
use super::count::Metrics;
use super::door::Door;

/// The running metrics endpoint. Dropping it, or [`MetricsServer::stop`], closes it.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    _door: Door,
}

/// A metrics endpoint that listens and does not serve yet: a scraper waits.
#[derive(Debug)]
pub struct BoundMetrics {
    address: SocketAddr,
    listener: StdListener,
}

impl MetricsServer {
    /// Listens at `listen`. Starts no thread, and is all that may take a right: a port below 1024.
    pub fn bind(listen: SocketAddr) -> Result<BoundMetrics, MetricsError> {
        let broken = |source| MetricsError::Bind(listen, source);
        let listener = StdListener::bind(listen).map_err(broken)?;
        listener.set_nonblocking(true).map_err(broken)?;
        let address = listener.local_addr().map_err(broken)?;
        Ok(BoundMetrics { address, listener })
    }
}

impl BoundMetrics {
    /// Serves, in a thread of its own, what `registry` holds and what `control` says of its health.
    pub fn serve(
        self,
        registry: Arc<Registry>,
        control: Arc<dyn Control>,
        metrics: Arc<Metrics>,
    ) -> Result<MetricsServer, MetricsError> {
        let Self { address, listener } = self;
        let page = Arc::new(Page {
            registry,
            control,
            metrics: Arc::clone(&metrics),
        });
        let door = Door::open(
            "metrics",
            metrics,
            || TcpListener::from_std(listener),
            move |stream| serve(stream, Arc::clone(&page)),
        )
        .map_err(|source| MetricsError::Bind(address, source))?;
        Ok(MetricsServer {
            address,
            _door: door,
        })
    }
}

impl MetricsServer {
    /// Where it listens, port 0 resolved.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the endpoint and waits for its thread.
    pub fn stop(self) {
        drop(self);
    }
}

/// Why there is no metrics endpoint.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The address could not be bound.
    #[error("the metrics endpoint cannot listen on {0}; name another [metrics] listen, or \"off\"")]
    Bind(SocketAddr, #[source] io::Error),
}

/// The counters of a registry, by the names and labels under which `/metrics` shows them.
pub fn counts(registry: &Registry) -> BTreeMap<String, u64> {
    let mut page = String::new();
    if encode(&mut page, registry).is_err() {
        return BTreeMap::new();
    }
    let counter = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let name = series.split('{').next()?;
        let value = value.parse().ok()?;
        name.ends_with("_total").then(|| (series.to_owned(), value))
    };
    page.lines().filter_map(counter).collect()
}

async fn serve(stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(move |request| {
        let response = page.respond(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever a stranger does to this connection is no event.
    let _ = timeout(CONNECTION_TIME, connection).await;
}

struct Page {
    registry: Arc<Registry>,
    control: Arc<dyn Control>,
    metrics: Arc<Metrics>,
}

impl Page {
    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/health" => self.health(),
            "/healthz" => self.healthz(),
            // Whoever reads this has proved it.
            "/livez" => text(StatusCode::OK, "ok\n"),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /metrics, /health, /healthz and /livez\n",
            ),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let complaints = self.control.health().complaints.len();
        self.metrics.complaints(complaints);
        let mut page = String::new();
        if encode(&mut page, &self.registry).is_err() {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "a metric cannot be shown\n",
            );
        }
        let mut response = text(StatusCode::OK, page);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
        response
    }

    fn health(&self) -> Response<Full<Bytes>> {
        let health = self.control.health();
        if health.is_good() {
            text(StatusCode::OK, "ok\n")
        } else {
            let complaints = health.complaints.join("\n") + "\n";
            text(StatusCode::SERVICE_UNAVAILABLE, complaints)
        }
    }

    /// The same for programs, as JSON.
    fn healthz(&self) -> Response<Full<Bytes>> {
        let health = self.control.health();
        let told = Told {
            healthy: health.is_good(),
            complaints: &health.complaints,
        };
        let status = if told.healthy {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let body = serde_json::to_string(&told).expect("it is plain data") + "\n";
        let mut response = text(status, body);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// What `/healthz` says.
#[derive(Serialize)]
struct Told<'a> {
    healthy: bool,
    complaints: &'a [String],
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The form that `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A scraper sends its request at once.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Prometheus gives up after ten seconds by default.
const CONNECTION_TIME: Duration = Duration::from_secs(15);

/// A scraper's request head is some hundred bytes; hyper takes 8 KiB at least.
const LONGEST_HEAD: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;

    use super::super::ledger::Ledger;
    use super::*;

    #[test]
    fn serves_what_the_registry_holds() {
        let server = start(&Arc::new(Ledger::default()));
        let page = get(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        assert!(page.contains("openmetrics-text"), "{page}");
        assert!(page.contains("greygate_attempts_total 3\n"), "{page}");
        server.stop();
    }

    #[test]
    fn counts_are_named_as_on_the_page() {
        let mut registry = Registry::with_prefix("greygate");
        let attempts: Family<[(&str, &str); 1], Counter> = Family::default();
        attempts.get_or_create(&[("verdict", "defer")]).inc_by(3);
        attempts.get_or_create(&[("verdict", "pass")]).inc_by(4);
        registry.register("attempts", "Attempts", attempts);
        registry.register("size", "No counter", Gauge::<i64>::default());
        let name = |verdict| format!("greygate_attempts_total{{verdict=\"{verdict}\"}}");
        let expected = BTreeMap::from([(name("defer"), 3), (name("pass"), 4)]);
        assert_eq!(counts(&registry), expected);
    }

    #[test]
    fn health_follows_the_daemon() {
        let control = Arc::new(Ledger::default());
        let server = start(&control);
        let good = get(&server, "GET /health HTTP/1.0\r\n\r\n");
        assert!(
            good.starts_with("HTTP/1.0 200 ") || good.starts_with("HTTP/1.1 200 "),
            "{good}"
        );
        control.complain("the store is full");
        let bad = get(&server, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(bad.starts_with("HTTP/1.1 503 "), "{bad}");
        assert!(bad.ends_with("the store is full\n"), "{bad}");
    }

    #[test]
    fn strangers_get_an_answer_and_the_door_stays_open() {
        let server = start(&Arc::new(Ledger::default()));
        for (sent, answered) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "),
            (
                "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 405 ",
            ),
            ("EHLO example.org\r\n\r\n", "HTTP/1.1 400 "),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "HTTP/1.1 400 "),
        ] {
            let page = get(&server, sent);
            assert!(page.starts_with(answered), "{sent:?} got {page:?}");
        }
        let page = get(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    }

    #[test]
    fn taken_address_is_an_error_that_names_it() {
        let server = start(&Arc::new(Ledger::default()));
        let address = server.address();
        let error = MetricsServer::bind(address).expect_err("the address is taken");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    fn start(control: &Arc<Ledger>) -> MetricsServer {
        let mut registry = Registry::with_prefix("greygate");
        let attempts: Counter = Counter::default();
        attempts.inc_by(3);
        registry.register("attempts", "Attempts", attempts);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let control: Arc<dyn Control> = control.clone();
        MetricsServer::bind(listen)
            .and_then(|bound| bound.serve(Arc::new(registry), control, Arc::default()))
            .expect("loopback has a free port")
    }

    fn get(server: &MetricsServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).expect("the door is open");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout can be set");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("it answers text");
        page
    }
}
