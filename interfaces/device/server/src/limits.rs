//! Limits on what each client may have, so that no client exhausts the server's resources.

use crate::log;
use crate::policy::{PolicyError, PolicyErrorKind, split, trim};
use cma_framework::config::{ConfigError, parse_size, parse_time};
use rustix::process::{Resource, getrlimit};
use std::time::Duration;

/// Limits on chunks, bytes and connections: of one process, of one user, and in all; and on the
/// time that a request waits.
///
/// A connection counts for the process that *opened* it, even if another process holds it later:
/// the kernel reports only the opener. So the limits of a process protect against accidents. A
/// program can evade them with child processes that open connections for it; it can't evade the
/// limits of its user.
///
/// A chunk whose connection has ended but whose memory a process still holds counts for its user,
/// as a chunk and as a connection.
///
/// ```
/// use cma_device_server::Limits;
///
/// let limits = Limits::parse("chunks=64,bytes=1G,connections=300")?;
/// assert_eq!((limits.process.chunks, limits.process.bytes), (64, 1 << 30));
/// assert_eq!(limits.user, Limits::default().user);
/// let error = Limits::parse("chunk=64").unwrap_err();
/// assert!(error.to_string().contains("there are: chunks, bytes"));
/// # Ok::<(), cma_device_server::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the connections that one process opened: `chunks` and `bytes`. All processes of one user
    /// in PID namespaces that the server can't see count as one process.
    pub process: Quota,
    /// For one user: `user-chunks` and `user-bytes`.
    pub user: Quota,
    /// Connections of one user: `user-connections`. Open files of the preload library can't use the
    /// last one, because each call on them needs a connection of its own.
    pub user_connections: u64,
    /// Connections in all: `connections`. A quarter of them is reserved for the first four of each
    /// user, and four are reserved for root. Each connection needs a descriptor, and another one
    /// for the memory of its chunk; when the server starts, it lowers this limit to what
    /// `RLIMIT_NOFILE` allows.
    pub connections: u64,
    /// The longest time that a request may wait for room: `wait`, as in `wait=10s`. While it waits
    /// it counts as a chunk. With `wait=0s` no request may wait.
    pub wait: Duration,
}

/// The most chunks and bytes at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Number of chunks.
    pub chunks: u64,
    /// Size of all chunks together, in bytes.
    pub bytes: u64,
}

/// The names of the limits in a text.
pub(crate) const NAMES: [&str; 7] =
    ["chunks", "bytes", "user-chunks", "user-bytes", "user-connections", "connections", "wait"];

impl Default for Limits {
    /// 1024 connections, and at most half of them for one user; as many chunks as connections for
    /// a user and for a process; no limit on bytes; waits of up to a minute.
    fn default() -> Self {
        let quota = Quota { chunks: 512, bytes: u64::MAX };
        Limits {
            process: quota,
            user: quota,
            user_connections: 512,
            connections: 1024,
            wait: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// Reads limits: `name=number`, separated by commas, where a number may have a suffix, and
    /// `wait=time`. A limit that is not named has its default.
    ///
    /// # Errors
    ///
    /// The first error with its position.
    pub fn parse(text: &str) -> Result<Limits, PolicyError> {
        let mut limits = Limits::default();
        let mut seen = [false; NAMES.len()];
        if text.trim().is_empty() {
            return Ok(limits);
        }
        for part in split(text, 0..text.len(), ',') {
            let fail = |span, kind| Err(ConfigError::new(text, span, kind));
            let Some(equals) = text[part.clone()].find('=').map(|n| part.start + n) else {
                return fail(part, PolicyErrorKind::NoLimit);
            };
            let (name, number) = (part.start..equals, equals + 1..part.end);
            let Some(index) = NAMES.iter().position(|known| *known == text[name.clone()].trim())
            else {
                return fail(name, PolicyErrorKind::UnknownLimit { known: &NAMES });
            };
            if std::mem::replace(&mut seen[index], true) {
                return fail(name, PolicyErrorKind::DuplicateLimit);
            }
            let Some(place) = limits.number_mut(index) else {
                let time = trim(text, number);
                let wait = parse_time(&text[time.clone()]);
                limits.wait =
                    wait.map_err(|kind| ConfigError::new(text, time, PolicyErrorKind::Time(kind)))?;
                continue;
            };
            *place = match parse_size(&text[number.clone()]) {
                Err((kind, length)) => {
                    return fail(
                        number.start..number.start + length,
                        PolicyErrorKind::Number(kind),
                    );
                }
                Ok((_, taken)) if !text[number.start + taken..number.end].trim().is_empty() => {
                    return fail(number.start + taken..number.end, PolicyErrorKind::NoLimit);
                }
                Ok((0, _)) => return fail(number, PolicyErrorKind::Zero),
                Ok((value, _)) => value,
            };
        }
        Ok(limits)
    }

    /// These limits with no more connections than this process can serve.
    pub(crate) fn within_this_process(self) -> Limits {
        match getrlimit(Resource::Nofile).current {
            Some(descriptors) => self.within(descriptors),
            None => self,
        }
    }

    /// These limits with no more connections than a keeper can hold that has room for `room`
    /// descriptors, if it has a limit.
    pub(crate) fn within_keeper(self, room: Option<usize>) -> Limits {
        let Some(room) = room else { return self };
        let wanted = self.connections;
        let limits = self.within(room as u64);
        if limits.connections < wanted {
            log::emit(|| {
                tracing::warn!(
                    wanted,
                    connections = limits.connections,
                    room,
                    "fewer connections than the limits allow: each takes two of the descriptors \
                     that outlive the server; their number is the keeper's limit of open files \
                     (RLIMIT_NOFILE) less 64, or with systemd FileDescriptorStoreMax="
                );
            });
        }
        limits
    }

    /// These limits with no more connections than a process with `descriptors` can serve: each
    /// needs two, and some are left for the server itself. If that lowers the number of
    /// connections, one user may have half of them.
    pub(crate) fn within(self, descriptors: u64) -> Limits {
        let connections = (descriptors.saturating_sub(64) / 2).max(2);
        if self.connections <= connections {
            return self;
        }
        Limits { connections, user_connections: self.user_connections.min(connections / 2), ..self }
    }

    /// The limit whose name is `NAMES[index]`; `None` for the one that is a time.
    fn number_mut(&mut self, index: usize) -> Option<&mut u64> {
        Some(match index {
            0 => &mut self.process.chunks,
            1 => &mut self.process.bytes,
            2 => &mut self.user.chunks,
            3 => &mut self.user.bytes,
            4 => &mut self.user_connections,
            5 => &mut self.connections,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::config::TimeError;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_parses_or_has_an_error_with_a_position(
            text in prop_oneof![".{0,30}", "((user-)?(chunks|bytes|connections|wait)=[0-9é]{1,21}[KMxs.]?,?){0,4}"],
        ) {
            if let Err(error) = Limits::parse(&text) {
                prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
                prop_assert!(error.to_string().contains(" at column "));
            }
        }
    }

    #[test]
    fn each_name_sets_its_limit() {
        let text =
            "chunks=1,bytes=2K,user-chunks=3,user-bytes=4M, user-connections=5 ,connections=6, wait=1500ms "
                .to_string();
        let limits = Limits {
            process: Quota { chunks: 1, bytes: 2 << 10 },
            user: Quota { chunks: 3, bytes: 4 << 20 },
            user_connections: 5,
            connections: 6,
            wait: Duration::from_millis(1500),
        };
        assert_eq!(Limits::parse(&text), Ok(limits));
        assert_eq!(Limits::parse(" "), Ok(Limits::default()));
    }

    #[test]
    fn the_number_of_connections_is_bounded_by_the_descriptors() {
        let limits = Limits { connections: 1000, user_connections: 900, ..Limits::default() };
        assert_eq!(limits.clone().within(2064), limits);
        let fewer = Limits { connections: 480, user_connections: 240, ..limits.clone() };
        assert_eq!(limits.clone().within(1024), fewer);
        let fewest = Limits { connections: 2, user_connections: 1, ..limits.clone() };
        assert_eq!(limits.within(10), fewest);
    }

    #[test]
    fn errors_have_their_position() {
        for (text, kind, found) in [
            ("chunks", PolicyErrorKind::NoLimit, "chunks"),
            ("chunks=1,", PolicyErrorKind::NoLimit, ""),
            ("chunks=1,chunk=2", PolicyErrorKind::UnknownLimit { known: &NAMES }, "chunk"),
            ("chunks=1,chunks=2", PolicyErrorKind::DuplicateLimit, "chunks"),
            ("bytes=0", PolicyErrorKind::Zero, "0"),
            ("bytes=1G chunks=2", PolicyErrorKind::NoLimit, " chunks=2"),
            ("chunks=1, wait= 5", PolicyErrorKind::Time(TimeError::NoTime), "5"),
        ] {
            let error = Limits::parse(text).unwrap_err();
            assert_eq!((&error.kind, error.found()), (&kind, found), "{text}");
        }
        let error = Limits::parse("chunks=1,bytes=1Q").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a number has at most one suffix: K, M, G, T, P or E, for powers of 1024 at column 16: \"1Q\""
        );
    }
}
