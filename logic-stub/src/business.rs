//! The place for what only a product's own logic knows.

use std::net::IpAddr;

use futures_util::future::{BoxFuture, ready};
use protocol::{
    Token,
    grpc::goim::logic::{ConnectReq, ReceiveReq},
};
use thiserror::Error;

/// What a product decides for itself. Every method has a default, so that an implementation says only what it wants
/// otherwise.
pub trait Business: Send + Sync + 'static {
    /// Says who a client is, where `auth.mode` is `open`. As in goim, the token is believed as it stands unless this is
    /// overridden: ask a database here, or check the cookie.
    fn authenticate<'a>(
        &'a self,
        request: &'a ConnectReq,
    ) -> BoxFuture<'a, Result<Token, Refusal>> {
        Box::pin(ready(read_token(&request.token)))
    }

    /// Takes a message from a client. The client gets its answer when this is done; on an error it is answered all the same.
    fn receive(&self, message: ReceiveReq) -> BoxFuture<'_, Result<(), tonic::Status>> {
        tracing::debug!(
            mid = message.mid,
            operation = message.proto.as_ref().map(|proto| proto.op),
            bytes = message.proto.as_ref().map(|proto| proto.body.len()),
            "a message from a client"
        );
        Box::pin(ready(Ok(())))
    }

    /// In which of the provinces of `regions` an address is; none when that is not known.
    fn province(&self, address: IpAddr) -> Option<String> {
        let _ = address;
        None
    }
}

/// goim's behaviour: tokens are believed, messages are logged, addresses are nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct GoimBusiness;

impl Business for GoimBusiness {}

/// Why a client may not come in; the client is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The token cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// The token is understood and does not admit its bearer.
    #[error("{0}")]
    Unauthenticated(String),
}

/// Reads goim's JSON token; an error names the field.
pub fn read_token(bytes: &[u8]) -> Result<Token, Refusal> {
    Token::from_json(bytes).map_err(|error| {
        Refusal::Malformed(match wrong_field(bytes) {
            Some(field) => format!("the token's {field}: {error}"),
            None => format!("the token is not a JSON object of goim's form: {error}"),
        })
    })
}

/// The field at which a token that is refused goes wrong, if it is one.
fn wrong_field(bytes: &[u8]) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let error = serde_path_to_error::deserialize::<_, Token>(&mut json).err()?;
    let path = error.path().to_string();
    (!matches!(path.as_str(), "" | "." | "?")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_names_the_field() {
        let goims = br#"{"mid":123,"key":"","room_id":"live://1000","platform":"web","accepts":[1000,1001]}"#;
        assert_eq!(read_token(goims).unwrap().room_id, "live://1000");
        for (token, part) in [
            (r#"{"mid":"x"}"#, "mid"),
            (r#"{"accepts":[1,"2"]}"#, "accepts[1]"),
            (r#"{"room_id":7}"#, "room_id"),
            (r#"{"mid":1} x"#, "trailing"),
            ("", "JSON object"),
            ("{", "JSON object"),
            ("7", "JSON object"),
            ("[]", "JSON object"),
        ] {
            let error = read_token(token.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }
}
