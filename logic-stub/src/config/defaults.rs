//! The value of each key that nobody sets; why, say the keys themselves.

use common::{
    config::Human,
    mutual::{ClientTls, ServerTls},
};

use super::{
    Backoff, Bounds, Comets, FixedComet, HttpServer, Kick, Lanes, Node, PerMid, RpcClient,
    RpcServer, Sessions, Shutdown,
};

impl Default for RpcServer {
    fn default() -> Self {
        Self {
            addr: ":3119".to_owned(),
            token_file: String::new(),
            allow_unauthenticated: false,
            tls: ServerTls::default(),
            timeout: Human::secs(5),
            keep_alive_interval: Human::secs(60),
            keep_alive_timeout: Human::secs(20),
            max_streams: 1_024,
            max_connections: 1_024,
            max_message: 16 << 20,
        }
    }
}

impl Default for RpcClient {
    fn default() -> Self {
        Self {
            token_file: String::new(),
            tls: ClientTls::default(),
            dial: Human::secs(1),
            timeout: Human::secs(5),
            keep_alive_interval: Human::secs(10),
            keep_alive_timeout: Human::secs(3),
            max_message: 16 << 20,
            keys_per_call: 10_000,
        }
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            messages: 65_536,
            bytes: 64 << 20,
            batch_messages: 512,
            batch_bytes: 1 << 20,
            window: 16,
            calls: 32,
            merge: 20,
            retry: Human::secs(10),
            reconnect: Human::secs(1),
            report: Human::secs(3),
            report_keys: 1_000,
        }
    }
}

impl Default for Kick {
    fn default() -> Self {
        Self {
            timeout: Human::secs(3),
            retry: Human::secs(60),
            settle: Human::secs(8),
            waiting: 65_536,
        }
    }
}

impl Default for HttpServer {
    fn default() -> Self {
        Self {
            addr: ":3111".to_owned(),
            token_file: String::new(),
            allow_unauthenticated: false,
            read_timeout: Human::secs(30),
            write_timeout: Human::secs(5),
            max_body: 64 << 10,
            max_head: 80 << 10,
            max_values: 10_000,
            max_connections: 1_024,
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            default_domain: "127.0.0.1".to_owned(),
            host_domain: String::new(),
            heartbeat: Human::secs(4 * 60),
            heartbeat_max: 2,
            tcp_port: 3101,
            ws_port: 3102,
            wss_port: 3103,
            region_weight: 1.6,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            max_delay: 300,
            base_delay: 3,
            factor: 1.8,
            jitter: 0.3,
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            expire: Human::secs(30 * 60),
            max: 1_000_000,
            lease: Human::secs(30),
            sweep: Human::secs(60),
            per_mid: PerMid::Unlimited,
            max_per_mid: 1,
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            token: 4_096,
            key: 256,
            room: 256,
            platform: 64,
            server: 256,
            accepts: 1_024,
            rooms: 400_000,
        }
    }
}

impl Default for Comets {
    fn default() -> Self {
        Self {
            fixed: Vec::new(),
            refresh: Human::secs(1),
            cut_off: Human::secs(300),
            max: 1_024,
        }
    }
}

impl Default for FixedComet {
    fn default() -> Self {
        Self {
            server: String::new(),
            grpc_address: String::new(),
            addrs: Vec::new(),
            region: String::new(),
            zone: String::new(),
            env: String::new(),
            weight: 10,
            offline: false,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            grace: Human::secs(10),
        }
    }
}
