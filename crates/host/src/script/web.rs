//! HTTP and HTTPS for scripts: a short-lived thread for each request, so that a slow server costs nobody else anything.
//! Time, size, redirects and requests at once are bounded.
use crate::tls;
use node::rules::{Limits, Request, RequestId};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ureq::Agent;
use ureq::http;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// More than scripts may have in flight: requests of a script that was replaced go on until their time is over.
const REQUESTS_MAX: usize = 32;
const REDIRECTS_MAX: u32 = 5;
/// Status line and headers of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const STACK_BYTES: usize = 512 * 1024;

/// What is said where redirects lead nowhere.
pub(crate) const TOO_MANY_REDIRECTS: &str = "too many redirects";
/// What is said of a request that is not sent because of others.
pub(crate) const TOO_MANY_REQUESTS: &str = "too many requests are under way";

/// What is said of an answer with a longer body.
pub(crate) fn too_long(bytes_max: usize) -> String {
    format!("more than {bytes_max} bytes")
}

/// How a request ended.
#[derive(Debug)]
pub struct Answer {
    /// Whose it is.
    pub id: RequestId,
    /// Where it went, without a query, which may hold secrets.
    pub url: String,
    /// Status code and body, or why there is none.
    pub outcome: Result<(u16, Vec<u8>), String>,
}

/// Where requests start.
pub(crate) struct Web {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Web").field("running", &self.shared.running).finish_non_exhaustive()
    }
}

struct Shared {
    /// Made by the first request: reading the certificates of the system takes a while.
    agent: OnceLock<Agent>,
    running: AtomicUsize,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    body_bytes_max: usize,
    tell: Box<dyn Fn(Answer) + Send + Sync>,
}

impl Web {
    /// `tell` is called on the threads of the requests. `ca_file` holds certificates to trust besides the system's.
    pub(crate) fn new(
        limits: &Limits,
        ca_file: Option<PathBuf>,
        tell: impl Fn(Answer) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            agent: OnceLock::new(),
            running: AtomicUsize::new(0),
            ca_file,
            timeout: limits.http_timeout,
            body_bytes_max: limits.http_body_bytes,
            tell: Box::new(tell),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sends the request; its answer is told, whatever becomes of it.
    pub(crate) fn send(&self, request: Request) {
        let (id, url) = (request.id, plain(&request.url));
        if let Err(error) = self.start(request) {
            (self.shared.tell)(Answer { id, url, outcome: Err(error.to_string()) });
        }
    }

    fn start(&self, request: Request) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        if shared.running.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX {
            shared.running.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::other(TOO_MANY_REQUESTS));
        }
        let thread = std::thread::Builder::new().name("midge-http".into()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            let outcome = shared.fetch(&request);
            shared.running.fetch_sub(1, Ordering::Relaxed);
            (shared.tell)(Answer { id: request.id, url: plain(&request.url), outcome });
        });
        if spawned.is_err() {
            self.shared.running.fetch_sub(1, Ordering::Relaxed);
        }
        spawned.map(|_| ())
    }
}

impl Shared {
    fn fetch(&self, request: &Request) -> Result<(u16, Vec<u8>), String> {
        let agent = match self.agent.get() {
            Some(agent) => agent,
            None => {
                let made = self.agent().map_err(|error| error.to_string())?;
                self.agent.get_or_init(|| made)
            }
        };
        let mut head = http::Request::builder().method(request.method.word()).uri(&request.url);
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        let said = match &request.body {
            Some(body) => head.body(&body[..]).map_err(|error| error.to_string()).map(|request| agent.run(request)),
            None => head.body(()).map_err(|error| error.to_string()).map(|request| agent.run(request)),
        };
        let mut answer = said?.map_err(|error| match error {
            ureq::Error::TooManyRedirects => TOO_MANY_REDIRECTS.to_owned(),
            error => error.to_string(),
        })?;
        let body = answer.body_mut().with_config().limit(self.body_bytes_max as u64).read_to_vec();
        match body {
            Ok(body) => Ok((answer.status().as_u16(), body)),
            Err(ureq::Error::BodyExceedsLimit(_)) => Err(too_long(self.body_bytes_max)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn agent(&self) -> Result<Agent, tls::TlsError> {
        let trusted = tls::believed(self.ca_file.as_deref())?;
        let roots: Vec<_> = trusted.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            .max_redirects(REDIRECTS_MAX)
            .max_response_header_size(HEAD_BYTES_MAX)
            .max_idle_connections(0)
            .user_agent(concat!("midge/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(agent)
    }
}

fn plain(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::rules::Method;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc::{Receiver, channel};

    /// A server that answers one connection after the other with what `answer` says to the head and body.
    fn server(answer: impl Fn(&str, &str) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                let length = head
                    .to_ascii_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .map(|rest| rest.split_whitespace().next().unwrap().parse::<usize>().unwrap());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                // A client that has had enough hangs up.
                let _ = (&stream).write_all(&answer(&head, &String::from_utf8(body).unwrap()));
            }
        });
        address
    }

    fn web(limits: &Limits) -> (Web, Receiver<Answer>) {
        let (sender, answers) = channel();
        (Web::new(limits, None, move |answer| drop(sender.send(answer))), answers)
    }

    fn request(id: u64, method: Method, url: String, body: Option<&'static str>) -> Request {
        let headers = vec![("X-Key".to_owned(), "a b".to_owned())];
        Request { id: RequestId(id), method, url, headers, body: body.map(|body| body.as_bytes().into()) }
    }

    fn ask(limits: &Limits, request: Request) -> Result<(u16, String), String> {
        let (web, answers) = web(limits);
        web.send(request);
        let answer = answers.recv_timeout(Duration::from_secs(20)).unwrap();
        answer.outcome.map(|(code, body)| (code, String::from_utf8(body).unwrap()))
    }

    #[test]
    fn method_headers_body_and_code_arrive() {
        let address = server(|head, body| {
            let said = format!("{}|{}|{body}", head.lines().next().unwrap(), head.contains("a b"));
            format!("HTTP/1.1 404 No\r\nContent-Length: {}\r\n\r\n{said}", said.len()).into_bytes()
        });
        for (method, body, expected) in [
            (Method::Get, None, "GET /x?y HTTP/1.1|true|"),
            (Method::Post, Some("data"), "POST /x?y HTTP/1.1|true|data"),
            (Method::Put, Some("more"), "PUT /x?y HTTP/1.1|true|more"),
            (Method::Delete, None, "DELETE /x?y HTTP/1.1|true|"),
        ] {
            let outcome = ask(&Limits::default(), request(1, method, format!("http://{address}/x?y"), body));
            assert_eq!(outcome, Ok((404, expected.to_owned())));
        }
    }

    #[test]
    fn redirects_are_followed_and_end() {
        let address = server(|head, _| {
            let path = head.split(' ').nth(1).unwrap();
            let to = if path == "/loop" { "/loop" } else { "/end" };
            match path {
                "/end" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
                _ => format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
            }
        });
        let get = |path: &str| request(1, Method::Get, format!("http://{address}{path}"), None);
        assert_eq!(ask(&Limits::default(), get("/once")), Ok((200, "ok".to_owned())));
        let error = ask(&Limits::default(), get("/loop")).unwrap_err();
        assert_eq!(error, TOO_MANY_REDIRECTS);
    }

    #[test]
    fn an_endless_answer_and_a_silent_server_end() {
        let limits = Limits { http_timeout: Duration::from_millis(500), ..Limits::default() };
        let chatty = server(|_, _| [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 1 << 20]].concat());
        let error = ask(&limits, request(1, Method::Get, format!("http://{chatty}/"), None)).unwrap_err();
        assert_eq!(error, "more than 65536 bytes");
        // It never accepts.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let error = ask(&limits, request(1, Method::Get, url.clone(), None)).unwrap_err();
        assert!(error.contains("timeout"), "{error}");
        let (web, answers) = web(&limits);
        for id in 0..40 {
            web.send(request(id, Method::Get, url.clone(), None));
        }
        let outcomes: Vec<_> = (0..40).map(|_| answers.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
        let refused = |answer: &&Answer| answer.outcome.as_ref().is_err_and(|why| why == TOO_MANY_REQUESTS);
        assert_eq!(outcomes.iter().filter(refused).count(), 8);
    }

    #[test]
    fn nobody_there_is_said() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for url in [format!("http://{closed}/"), format!("https://{closed}/")] {
            let error = ask(&Limits::default(), request(1, Method::Get, url, None)).unwrap_err();
            assert!(error.to_lowercase().contains("refused"), "{error}");
        }
    }
}
