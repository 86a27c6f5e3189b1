//! How much a client may have, so that what one has is there for the others.

use crate::config::{ConfigError, Mistake, split};
use cma_framework::config::parse_size;

/// How much the connections of one process, one user, and all of them together may have at once.
///
/// A connection counts for the process that *opened* it, whichever has it later: the kernel tells
/// the server nothing else. So the limits of a process keep a program from taking too much by
/// mistake. They stop nobody who has children open connections and hand them over; the limits of a
/// user do.
///
/// A chunk whose client is gone and whose memory somebody still holds counts for its user, as a
/// chunk and as a connection.
///
/// ```
/// use cma_device_server::Limits;
///
/// let limits = Limits::parse("chunks=64,bytes=1G,connections=300")?;
/// assert_eq!((limits.process.chunks, limits.process.bytes), (64, 1 << 30));
/// assert_eq!(limits.user, Limits::default().user);
/// assert!(Limits::parse("chunk=64").unwrap_err().to_string().contains("there are: chunks, bytes"));
/// # Ok::<(), cma_device_server::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the connections that one process opened: `chunks` and `bytes`. Processes that the server
    /// can't see, of another PID namespace, count as one for each user.
    pub process: Quota,
    /// For one user: `user-chunks` and `user-bytes`.
    pub user: Quota,
    /// Connections of one user: `user-connections`. Open files of the preload library don't get the
    /// last one, because questions about them need a connection.
    pub user_connections: u64,
    /// Connections in all: `connections`. A quarter of them is kept for the first four of each
    /// user, and root's first four are kept from everybody else. Each takes a descriptor, and
    /// another for the memory of its chunk; the server lets in no more than it can have
    /// (`RLIMIT_NOFILE`) when it starts.
    pub connections: u64,
}

/// What somebody may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many chunks.
    pub chunks: u64,
    /// How much memory in them, in bytes.
    pub bytes: u64,
}

/// The limits as they are written.
pub(crate) const NAMES: [&str; 6] =
    ["chunks", "bytes", "user-chunks", "user-bytes", "user-connections", "connections"];

impl Default for Limits {
    /// 1024 connections, half of them for one user, and as many chunks; bytes as the regions have
    /// them.
    fn default() -> Self {
        let quota = Quota { chunks: 512, bytes: u64::MAX };
        Limits { process: quota, user: quota, user_connections: 512, connections: 1024 }
    }
}

impl Limits {
    /// Reads limits: `name=number`, separated by commas, where a number may have a suffix. What
    /// isn't named is as by default.
    ///
    /// # Errors
    ///
    /// The first mistake with its place.
    pub fn parse(text: &str) -> Result<Limits, ConfigError> {
        let mut limits = Limits::default();
        let mut seen = [false; NAMES.len()];
        if text.trim().is_empty() {
            return Ok(limits);
        }
        for part in split(text, 0..text.len(), ',') {
            let fail = |span, mistake| Err(ConfigError::new(text, span, mistake));
            let Some(equals) = text[part.clone()].find('=').map(|n| part.start + n) else {
                return fail(part, Mistake::NoLimit);
            };
            let (name, number) = (part.start..equals, equals + 1..part.end);
            let Some(which) = NAMES.iter().position(|known| *known == text[name.clone()].trim())
            else {
                return fail(name, Mistake::UnknownLimit);
            };
            if std::mem::replace(&mut seen[which], true) {
                return fail(name, Mistake::Twice);
            }
            let value = match parse_size(&text[number.clone()]) {
                Err((mistake, length)) => {
                    return fail(number.start..number.start + length, Mistake::Number(mistake));
                }
                Ok((_, taken)) if !text[number.start + taken..number.end].trim().is_empty() => {
                    return fail(number.start + taken..number.end, Mistake::NoLimit);
                }
                Ok((0, _)) => return fail(number, Mistake::Zero),
                Ok((value, _)) => value,
            };
            *limits.by_name(which) = value;
        }
        Ok(limits)
    }

    /// No more connections than a process can serve that may have so many descriptors: two for
    /// each, and some to work with. Then one user has half of them at most.
    pub(crate) fn within(self, descriptors: u64) -> Limits {
        let connections = (descriptors.saturating_sub(64) / 2).max(2);
        if self.connections <= connections {
            return self;
        }
        Limits { connections, user_connections: self.user_connections.min(connections / 2), ..self }
    }

    fn by_name(&mut self, which: usize) -> &mut u64 {
        match which {
            0 => &mut self.process.chunks,
            1 => &mut self.process.bytes,
            2 => &mut self.user.chunks,
            3 => &mut self.user.bytes,
            4 => &mut self.user_connections,
            _ => &mut self.connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_understood_or_has_a_place(
            text in prop_oneof![".{0,30}", "((user-)?(chunks|bytes|connections)=[0-9é]{1,21}[KMx.]?,?){0,4}"],
        ) {
            if let Err(error) = Limits::parse(&text) {
                prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
                prop_assert!(error.to_string().contains(" at column "));
            }
        }
    }

    #[test]
    fn each_limit_is_its_own() {
        let text =
            "chunks=1,bytes=2K,user-chunks=3,user-bytes=4M, user-connections=5 ,connections=6"
                .to_string();
        let limits = Limits {
            process: Quota { chunks: 1, bytes: 2 << 10 },
            user: Quota { chunks: 3, bytes: 4 << 20 },
            user_connections: 5,
            connections: 6,
        };
        assert_eq!(Limits::parse(&text), Ok(limits));
        assert_eq!(Limits::parse(" "), Ok(Limits::default()));
    }

    #[test]
    fn there_are_no_more_connections_than_descriptors_for_them() {
        let limits = Limits { connections: 1000, user_connections: 900, ..Limits::default() };
        assert_eq!(limits.clone().within(2064), limits);
        let fewer = Limits { connections: 480, user_connections: 240, ..limits.clone() };
        assert_eq!(limits.clone().within(1024), fewer);
        let fewest = Limits { connections: 2, user_connections: 1, ..limits.clone() };
        assert_eq!(limits.within(10), fewest);
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, mistake, found) in [
            ("chunks", Mistake::NoLimit, "chunks"),
            ("chunks=1,", Mistake::NoLimit, ""),
            ("chunks=1,chunk=2", Mistake::UnknownLimit, "chunk"),
            ("chunks=1,chunks=2", Mistake::Twice, "chunks"),
            ("bytes=0", Mistake::Zero, "0"),
            ("bytes=1G chunks=2", Mistake::NoLimit, " chunks=2"),
        ] {
            let error = Limits::parse(text).unwrap_err();
            assert_eq!((&error.mistake, &text[error.span.clone()]), (&mistake, found), "{text}");
        }
        let error = Limits::parse("chunks=1,bytes=1Q").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a number takes one suffix at most: K, M, G, T, P or E, for powers of 1024 at column 16: \"1Q\""
        );
    }
}
