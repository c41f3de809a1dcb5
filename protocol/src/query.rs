//! The parameters of a request to `/sub` by long-poll or Server-Sent Events: goim 1's `ver`, `op`, `seq`, `t` and `cb`, and `s`,
//! `ack` and `callback`.

use bytes::Bytes;
use thiserror::Error;

use crate::codec::Header;

/// Characters of the name that an answer is given as a script.
const MAX_NAME: usize = 64;

/// What a request asks for. Unknown parameters, such as those that keep caches away, are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// `ver`, 1 by default; `op`; and `seq`, 0 by default.
    pub header: Header,
    /// `t`: the token.
    pub token: Option<Bytes>,
    /// `s`: the session; empty for a new one. goim 1's clients have none.
    pub session: Option<String>,
    /// `ack`: the number of the last message that has arrived, 0 by default.
    pub ack: u64,
    /// `cb` or `callback`: how the answer is given.
    pub form: Form,
}

/// How an answer is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Form {
    /// JSON.
    #[default]
    Json,
    /// A script, goim 1's: `name=` and the JSON.
    Assign(String),
    /// A script, JSONP: `name(` and the JSON.
    Call(String),
}

/// A place in a session, as the `id` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The session.
    pub session: &'a str,
    /// The number of the event.
    pub number: u64,
}

impl<'a> Place<'a> {
    /// Reads `session.number` and whatever follows behind another dot.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('.');
        let (session, number) = (parts.next()?, parts.next()?);
        Some(Self {
            session,
            number: number.parse().ok()?,
        })
    }
}

/// What is wrong with a request. The client is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A parameter that was to be a number.
    #[error("parameter {0}: not a number, or out of range")]
    Number(&'static str),
    /// A parameter without which nothing is asked for.
    #[error("parameter {0}: missing")]
    Missing(&'static str),
    /// Another operation than the one that is possible.
    #[error("parameter op: {0} or nothing")]
    Operation(i32),
    /// A name that is no plain identifier.
    #[error("parameter {0}: a name of up to {max} letters, digits, _ and $, no digit first", max = MAX_NAME)]
    Name(&'static str),
    /// A parameter that came again.
    #[error("parameter {0}: given more than once, or beside another that excludes it")]
    Twice(&'static str),
    /// A token of more bytes than may be.
    #[error("parameter t: over {0} bytes")]
    Token(usize),
}

impl Query {
    /// Reads a request's query; `max_token` bounds the token in bytes. With `only`, that is the one operation that may be given,
    /// and it need not be; else there must be one.
    pub fn parse(query: &str, only: Option<i32>, max_token: usize) -> Result<Self, QueryError> {
        let mut given = Given::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let (name, place) = match &*name {
                "ver" => ("ver", &mut given.ver),
                "op" => ("op", &mut given.op),
                "seq" => ("seq", &mut given.seq),
                "t" => ("t", &mut given.token),
                "s" => ("s", &mut given.session),
                "ack" => ("ack", &mut given.ack),
                "cb" => ("cb", &mut given.assign),
                "callback" => ("callback", &mut given.call),
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(QueryError::Twice(name));
            }
        }
        given.read(only, max_token)
    }
}

/// The parameters as they came.
#[derive(Default)]
struct Given {
    ver: Option<String>,
    op: Option<String>,
    seq: Option<String>,
    token: Option<String>,
    session: Option<String>,
    ack: Option<String>,
    assign: Option<String>,
    call: Option<String>,
}

impl Given {
    fn read(self, only: Option<i32>, max_token: usize) -> Result<Query, QueryError> {
        let token = self.token.filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| token.len() > max_token) {
            return Err(QueryError::Token(max_token));
        }
        let form = match (self.assign, self.call) {
            (None, None) => Form::Json,
            (Some(name), None) => Form::Assign(checked("cb", name)?),
            (None, Some(name)) => Form::Call(checked("callback", name)?),
            (Some(_), Some(_)) => return Err(QueryError::Twice("callback")),
        };
        Ok(Query {
            header: Header {
                ver: number("ver", self.ver.as_deref(), 1)?,
                op: operation(self.op.as_deref(), only)?,
                seq: number("seq", self.seq.as_deref(), 0)?,
            },
            token: token.map(Bytes::from),
            session: self.session,
            ack: number("ack", self.ack.as_deref(), 0)?,
            form,
        })
    }
}

fn operation(text: Option<&str>, only: Option<i32>) -> Result<i32, QueryError> {
    let Some(only) = only else {
        let text = text.filter(|text| !text.is_empty());
        return number("op", Some(text.ok_or(QueryError::Missing("op"))?), 0);
    };
    let op = number("op", text, only)?;
    if op == only {
        Ok(op)
    } else {
        Err(QueryError::Operation(only))
    }
}

fn number<N: std::str::FromStr>(
    name: &'static str,
    text: Option<&str>,
    default: N,
) -> Result<N, QueryError> {
    match text {
        None | Some("") => Ok(default),
        Some(text) => text.parse().map_err(|_| QueryError::Number(name)),
    }
}

/// A name that cannot be anything but a name: an answer is a script that begins with it.
fn checked(parameter: &'static str, name: String) -> Result<String, QueryError> {
    let mut bytes = name.bytes();
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$';
    let is_plain = bytes.next().is_some_and(is_letter)
        && bytes.all(|byte| is_letter(byte) || byte.is_ascii_digit())
        && name.len() <= MAX_NAME;
    if is_plain {
        Ok(name)
    } else {
        Err(QueryError::Name(parameter))
    }
}
