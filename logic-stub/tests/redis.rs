//! logic-stub with a Redis that is not there: it starts, and says whose fault it is.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::net::TcpListener;

use support::{config, start};
use tonic::Code;

#[tokio::test]
async fn without_its_redis_calls_fail_and_the_process_stays() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut config = config();
    config.redis.url = format!("redis://:hush@{address}");
    let logic = start(config);
    let token = r#"{"mid":7,"key":"k","room_id":"live://1"}"#;
    for _ in 0..2 {
        let refused = logic.connect("a", token).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(
            refused.message().contains(&address.to_string()),
            "{refused}"
        );
        assert!(!refused.message().contains("hush"), "{refused}");
        let refused = logic
            .renew("a", None, &[("live://1", 1)])
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        for path in [
            "/goim/push/keys?operation=1000&keys=k",
            "/goim/push/mids?operation=1000&mids=7",
        ] {
            let answer = logic.post(path, "hello").await;
            assert_eq!(answer["code"], -500, "{answer}");
            assert!(
                answer["message"].as_str().unwrap().contains("redis"),
                "{answer}"
            );
        }
    }
}
