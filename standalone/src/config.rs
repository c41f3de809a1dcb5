//! Both services' configurations in one file: tables `comet`, `logic` and `page`.

use common::config::{Checks, Human, Spec, Validate};
use serde::{Deserialize, Serialize};

/// How the loader finds the configuration.
pub const SPEC: Spec = Spec {
    program: "comet-standalone",
    env_prefix: "STANDALONE",
    ignored: &[],
    plain_env: &[],
};

/// Everything. Unlike the services alone, every door listens on loopback: this is for trying out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// The gateway's configuration.
    pub comet: comet::Config,
    /// The logic's configuration.
    pub logic: logic_stub::Config,
    /// The page.
    pub page: Page,
}

/// The page and the push API beside it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Page {
    /// Whether others than this machine may push through the page's own port.
    pub allow_unauthenticated: bool,
}

impl Default for Config {
    fn default() -> Self {
        let mut comet = comet::Config::default();
        "standalone".clone_into(&mut comet.env.host);
        comet.tcp.bind = vec!["127.0.0.1:3101".to_owned()];
        comet.websocket.bind = vec!["127.0.0.1:3102".to_owned()];
        "127.0.0.1:3109".clone_into(&mut comet.rpc_server.addr);
        comet.monitor.addrs = vec!["127.0.0.1:3110".to_owned()];
        // The page shows the counts; telling them costs nothing within one process.
        comet.logic.renew = Human::secs(1);
        let mut logic = logic_stub::Config::default();
        "127.0.0.1:3119".clone_into(&mut logic.rpc_server.addr);
        "127.0.0.1:3111".clone_into(&mut logic.http_server.addr);
        logic.monitor.addrs = vec!["127.0.0.1:3120".to_owned()];
        Self {
            comet,
            logic,
            page: Page::default(),
        }
    }
}

impl Validate for Config {
    fn validate(&self, checks: &mut Checks) {
        checks.within("comet", |checks| self.comet.validate(checks));
        checks.within("logic", |checks| self.logic.validate(checks));
    }
}
