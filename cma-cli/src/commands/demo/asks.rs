//! What the demo's devices ask for, whatever the map. Pure: a map in, requests out.

use cma_framework::config::{COMMON, Map};

const KIB: u64 = 1 << 10;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) device: String,
    pub(super) kind: Option<String>,
    pub(super) what: &'static str,
    /// In bytes, as is the alignment.
    pub(super) size: u64,
    pub(super) alignment: u64,
}

/// The devices of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asks {
    pub(super) codec: Vec<Ask>,
    pub(super) camera: Vec<Ask>,
}

/// What a codec needs: its type of memory, what for, size and alignment. The frame is 1920 x 1088
/// in NV12.
const CODEC: [(&str, &str, u64, u64); 4] = [
    ("f", "firmware", 512 * KIB, 128 * KIB),
    ("a", "frame, 1080p", 3_133_440, 64 * KIB),
    ("a", "frame, 1080p", 3_133_440, 64 * KIB),
    ("b", "bitstream", 1024 * KIB, 0),
];

/// Two preview frames of a camera, 1280 x 720 in NV12.
const CAMERA: [(&str, u64, u64); 2] =
    [("preview, 720p", 1_382_400, 64 * KIB), ("preview, 720p", 1_382_400, 64 * KIB)];

/// The requests of a codec and a camera that `map` has rules for. If it has none for any that we
/// know, its own first and last patterns say who asks.
pub(super) fn asks(map: &Map) -> Asks {
    let serves = |device: &str, kind: Option<&str>| {
        map.regions_for(device, kind.unwrap_or(COMMON)).is_some()
    };
    let own = devices(map);
    let (device, kind, typed) = if CODEC.iter().all(|(kind, ..)| serves("s3c-mfc5", Some(kind))) {
        ("s3c-mfc5", None, true)
    } else if let (false, Some((device, kind))) = (serves("s3c-mfc", None), own.first()) {
        (device.as_str(), kind.as_deref(), false)
    } else {
        ("s3c-mfc", None, false)
    };
    let codec = CODEC.map(|(its_kind, what, size, alignment)| {
        let kind = if typed { Some(its_kind) } else { kind };
        Ask { device: device.to_string(), kind: kind.map(String::from), what, size, alignment }
    });
    let known = ["s3c-fimc.0", "camera"].into_iter().find(|device| serves(device, None));
    let (device, kind) = match (known, own.last()) {
        (None, Some((device, kind))) => (device.clone(), kind.clone()),
        (known, _) => (known.unwrap_or("camera").to_string(), None),
    };
    let camera = CAMERA.map(|(what, size, alignment)| {
        let (device, kind) = (device.clone(), kind.clone());
        Ask { device, kind, what, size, alignment }
    });
    Asks { codec: codec.into(), camera: camera.into() }
}

/// A (device, type) pair for each pattern of the map, that matches it.
fn devices(map: &Map) -> Vec<(String, Option<String>)> {
    let matching = |pattern: &str| pattern.trim_end_matches('*').replace('?', "x");
    let mut last = String::new();
    let mut pairs = Vec::new();
    for rule in map.rules() {
        for pattern in rule.patterns.iter() {
            if let Some(device) = pattern.device {
                last = matching(device);
            }
            let device = if last.is_empty() { "device".to_string() } else { last.clone() };
            let kind = pattern.kind.map(matching).filter(|kind| !kind.is_empty());
            pairs.push((device, kind));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::config::Platform;

    fn unserved(map: &Map) -> Vec<Ask> {
        let Asks { codec, camera } = asks(map);
        let all = codec.into_iter().chain(camera);
        all.filter(|ask| {
            map.regions_for(&ask.device, ask.kind.as_deref().unwrap_or(COMMON)).is_none()
        })
        .collect()
    }

    #[test]
    fn every_board_has_a_rule_for_all_that_is_asked() {
        let boards: [&Platform; 3] = [
            &cma_platform_aquila::PLATFORM,
            &cma_platform_goni::PLATFORM,
            &cma_platform_galaxy_s2::PLATFORM,
        ];
        for board in boards {
            assert_eq!(unserved(&board.parsed_map().unwrap()), [], "{}", board.name);
        }
    }

    #[test]
    fn any_map_with_a_rule_is_asked_for_what_it_has() {
        for text in ["x=r", "a/b=r;/c=s", "???/q*=r", "foo*=a;bar/x=b,c", "*=r", "*/f*=r"] {
            assert_eq!(unserved(&Map::parse(text).unwrap()), [], "{text}");
        }
    }

    #[test]
    fn an_empty_map_is_asked_all_the_same() {
        assert_eq!(unserved(&Map::default()).len(), CODEC.len() + CAMERA.len());
    }
}
