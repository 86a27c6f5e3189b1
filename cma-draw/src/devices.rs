//! Which device has which colour.

use crate::colour::{Colour, DEVICES, OTHERS};
use cma_trace::{Action, Trace};
use std::collections::{BTreeMap, HashMap};

/// The colours of devices: the largest have one each, the others share one.
#[derive(Clone, Debug)]
pub(crate) struct DeviceColours {
    largest: Vec<String>,
    others: Vec<String>,
    colour_of: HashMap<String, Colour>,
}

impl DeviceColours {
    /// Gives out the colours by weight, and by name among equals.
    pub(crate) fn by_weight<'d>(weights: impl IntoIterator<Item = (&'d str, u128)>) -> Self {
        let mut sums: BTreeMap<&str, u128> = BTreeMap::new();
        for (device, weight) in weights {
            let sum = sums.entry(device).or_default();
            *sum = sum.saturating_add(weight);
        }
        let mut devices: Vec<(&str, u128)> = sums.into_iter().collect();
        devices.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let names: Vec<String> = devices.into_iter().map(|(name, _)| name.to_string()).collect();
        let own = names.len().min(DEVICES.len());
        let (largest, others) = (names[..own].to_vec(), names[own..].to_vec());
        let colour_of = largest.iter().cloned().zip(DEVICES).collect();
        DeviceColours { largest, others, colour_of }
    }

    /// Those of a trace. A device's weight is the sum of bytes and time of its requests, whichever
    /// of them an allocator serves, so that the colours of several allocators agree.
    pub(crate) fn of_trace(trace: &Trace) -> Self {
        let operations = trace.operations();
        let end = operations.last().map_or(0, |last| last.time_us);
        let requesters = trace.requesters();
        let mut weights = vec![0_u128; requesters.len()];
        // By the chunk's number: its requester, size and time.
        let mut requests: Vec<(usize, u64, u64)> = Vec::new();
        let mut is_freed: Vec<bool> = Vec::new();
        let mut weigh = |(requester, size, from): (usize, u64, u64), until: u64| {
            let lived = u128::from(until - from) + 1;
            weights[requester] = weights[requester].saturating_add(u128::from(size) * lived);
        };
        for operation in operations {
            match operation.action {
                Action::Allocate { size, requester, .. } => {
                    requests.push((usize::from(requester), size, operation.time_us));
                    is_freed.push(false);
                }
                Action::Free { chunk } => {
                    is_freed[chunk as usize] = true;
                    weigh(requests[chunk as usize], operation.time_us);
                }
                Action::Refused { .. } => {}
            }
        }
        for (request, is_freed) in requests.into_iter().zip(is_freed) {
            if !is_freed {
                weigh(request, end);
            }
        }
        let names = requesters.iter().map(|requester| requester.device.as_str());
        Self::by_weight(names.zip(weights))
    }

    pub(crate) fn colour(&self, device: &str) -> Colour {
        self.colour_of.get(device).copied().unwrap_or(OTHERS)
    }

    /// The entries of a legend.
    pub(crate) fn legend(&self) -> impl Iterator<Item = (Colour, String)> + '_ {
        let others = match self.others.as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            others => Some(format!("{} other devices", others.len())),
        };
        let own = self.largest.iter().zip(DEVICES).map(|(name, colour)| (colour, name.clone()));
        own.chain(others.map(|name| (OTHERS, name)))
    }
}
