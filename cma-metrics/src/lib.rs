//! The figures of a running framework for a monitoring system, as [OpenMetrics] text over HTTP.
//!
//! [`Metrics`] observes a framework and writes its figures. [`Exporter`] answers scrapers, at a
//! Unix socket or at a TCP port of the loopback interface. A framework without
//! `Metrics` pays nothing.
//!
//! # Families
//!
//! | family | type | labels | is |
//! | --- | --- | --- | --- |
//! | `cma_region_size_bytes` | gauge | region | size |
//! | `cma_region_free_bytes` | gauge | region | free space |
//! | `cma_region_largest_free_range_bytes` | gauge | region | largest free range, by the books |
//! | `cma_region_live_chunks` | gauge | region | chunks that are live |
//! | `cma_region_set_aside_bytes` | gauge | region | memory that is booked for nobody |
//! | `cma_region_waiting_requests` | gauge | region | requests that wait for it |
//! | `cma_region_stuck` | gauge | region | 1 while its allocator doesn't return from a call, else 0 |
//! | `cma_region_requests_total` | counter | region, outcome | requests that it `served` and `refused` |
//! | `cma_region_refusals_total` | counter | region, reason | its refusals since the observation began |
//! | `cma_request_failures_total` | counter | reason | requests that failed and that no region refused last |
//! | `cma_request_duration_seconds` | histogram | region, outcome | see below |
//! | `cma_device_bytes` | gauge | device | bytes of the live chunks of a device; see below |
//! | `cma_observer_missed_events_total` | counter | | events that the observer missed |
//! | `cma_server_restarts_total` | counter | | starts of the host that took over what the one before held |
//! | `cma_build_info` | info | version | the host's version |
//! | `process_start_time_seconds` | gauge | | when the host started, in Unix time |
//!
//! A region without a name has its range as its label. While a region is stuck its books can't be
//! read, so its other gauges and `cma_region_requests_total` are absent. The figures of a region's
//! books are exact. Those that come from events lack what `cma_observer_missed_events_total`
//! counts.
//! A region that was unregistered has no figures any more.
//! Each start of the host changes `process_start_time_seconds`. One that takes over regions and
//! chunks of the host before also adds one to `cma_server_restarts_total`.
//!
//! **`cma_request_duration_seconds`** is the time from a request to its end within the framework:
//! until its chunk is booked (`served`), until the last region or the framework refuses it
//! (`refused`), or until its owner gives it up (`given_up`). It includes the wait of a request that
//! waits for room. It does not include what happens before and after in a front end: the transport
//! of messages, and the making and clearing of the chunk's memory. `region` is the region that
//! served the request or refused it last, and is empty if there was none.
//!
//! **`cma_device_bytes`** has the largest [`MAX_DEVICES`] devices and `other` for the rest, because
//! clients can invent names. A device with a place keeps it for an hour at least, also when it has
//! no chunk. After that a device without one that has more bytes takes it. A request that named
//! regions counts as `other`, and so does memory that is set aside.
//!
//! [OpenMetrics]: https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md

#![forbid(unsafe_code)]

mod devices;
mod endpoint;
mod exporter;
mod metrics;
mod text;

pub use devices::MAX_DEVICES;
pub use endpoint::{Endpoint, EndpointError};
pub use exporter::{Exporter, SocketFile};
pub use metrics::{Host, Metrics};
