//! The token of a login: the body of Auth. As goim's clients send it, it is open JSON that logic believes.

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Unexpected},
};

/// Who a client says it is and what it wants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Token {
    /// The user.
    #[serde(deserialize_with = "null_is_default")]
    pub mid: i64,
    /// The connection's name; empty: logic makes one.
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    /// The room to join at once; empty: none.
    #[serde(deserialize_with = "null_is_default")]
    pub room_id: String,
    /// `web`, `ios`, ...
    #[serde(deserialize_with = "null_is_default")]
    pub platform: String,
    /// Operations that the client wants by key, by mid and when pushed to all.
    #[serde(deserialize_with = "null_is_default")]
    pub accepts: Vec<i32>,
}

impl Token {
    /// Reads a token. As in goim, fields that are absent or null are empty, and unknown ones are ignored.
    pub fn from_json(bytes: &[u8]) -> serde_json::Result<Self> {
        // serde would take an array for the fields in their order.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(serde_json::Error::invalid_type(
                Unexpected::Seq,
                &"an object",
            ));
        }
        serde_json::from_slice(bytes)
    }

    /// The JSON of this token.
    pub fn to_json(&self) -> String {
        let Self {
            mid,
            key,
            room_id,
            platform,
            accepts,
        } = self;
        serde_json::json!({
            "mid": mid, "key": key, "room_id": room_id, "platform": platform, "accepts": accepts,
        })
        .to_string()
    }
}

fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
