//! `/metrics`, `/health` and `/ready` over HTTP: small questions, short answers, one thread a caller and few callers.
//! Nothing here can change the site.
use crate::acceptor::Acceptor;
use crate::metrics;
use crate::status::Status;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CALLERS_MAX: usize = 16;
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// For a whole conversation.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct HttpServer(Acceptor);

impl HttpServer {
    /// Listens and answers until dropped. `status` is asked anew for every question; `None` says that the site does not
    /// answer.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub(crate) fn start(
        bind: SocketAddr,
        status: impl Fn() -> Option<Status> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_patient(bind, PATIENCE, status)
    }

    fn start_patient(
        bind: SocketAddr,
        patience: Duration,
        status: impl Fn() -> Option<Status> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (status, callers) = (Arc::new(status), Arc::new(AtomicUsize::new(0)));
        Acceptor::start(bind, "midge-http", move |stream| answer(stream, patience, &status, &callers)).map(Self)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// On a thread of its own, unless there are too many.
fn answer(
    stream: TcpStream,
    patience: Duration,
    status: &Arc<impl Fn() -> Option<Status> + Send + Sync + 'static>,
    callers: &Arc<AtomicUsize>,
) {
    if callers.load(Ordering::Relaxed) >= CALLERS_MAX {
        return;
    }
    callers.fetch_add(1, Ordering::Relaxed);
    let (status, done) = (Arc::clone(status), Arc::clone(callers));
    let spawned = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
        // Whoever hung up does not get an answer; nobody else cares.
        let _ = converse(stream, patience, &*status);
        done.fetch_sub(1, Ordering::Relaxed);
    });
    if spawned.is_err() {
        callers.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Answer {
    code: &'static str,
    kind: &'static str,
    body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

fn words(code: &'static str, body: &str) -> Answer {
    Answer { code, kind: TEXT, body: format!("{body}\n") }
}

fn converse(mut stream: TcpStream, patience: Duration, status: &dyn Fn() -> Option<Status>) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    stream.set_write_timeout(Some(patience))?;
    let mut head = Vec::new();
    let (answer, has_body) = loop {
        stream
            .set_read_timeout(Some(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))))?;
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece)?;
        if count == 0 || Instant::now() >= deadline {
            return Ok(());
        }
        head.extend_from_slice(&piece[..count]);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                let method = request.method.unwrap_or_default();
                break (respond(method, request.path.unwrap_or_default(), status), method != "HEAD");
            }
            Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => {}
            Ok(httparse::Status::Partial) => break (words("431 Request Header Fields Too Large", "too long"), true),
            Err(error) => break (words("400 Bad Request", &error.to_string()), true),
        }
    };
    let Answer { code, kind, body } = answer;
    let allow = if code.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let mut reply = format!(
        "HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n{allow}\
         Connection: close\r\n\r\n"
    );
    if has_body {
        reply.push_str(&body);
    }
    stream.write_all(reply.as_bytes())
}

fn respond(method: &str, path: &str, status: &dyn Fn() -> Option<Status>) -> Answer {
    if method != "GET" && method != "HEAD" {
        return words("405 Method Not Allowed", "only GET and HEAD");
    }
    match (path.split('?').next().unwrap_or_default(), status()) {
        ("/metrics", Some(status)) => {
            Answer { code: "200 OK", kind: metrics::CONTENT_TYPE, body: metrics::of(&status) }
        }
        ("/health" | "/ready", Some(_)) => words("200 OK", "ok"),
        ("/metrics" | "/health" | "/ready", None) => words("503 Service Unavailable", "the site does not answer"),
        _ => words("404 Not Found", "there are /metrics, /health and /ready"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &HttpServer, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A server that has answered already may not hear the rest.
        let _ = stream.write_all(request);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn start(status: Option<Status>) -> HttpServer {
        HttpServer::start("127.0.0.1:0".parse().unwrap(), move || status.clone()).unwrap()
    }

    #[test]
    fn questions_and_answers() {
        let server = start(Some(Status::default()));
        let rows: [(&[u8], &str, &str); 8] = [
            (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "ok\n"),
            (b"GET /ready?full HTTP/1.0\r\n\r\n", "200 OK", "ok\n"),
            (b"GET /metrics HTTP/1.1\r\n\r\n", "200 OK", "# EOF\n"),
            (b"HEAD /health HTTP/1.1\r\n\r\n", "200 OK", "\r\n\r\n"),
            (b"POST /health HTTP/1.1\r\n\r\n", "405 Method", "only GET and HEAD\n"),
            (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found", "/ready\n"),
            (b"\x16\x03\x01\x00\x00", "400 Bad", "\n"),
            (&[b'A'; 20_000], "431 Request", "\n"),
        ];
        for (request, code, end) in rows {
            let reply = ask(&server, request);
            assert!(reply.starts_with(&format!("HTTP/1.1 {code}")), "{reply}");
            assert!(reply.ends_with(end), "{reply}");
        }
        let broken = start(None);
        assert!(ask(&broken, b"GET /health HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503"));
    }

    #[test]
    fn silent_callers_keep_nobody_out_for_long() {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = HttpServer::start_patient(bind, Duration::from_secs(1), || Some(Status::default())).unwrap();
        let is_answered = || ask(&server, b"GET /health HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200");
        let _silent: Vec<_> = (0..CALLERS_MAX).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        assert!(!is_answered(), "all places are taken");
        let let_in = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            is_answered()
        });
        assert!(let_in);
    }
}
