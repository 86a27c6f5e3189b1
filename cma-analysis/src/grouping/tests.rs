use super::*;

/// A camera with two types, a codec and a display, of which the camera's chunks are freed.
fn trace() -> Trace {
    let mut recording = Recording::new("three devices");
    let frame = recording.allocate(1, 8192, 4096, "camera/frame").unwrap();
    recording.allocate(2, 4096, 1, "codec").unwrap();
    let limited = cma_framework::ChunkRequest::parse("4K/1 below=4G").unwrap();
    let small = recording.allocate_limited(3, &limited, "camera/stats").unwrap();
    recording.allocate(3, 12288, 1, "display/frame").unwrap();
    recording.free(5, small).unwrap();
    recording.free(5, frame).unwrap();
    recording.finish()
}

fn written(groups: &[Group<'_>]) -> Vec<(Option<String>, Vec<String>)> {
    let operations = |trace: &Trace| {
        let mut text = Vec::new();
        trace.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().skip(3).map(String::from).collect()
    };
    groups.iter().map(|group| (group.name.clone(), operations(&group.trace))).collect()
}

#[test]
fn a_shared_region_serves_the_whole_trace() {
    let trace = trace();
    let groups = Grouping::Shared.split(&trace).unwrap();
    assert_eq!(groups, [Group { name: None, trace: Cow::Borrowed(&trace) }]);
}

#[test]
fn every_device_has_its_operations_with_their_times_and_limits() {
    assert_eq!(
        written(&Grouping::PerDevice.split(&trace()).unwrap()),
        [
            (
                Some("camera".to_string()),
                vec![
                    "1 a 1 8192 4096 camera/frame".to_string(),
                    "3 a 2 4096 1 camera/stats below=4G".to_string(),
                    "5 f 2".to_string(),
                    "5 f 1".to_string(),
                ]
            ),
            (Some("codec".to_string()), vec!["2 a 1 4096 1 codec".to_string()]),
            (Some("display".to_string()), vec!["3 a 1 12288 1 display/frame".to_string()]),
        ]
    );
}

#[test]
fn a_map_sends_each_request_to_the_first_region_of_its_rule() {
    let map = Map::parse("*/frame=video|spare,rest;codec/common=small,rest;*=rest").unwrap();
    let trace = trace();
    let groups = Grouping::Map(map).split(&trace).unwrap();
    let names: Vec<_> = groups.iter().map(|group| group.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["video", "small", "rest"]);
    let requesters = |group: &Group<'_>| -> Vec<String> {
        group.trace.requesters().iter().map(ToString::to_string).collect()
    };
    assert_eq!(requesters(&groups[0]), ["camera/frame", "display/frame"]);
    assert_eq!(requesters(&groups[1]), ["codec"]);
    assert_eq!(requesters(&groups[2]), ["camera/stats"]);
}

#[test]
fn a_requester_without_a_rule_is_named() {
    let map = Map::parse("camera=video;display=video").unwrap();
    let unmatched = Grouping::Map(map).split(&trace()).unwrap_err();
    assert_eq!(unmatched.to_string(), "no rule of the map matches codec");
}

#[test]
fn a_request_that_names_regions_belongs_to_the_first_of_them() {
    let mut recording = Recording::new("named regions");
    recording.allocate(0, 4096, 1, "camera from=fw,rest").unwrap();
    let request = cma_framework::ChunkRequest::parse("4K/1").unwrap();
    recording.refuse(1, &request, "camera").unwrap();
    let trace = recording.finish();
    let groups = Grouping::Map(Map::parse("camera=video").unwrap()).split(&trace).unwrap();
    assert_eq!(
        written(&groups),
        [
            (Some("fw".to_string()), vec!["0 a 1 4096 1 camera from=fw,rest".to_string()]),
            (Some("video".to_string()), vec!["1 r 1 4096 1 camera".to_string()]),
        ]
    );
}
