//! The requests of drivers.

use cma_framework::PAGE_SIZE;
use cma_framework::config::Bytes;
use std::fmt;

/// A request as a device driver makes it. It names no region: the map chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The device's name, as in the map.
    pub device: &'a str,
    /// The type of memory; `None` for [`COMMON`](cma_framework::config::COMMON).
    pub kind: Option<&'a str>,
    /// The purpose of the memory. Printed, not passed on.
    pub purpose: &'a str,
    /// In bytes.
    pub size: u64,
    /// The alignment of the start in bytes; 0 for a page.
    pub alignment: u64,
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.map(|kind| format!("/{kind}")).unwrap_or_default();
        let size = Bytes(self.size.next_multiple_of(PAGE_SIZE));
        let amount = match self.alignment {
            0 => size.to_string(),
            alignment => format!("{size}/{}", Bytes(alignment)),
        };
        write!(f, "{:12} {:14} {amount:9}", format!("{}{kind}", self.device), self.purpose)
    }
}

/// The requests of a video codec and a camera, with the device names of Samsung's boards.
pub const REQUESTS: &[Request<'static>] = &[FIRMWARE, FRAME, FRAME, BITSTREAM, PREVIEW, PREVIEW];

const FIRMWARE: Request<'static> = Request {
    device: "s3c-mfc5",
    kind: Some("f"),
    purpose: "firmware",
    size: 512 << 10,
    alignment: 128 << 10,
};

/// 1920 x 1088 in NV12.
const FRAME: Request<'static> = Request {
    kind: Some("a"),
    purpose: "frame, 1080p",
    size: 3_133_440,
    alignment: 64 << 10,
    ..FIRMWARE
};

const BITSTREAM: Request<'static> =
    Request { kind: Some("b"), purpose: "bitstream", size: 1 << 20, alignment: 0, ..FIRMWARE };

/// 1280 x 720 in NV12.
const PREVIEW: Request<'static> = Request {
    device: "s3c-fimc.0",
    kind: None,
    purpose: "preview, 720p",
    size: 1_382_400,
    alignment: 64 << 10,
};
