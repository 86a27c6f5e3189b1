//! Answers to scrapers, by the part of HTTP/1.1 that they need.
//!
//! Each connection has one request and one answer. A scraper that is slow, silent or hostile has a
//! bounded time, a bounded request and one of few connections; it delays nobody else, and no lock
//! of the framework is held while one is waited for.

use crate::endpoint::Endpoint;
use crate::metrics::Metrics;
use crate::text::classic;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The most connections that are answered at one time. Further ones are closed at once.
const MAX_CONNECTIONS: usize = 16;

/// The largest request, in bytes. Prometheus sends about 300.
const MAX_REQUEST: usize = 8 << 10;

/// The time for a request, and that for its answer.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The age up to which figures are sent again. It bounds the number of passes over the books that
/// scrapers can cause.
const MAX_AGE: Duration = Duration::from_millis(100);

/// The pause after a connection that the system could not give.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Answers scrapers until it is dropped.
#[derive(Debug)]
pub struct Exporter {
    endpoint: Endpoint,
    file: Option<SocketFile>,
    /// Dropping it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Listens at `endpoint` and answers `GET /metrics` with the figures of `metrics`: as
    /// OpenMetrics for a scraper that accepts it, or else in the older text format of Prometheus.
    ///
    /// The socket file of a process that was killed is replaced. With port 0 the system chooses
    /// one; [`endpoint`](Self::endpoint) tells which.
    ///
    /// # Errors
    ///
    /// The system's, as when the address is in use, with the endpoint.
    pub fn start(endpoint: &Endpoint, metrics: Metrics) -> io::Result<Exporter> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{endpoint}: {error}"));
        let (listener, endpoint, file) = Listener::open(endpoint).map_err(named)?;
        let (stop, stopped) = UnixStream::pair()?;
        let answers = Arc::new(Answers { metrics, newest: Mutex::default() });
        let thread = thread::Builder::new()
            .name("metrics".to_string())
            .spawn(move || accept(&listener, &stopped, &answers))?;
        Ok(Exporter { endpoint, file, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its socket file, to be removed when the process exits without dropping the exporter.
    pub fn socket_file(&self) -> Option<SocketFile> {
        self.file.clone()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.remove();
        }
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The file of an exporter's Unix socket.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        let file = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_path_buf(), identity: (file.dev(), file.ino()) })
    }

    /// Removes the file, unless another one is at its path now.
    pub fn remove(&self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|file| (file.dev(), file.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    fn open(endpoint: &Endpoint) -> io::Result<(Listener, Endpoint, Option<SocketFile>)> {
        match endpoint {
            Endpoint::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let endpoint = Endpoint::Tcp(listener.local_addr()?);
                Ok((Listener::Tcp(listener), endpoint, None))
            }
            Endpoint::Unix(path) => {
                remove_stale(path)?;
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                // `bind` copies the mode to the file, so no one else can connect before.
                fchmod(&socket, Mode::from_raw_mode(0o660))?;
                bind(&socket, &SocketAddrUnix::new(path)?)?;
                listen(&socket, 64)?;
                let file = SocketFile::at(path)?;
                Ok((Listener::Unix(socket.into()), endpoint.clone(), Some(file)))
            }
        }
    }

    fn accept(&self) -> io::Result<Connection> {
        match self {
            Listener::Unix(listener) => listener.accept().map(|(it, _)| Connection::Unix(it)),
            Listener::Tcp(listener) => listener.accept().map(|(it, _)| Connection::Tcp(it)),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Unix(listener) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// Removes the socket file of a process that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        fs::remove_file(path)?;
    }
    Ok(())
}

enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    /// Waits until it is ready for `flags`, and fails at the deadline.
    fn wait(&self, flags: PollFlags, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let fd = match self {
            Connection::Unix(stream) => stream.as_fd(),
            Connection::Tcp(stream) => stream.as_fd(),
        };
        let timeout = left.try_into().map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&timeout)) {
            _ if left.is_zero() => Err(ErrorKind::TimedOut.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Connection::Unix(stream) => stream.set_nonblocking(true),
            Connection::Tcp(stream) => stream.set_nonblocking(true),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.read(buffer),
            Connection::Tcp(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.write(bytes),
            Connection::Tcp(stream) => stream.write(bytes),
        }
    }

    /// Reads the head of a request, up to its empty line.
    fn read_head(&mut self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + TIME_LIMIT;
        let mut head = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => head.extend_from_slice(&buffer[..length]),
                Err(error) if is_transient(&error) => self.wait(PollFlags::IN, deadline)?,
                Err(error) => return Err(error),
            }
            if head.len() > MAX_REQUEST || ends_head(&head) {
                return Ok(head);
            }
            if Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + TIME_LIMIT;
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => bytes = &bytes[length..],
                Err(error) if is_transient(&error) => self.wait(PollFlags::OUT, deadline)?,
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline && !bytes.is_empty() {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn ends_head(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// A connection's place among the [`MAX_CONNECTIONS`].
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(taken.clone());
        // The place gives itself back if it is one too many.
        (taken.fetch_add(1, Ordering::Relaxed) < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections until the other end of `stopped` is closed.
fn accept(listener: &Listener, stopped: &UnixStream, answers: &Arc<Answers>) {
    let taken = Arc::new(AtomicUsize::new(0));
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        ];
        let polled = poll(&mut ready, None);
        if !ready[0].revents().is_empty() {
            return;
        }
        let accepted = polled.map_err(io::Error::from).and_then(|_| listener.accept());
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) if is_transient(&error) => continue,
            Err(_) => {
                thread::sleep(RETRY_DELAY);
                continue;
            }
        };
        let Some(place) = Place::take(&taken) else { continue };
        let answers = answers.clone();
        // Without a thread the connection is closed.
        let _ = thread::Builder::new().name("scraper".to_string()).spawn(move || {
            let _place = place;
            let _ = answers.answer(connection);
        });
    }
}

/// What scrapers get.
struct Answers {
    metrics: Metrics,
    /// The newest figures, and when they were read.
    newest: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Answers {
    fn answer(&self, mut connection: Connection) -> io::Result<()> {
        connection.set_nonblocking()?;
        let head = connection.read_head()?;
        let answer = match Wanted::of(&head) {
            Wanted::OpenMetrics => response(
                "200 OK",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                &self.figures(),
            ),
            Wanted::Classic => response(
                "200 OK",
                "text/plain; version=0.0.4; charset=utf-8",
                &classic(&self.figures()),
            ),
            Wanted::Nothing(status) => {
                response(status, "text/plain; charset=utf-8", &format!("{status}\n"))
            }
        };
        connection.write_all(answer.as_bytes())
    }

    /// The figures, which are at most [`MAX_AGE`] old.
    fn figures(&self) -> Arc<str> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*newest {
            Some((read, figures)) if read.elapsed() < MAX_AGE => figures.clone(),
            _ => {
                let figures: Arc<str> = self.metrics.openmetrics().into();
                *newest = Some((Instant::now(), figures.clone()));
                figures
            }
        }
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    OpenMetrics,
    Classic,
    /// The status that says why there is nothing.
    Nothing(&'static str),
}

impl Wanted {
    fn of(head: &[u8]) -> Wanted {
        if head.len() > MAX_REQUEST {
            return Wanted::Nothing("431 Request Header Fields Too Large");
        }
        let Ok(head) = std::str::from_utf8(head) else {
            return Wanted::Nothing("400 Bad Request");
        };
        let mut lines = head.lines();
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, version] = words[..] else {
            return Wanted::Nothing("400 Bad Request");
        };
        if !version.starts_with("HTTP/1.") {
            return Wanted::Nothing("400 Bad Request");
        }
        if method != "GET" {
            return Wanted::Nothing("405 Method Not Allowed");
        }
        if target.split('?').next() != Some("/metrics") {
            return Wanted::Nothing("404 Not Found");
        }
        let accepted = lines.filter_map(|line| line.split_once(':'));
        let mut accepted = accepted.filter(|(name, _)| name.eq_ignore_ascii_case("accept"));
        match accepted.any(|(_, value)| value.contains("application/openmetrics-text")) {
            true => Wanted::OpenMetrics,
            false => Wanted::Classic,
        }
    }
}

fn response(status: &str, kind: &str, body: &str) -> String {
    let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_of_the_metrics_has_figures() {
        let of = |head: &str| Wanted::of(head.as_bytes());
        assert_eq!(of("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Wanted::Classic);
        assert_eq!(of("GET /metrics?a=b HTTP/1.0\n\n"), Wanted::Classic);
        let accept = "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text;q=1\r\n\r\n";
        assert_eq!(of(accept), Wanted::OpenMetrics);
        for (head, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("GET /metrics\r\n\r\n", "400"),
            ("GET /metrics SSH-2.0\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
        ] {
            assert!(
                matches!(of(head), Wanted::Nothing(found) if found.starts_with(status)),
                "{head}"
            );
        }
        let bad = Wanted::of(b"GET /\xff HTTP/1.1\r\n\r\n");
        assert_eq!(bad, Wanted::Nothing("400 Bad Request"));
        let long = vec![b'a'; MAX_REQUEST + 1];
        assert!(matches!(Wanted::of(&long), Wanted::Nothing(found) if found.starts_with("431")));
    }
}
