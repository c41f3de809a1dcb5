//! The defaults: what a comet is that is told nothing. The keys' own documentation has the arithmetic.

use common::{
    config::Human,
    mutual::{ClientTls, ServerTls},
    tls::MinVersion,
};

use super::{
    Balancers, Bucket, Drain, Env, Flash, Limits, Logic, Protocol, Push, RpcClient, RpcServer,
    Subscription, Tcp, Tls, WebSocket, Whitelist,
};
use crate::channel::FullPolicy;

impl Default for Env {
    fn default() -> Self {
        Self {
            host: String::new(),
            region: "region".to_owned(),
            zone: "zone".to_owned(),
            deploy_env: "dev".to_owned(),
            addrs: vec!["127.0.0.1".to_owned()],
            grpc_address: String::new(),
            weight: 10,
            offline: false,
        }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            bind: vec![":3101".to_owned()],
            tls_bind: Vec::new(),
            sndbuf: 64 << 10,
            rcvbuf: 0,
            keepalive: false,
            backlog: 4096,
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            bind: vec![":3102".to_owned()],
            origins: vec!["*".to_owned()],
            tls_open: false,
            tls_bind: vec![":3103".to_owned()],
            cert_file: String::new(),
            private_file: String::new(),
            max_head: 8192,
            max_headers: 64,
            max_message: 16 * (4096 + 16),
            idle: Human::secs(60),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            reload: Human::secs(10),
            min_version: MinVersion::default(),
            development_certificate: false,
        }
    }
}

impl Default for Flash {
    fn default() -> Self {
        Self {
            policy_open: false,
            policy_bind: vec![":843".to_owned()],
            max_connections: 1024,
        }
    }
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            open: true,
            sessions: 65_536,
            hold: Human::secs(30),
            idle: Human::secs(60),
            heartbeat: Human::secs(25),
            retry: Human::secs(3),
            replay: 128,
            replay_bytes: 64 << 10,
        }
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            handshake_timeout: Human::secs(8),
            greeting_frames: 32,
            svr_proto: 128,
            svr_bytes: 64 << 10,
            full_policy: FullPolicy::DropNewest,
            cli_proto: 16,
            max_body: protocol::codec::DEFAULT_MAX_BODY,
            max_room: 256,
            max_accepts: 256,
            read_buf: 8192,
            sweep: Human::secs(1),
            heartbeat: Human::secs(8 * 60),
            close_timeout: Human::secs(3),
            linger_bytes: 256 << 10,
        }
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            size: 0,
            inbox: 1024,
            control: 1024,
            slice: 32,
            join_messages: 64,
            join_bytes: 32 << 10,
        }
    }
}

impl Default for RpcServer {
    fn default() -> Self {
        Self {
            addr: ":3109".to_owned(),
            token_file: String::new(),
            allow_unauthenticated: false,
            tls: ServerTls::default(),
            max_message: 16 << 20,
            max_connections: 1024,
            max_streams: 1024,
        }
    }
}

impl Default for RpcClient {
    fn default() -> Self {
        Self {
            dial: Human::secs(1),
            timeout: Human::secs(3),
            token_file: String::new(),
            tls: ClientTls::default(),
        }
    }
}

impl Default for Logic {
    fn default() -> Self {
        Self {
            addresses: vec!["127.0.0.1:3119".to_owned()],
            resolve: Human::secs(10),
            renew: Human::secs(10),
            settle: Human::secs(5),
            heartbeat_min: Human::secs(10 * 60),
            heartbeat_max: Human::secs(20 * 60),
            register_rate: 2000,
            receive_concurrency: 1,
            goodbyes: 65_536,
            goodbye_age: Human::secs(10 * 60),
        }
    }
}

impl Default for Push {
    fn default() -> Self {
        Self {
            wait: Human::secs(1),
            max_body: 1 << 20,
            max_raw: 4096,
            max_keys: 100_000,
            max_absent: 1000,
            lane: 4096,
            paced: 16,
            streams: 4096,
            remembered: 16_384,
        }
    }
}

impl Default for Whitelist {
    fn default() -> Self {
        Self {
            whitelist: Vec::new(),
            keys: Vec::new(),
            white_log: String::new(),
            max_bytes: 64 << 20,
            max: 1000,
            queue: 16_384,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            per_address: 0,
            rate: 0,
            address_rate: 0,
            network_bits: 64,
            addresses: 65_536,
            refusals: 256,
            operations: 10_000,
            bytes: 16 << 20,
            write_timeout: Human::secs(5 * 60),
            rooms: 1_000_000,
        }
    }
}

impl Default for Balancers {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            proxy_protocol: false,
            forwarded_for: false,
            max_header: 1024,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            wait: Human::secs(0),
            over: Human::secs(10),
            reconnect_over: Human::secs(30),
        }
    }
}
