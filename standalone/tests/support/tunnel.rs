//! The doors behind TLS, for clients that speak none.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use common::tls::provider;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::TlsConnector;

/// Bytes that a tunnel holds of what its client does not read, in each of its two sockets: Linux doubles that.
const HELD: u32 = 32 << 10;

/// What the doors behind TLS show. Its files go with it, when the doors have read them.
pub struct Certificate {
    /// Of the certificate and of its key.
    files: [PathBuf; 2],
    der: CertificateDer<'static>,
}

impl Certificate {
    /// One for `localhost`.
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let named = |end: &str| {
            let name = format!("doors-{}-{number}.{end}", std::process::id());
            std::env::temp_dir().join(name)
        };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = [named("pem"), named("key")];
        fs::write(&files[0], made.cert.pem()).unwrap();
        fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
        let der = made.cert.der().clone();
        Self { files, der }
    }

    /// Has a comet open the doors behind TLS.
    pub fn open_doors(&self, config: &mut comet::Config) {
        let [cert_file, private_file] = self.files.each_ref().map(|file| file.to_str().unwrap());
        cert_file.clone_into(&mut config.websocket.cert_file);
        private_file.clone_into(&mut config.websocket.private_file);
        config.websocket.tls_open = true;
        config.websocket.tls_bind = vec!["127.0.0.1:0".to_owned()];
        config.tcp.tls_bind = vec!["127.0.0.1:0".to_owned()];
    }

    /// An address that leads to a door behind TLS. There is no TLS on the way to it. Must be called in a tokio runtime.
    pub fn tunnel(&self, door: SocketAddr) -> SocketAddr {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let socket = TcpSocket::new_v4().unwrap();
        // Those that it accepts have it too.
        socket.set_send_buffer_size(HELD).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let entrance = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (plain, _) = listener.accept().await.unwrap();
                tokio::spawn(lead(plain, door, connector.clone()));
            }
        });
        entrance
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        for file in &self.files {
            // Whoever looks for it next is the system.
            let _ = fs::remove_file(file);
        }
    }
}

/// Copies both ways. A connection that TLS does not end in order is reset, which clients take for a fault.
async fn lead(mut plain: TcpStream, door: SocketAddr, connector: TlsConnector) {
    let name = ServerName::try_from("localhost").unwrap();
    let copying = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(HELD)?;
        let socket = socket.connect(door).await?;
        plain.set_nodelay(true)?;
        socket.set_nodelay(true)?;
        let mut secured = connector.connect(name, socket).await?;
        copy_bidirectional(&mut plain, &mut secured).await
    };
    if copying.await.is_err() {
        plain.set_zero_linger().unwrap_or_default();
    }
}
