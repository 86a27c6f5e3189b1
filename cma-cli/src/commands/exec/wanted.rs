//! The text of a chunk: its name, its requester and the request. Pure.

use crate::commands::shell::statement::{ParseError, Requester, device_and_type};
use cma_framework::ChunkRequest;
use cma_framework::config::{ConfigError, RequestSyntax};

/// A chunk that the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) requester: Requester,
    pub(super) request: ChunkRequest,
}

/// Why a text is no chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkFault {
    #[error("expected a chunk, as in ram=vm/64M/2M")]
    NoName,
    #[error("the name of a chunk has letters of ASCII, digits, _ and -, and starts with a letter")]
    Name,
    #[error("expected a device and a size, as in ram=vm/64M")]
    NoSize,
    #[error("expected regions, as in ram=@b1,b2/64M")]
    NoRegions,
    #[error(transparent)]
    Requester(ParseError),
    #[error(transparent)]
    Request(RequestSyntax),
}

/// Reads `<name>=<device>[/<type>]/<size>[/<align>] [<limits>]`, with `@<regions>` in place of
/// device and type.
pub(super) fn parse(text: &str) -> Result<Wanted, ConfigError<ChunkFault>> {
    let error = |from: usize, to: usize, fault| ConfigError::new(text, from..to, fault);
    let Some((name, rest)) = text.split_once('=') else {
        return Err(error(0, text.len(), ChunkFault::NoName));
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
    if !is_name {
        return Err(error(0, name.len(), ChunkFault::Name));
    }
    let from = name.len() + 1;
    let target = target_of(rest).ok_or_else(|| error(from, text.len(), ChunkFault::NoSize))?;
    let requester = match target.strip_prefix('@') {
        Some("") => return Err(error(from, from + 1, ChunkFault::NoRegions)),
        None if target.is_empty() => return Err(error(from, from, ChunkFault::NoSize)),
        Some(regions) => Requester::Regions(regions.to_string()),
        None => device_and_type(target)
            .map_err(|fault| error(from, from + target.len(), ChunkFault::Requester(fault)))?,
    };
    let before = from + target.len() + 1;
    let request =
        ChunkRequest::parse(&text[before..]).map_err(|ConfigError { kind, span, .. }| {
            error(before + span.start, before + span.end, ChunkFault::Request(kind))
        })?;
    Ok(Wanted { name: name.to_string(), requester, request })
}

/// The part before the `/` behind which the size stands: a device with a type or without, or
/// regions.
fn target_of(text: &str) -> Option<&str> {
    let first = text.find('/')?;
    let behind = &text[first + 1..];
    let is_size = text.starts_with('@') || behind.starts_with(|c: char| c.is_ascii_digit());
    match behind.find('/') {
        Some(second) if !is_size => Some(&text[..first + 1 + second]),
        _ => Some(&text[..first]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::config::Bytes;

    fn device(device: &str, kind: Option<&str>) -> Requester {
        Requester::Device { device: device.to_string(), kind: kind.map(String::from) }
    }

    #[test]
    fn a_chunk_has_a_name_a_requester_and_a_request() {
        let wanted = |text: &str| parse(text).unwrap();
        let plain = ChunkRequest::new(Bytes::mib(64));
        for (text, requester, request) in [
            ("ram=vm/64M", device("vm", None), plain),
            ("ram=vm/64M/2M", device("vm", None), plain.aligned(Bytes::mib(2))),
            ("ram=vm/frame/64M", device("vm", Some("frame")), plain),
            ("ram=vm/frame/64M/2M", device("vm", Some("frame")), plain.aligned(Bytes::mib(2))),
            ("ram=vm.0/0x4000000", device("vm.0", None), plain),
            ("ram=@b1,b2|c/64M", Requester::Regions("b1,b2|c".to_string()), plain),
            ("ram=vm/64M boundary=128M", device("vm", None), plain.boundary(Bytes::mib(128))),
        ] {
            let name = "ram".to_string();
            assert_eq!(wanted(text), Wanted { name, requester, request }, "{text}");
        }
    }

    #[test]
    fn an_error_is_where_the_fault_is() {
        for (text, found, words) in [
            ("ram", "ram", "expected a chunk, as in ram=vm/64M/2M"),
            ("=vm/64M", "", "starts with a letter"),
            ("0=vm/64M", "0", "starts with a letter"),
            ("a.b=vm/64M", "a.b", "letters of ASCII"),
            ("ram=64M", "64M", "a device and a size"),
            ("ram=@/64M", "@", "expected regions"),
            ("ram=/64M", "", "a device and a size, as in ram=vm/64M"),
            ("ram=v*/64M", "v*", "wildcards"),
            ("ram=vm/64M/3", "3", "power of two"),
            ("ram=vm/64M colour=red", "colour=red", "expected a limit"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.found(), found, "{text}: {}", error.kind);
            assert!(error.kind.to_string().contains(words), "{text}: {}", error.kind);
        }
    }
}
