//! What the monitor shows beside the counters: what there is now, looked up when it is asked for.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use common::metrics::write_gauge;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use crate::logic::Logic;

/// Looks at a logic-stub, and does not keep it from ending.
#[derive(Debug)]
struct Now(Weak<Logic>);

/// Registers what is looked up at `logic`.
pub(crate) fn register(registry: &mut Registry, logic: &Arc<Logic>) {
    let now = Now(Arc::downgrade(logic));
    registry
        .sub_registry_with_prefix("logic")
        .register_collector(Box::new(now));
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(logic) = self.0.upgrade() else {
            return Ok(());
        };
        let comets = logic.comets.known().len();
        let help = "Comets that pushes go to.";
        write_gauge(&mut encoder, ("comets", None), help, comets)
    }
}
