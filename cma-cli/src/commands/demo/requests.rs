//! The demo's requests, from devices that the map in force has rules for. Pure.

use cma_framework::config::{COMMON, Map};
use loader_demo::{REQUESTS, Request};

/// A device name and a type of memory.
type Requester = (String, Option<String>);

/// The codec among [`REQUESTS`]; the other requests are a camera's.
const CODEC: &str = "s3c-mfc5";

/// The devices that make the requests.
#[derive(Debug)]
pub(super) struct Devices {
    /// `None` for [`CODEC`] with its own types of memory.
    codec: Option<Requester>,
    camera: Requester,
}

impl Devices {
    /// A codec and a camera that `map` has rules for: of known names, or else named as its first
    /// and its last pattern.
    pub(super) fn of(map: &Map) -> Devices {
        let serves = |device: &str, kind: Option<&str>| {
            map.regions_for(device, kind.unwrap_or(COMMON)).is_some()
        };
        let known = |name: &str| (name.to_string(), None);
        let own = matching(map);
        let mut typed = REQUESTS.iter().filter(|request| request.device == CODEC);
        let codec = if typed.all(|request| serves(CODEC, request.kind)) {
            None
        } else if serves("s3c-mfc", None) {
            Some(known("s3c-mfc"))
        } else {
            Some(own.first().cloned().unwrap_or_else(|| known("s3c-mfc")))
        };
        let camera = ["s3c-fimc.0", "camera"].into_iter().find(|device| serves(device, None));
        let camera = camera.map(known).or_else(|| own.last().cloned());
        Devices { codec, camera: camera.unwrap_or_else(|| known("camera")) }
    }

    pub(super) fn requests(&self) -> Vec<Request<'_>> {
        let requests = REQUESTS.iter().map(|request| match (&self.codec, request.device) {
            (None, CODEC) => *request,
            (Some(codec), CODEC) => from(codec, request),
            _ => from(&self.camera, request),
        });
        requests.collect()
    }
}

/// `request` as `requester` makes it.
fn from<'a>((device, kind): &'a Requester, request: &Request<'a>) -> Request<'a> {
    Request { device, kind: kind.as_deref(), ..*request }
}

/// A device and a type that match it, for each pattern of the map.
fn matching(map: &Map) -> Vec<Requester> {
    let matching = |pattern: &str| pattern.trim_end_matches('*').replace('?', "x");
    let mut last = String::new();
    let mut requesters = Vec::new();
    for rule in map.rules() {
        for pattern in rule.patterns.iter() {
            if let Some(device) = pattern.device {
                last = matching(device);
            }
            let device = if last.is_empty() { "device".to_string() } else { last.clone() };
            let kind = pattern.kind.map(matching).filter(|kind| !kind.is_empty());
            requesters.push((device, kind));
        }
    }
    requesters
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::config::Platform;

    fn unserved(map: &Map) -> usize {
        let devices = Devices::of(map);
        let has_rule = |request: &Request<'_>| {
            map.regions_for(request.device, request.kind.unwrap_or(COMMON)).is_some()
        };
        devices.requests().iter().filter(|request| !has_rule(request)).count()
    }

    #[test]
    fn every_board_has_a_rule_for_each_request() {
        let boards: [&Platform; 3] = [
            &cma_platform_aquila::PLATFORM,
            &cma_platform_goni::PLATFORM,
            &cma_platform_galaxy_s2::PLATFORM,
        ];
        for board in boards {
            assert_eq!(unserved(&board.parsed_map().unwrap()), 0, "{}", board.name);
        }
    }

    #[test]
    fn every_map_with_a_rule_has_one_for_each_request() {
        for text in ["x=r", "a/b=r;/c=s", "???/q*=r", "foo*=a;bar/x=b,c", "*=r", "*/f*=r"] {
            assert_eq!(unserved(&Map::parse(text).unwrap()), 0, "{text}");
        }
    }

    #[test]
    fn an_empty_map_gets_the_same_requests() {
        assert_eq!(unserved(&Map::default()), REQUESTS.len());
    }
}
