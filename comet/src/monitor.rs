//! What the monitor shows beside the counters: what there is now, looked up when it is asked for.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use common::metrics::write_gauge;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use tokio::sync::mpsc::Sender;

use crate::gateway::Gateway;

/// Looks at a gateway, and does not keep it from ending.
#[derive(Debug)]
struct Now(Weak<Gateway>);

/// Registers what is looked up at `gateway`.
pub(crate) fn register(registry: &mut Registry, gateway: &Arc<Gateway>) {
    let now = Now(Arc::downgrade(gateway));
    registry
        .sub_registry_with_prefix("comet")
        .register_collector(Box::new(now));
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(gateway) = self.0.upgrade() else {
            return Ok(());
        };
        let (online, addresses) = gateway.addresses.counts();
        let mut gauge =
            |name, help, value: usize| write_gauge(&mut encoder, (name, None), help, value);
        gauge("online", "Connections that have logged in.", size(online))?;
        let help = "Addresses that they come from.";
        gauge("client_addresses", help, size(addresses))?;
        let help = "Rooms with someone here.";
        gauge("rooms", help, gateway.rooms.len())?;
        let help = "Connections whose steps are noted.";
        let noted = gateway.channels.whitelist.connections();
        gauge("whitelist_connections", help, noted)?;
        let help = "Disconnects that logic is yet to be told of.";
        gauge("goodbyes_waiting", help, gateway.goodbyes.waiting())?;
        inboxes(&gateway, &mut encoder)
    }
}

/// What waits in each inbox of each bucket.
fn inboxes(gateway: &Gateway, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Messages in an inbox of a bucket: control, keys or fanouts.";
    let mut encoder = encoder.encode_descriptor("inbox_depth", help, None, MetricType::Gauge)?;
    for (index, bucket) in gateway.buckets.all().iter().enumerate() {
        let bucket_label = index.to_string();
        for (inbox, depth) in [
            ("control", depth(&bucket.control)),
            ("keys", depth(&bucket.singles)),
            ("fanouts", depth(&bucket.fanouts)),
        ] {
            let labels = [("bucket", bucket_label.as_str()), ("inbox", inbox)];
            ConstGauge::new(depth).encode(encoder.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn depth<T>(inbox: &Sender<T>) -> usize {
    inbox.max_capacity() - inbox.capacity()
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
