//! The names of the descriptors that a keeper has for the server.

use cma_keeper::Name;

/// What a stored descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stored {
    /// A journal. The highest number is the newest.
    Journal(u32),
    Listener,
    Connection(u64),
    /// Memory of the chunk that starts there: its file of that number, counted from 0.
    Chunk(u64, usize),
    /// Memory of the region that starts there, likewise.
    Home(u64, usize),
}

impl Stored {
    /// The text of its name.
    fn text(self) -> String {
        let numbered = |kind: &str, start: u64, file: usize| match file {
            0 => format!("{kind}-{start:x}"),
            file => format!("{kind}-{start:x}.{file}"),
        };
        match self {
            Stored::Journal(number) => format!("journal-{number}"),
            Stored::Listener => "listener".to_string(),
            Stored::Connection(number) => format!("connection-{number}"),
            Stored::Chunk(start, file) => numbered("chunk", start, file),
            Stored::Home(start, file) => numbered("home", start, file),
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> Name {
        // Every text above consists of permitted characters.
        Name::new(self.text()).unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// What has that name; `None` for a name that the server doesn't give.
    pub(crate) fn of(name: &Name) -> Option<Stored> {
        let (kind, rest) = name.as_str().split_once('-').unwrap_or((name.as_str(), ""));
        let of_memory = || {
            let (start, file) = rest.split_once('.').unwrap_or((rest, "0"));
            Some((u64::from_str_radix(start, 16).ok()?, file.parse().ok()?))
        };
        let stored = match kind {
            "journal" => Stored::Journal(rest.parse().ok()?),
            "listener" => Stored::Listener,
            "connection" => Stored::Connection(rest.parse().ok()?),
            "chunk" => of_memory().map(|(start, file)| Stored::Chunk(start, file))?,
            "home" => of_memory().map(|(start, file)| Stored::Home(start, file))?,
            _ => return None,
        };
        // Each has one name: another spelling of a number is none.
        (stored.text() == name.as_str()).then_some(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_descriptor_has_one_name() {
        for (stored, name) in [
            (Stored::Journal(2), "journal-2"),
            (Stored::Listener, "listener"),
            (Stored::Connection(17), "connection-17"),
            (Stored::Chunk(0x4000_0000, 0), "chunk-40000000"),
            (Stored::Chunk(0x4000_0000, 3), "chunk-40000000.3"),
            (Stored::Home(0x8000_0000, 1), "home-80000000.1"),
        ] {
            assert_eq!(stored.name().as_str(), name);
            assert_eq!(Stored::of(&stored.name()), Some(stored));
        }
        for other in ["journal", "journal-02", "listener-1", "chunk-4G", "chunk-A", "chunk-1.0"] {
            assert_eq!(Stored::of(&Name::new(other).unwrap()), None, "{other}");
        }
    }
}
