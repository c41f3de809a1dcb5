//! What a login, and a sign of life, mean for the sessions: who has the key, which other connection must go.
//!
//! # Which of two connections of one key is the older
//!
//! At one comet: the one of the lower connection id. The comet itself closes it when the newer one joins.
//!
//! At two comets: the one that the store does not have. Connect writes the newer session over the older one, so the key is
//! of whoever logged in last in the order in which the store heard of them; clocks do not matter. The older one is closed as
//! soon as logic hears of it: by the login that took its key, or, when its comet was cut off then, by the next heartbeat
//! that it tells. A heartbeat alone never takes a key from anyone. Only when the store has lost all sessions, and the older
//! connection is still there since its comet could not be told, does the first of the two that is registered again keep the
//! key; the other is closed then, so that one is left in any case.

use tonic::Status;

use crate::{
    config::PerMid,
    kick::later::Why,
    logic::Logic,
    sessions::{Holder, Registration, Renewal, Session, StoreError},
};

/// Why a client does not come in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The same comet has a newer connection of the key.
    #[error("a newer connection of {0} has the key")]
    Superseded(String),
    /// The user has as many connections as may be.
    #[error("this user has as many connections as are allowed: {0}")]
    Full(usize),
    /// Sessions cannot be kept now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Logic {
    /// Registers a session that has just begun.
    ///
    /// A comet that got no answer asks another logic-stub with the same connection. So a login whose caller has gone stays: it
    /// may be one that came in elsewhere.
    pub async fn log_in(&self, session: &Session) -> Result<(), LoginError> {
        let refuses = self.config.sessions.per_mid == PerMid::Refuse && session.mid > 0;
        if refuses {
            self.check_room(session).await?;
        }
        match self.sessions.register(session).await? {
            Registration::New | Registration::Repeated => {}
            Registration::Replaced(older) => {
                self.close_older(&session.key, &older, &session.holder);
            }
            Registration::Superseded(_) => {
                let server = session.holder.server.as_ref().to_owned();
                return Err(LoginError::Superseded(server));
            }
        }
        if refuses {
            self.check_again(session).await?;
        }
        self.later.count(session.mid);
        Ok(())
    }

    /// Renews a session; one that the store does not know is registered, as in goim: whoever lives is there. So a comet registers
    /// all of its connections again.
    pub async fn hear(&self, session: &Session) -> Result<(), StoreError> {
        match self.sessions.renew(session).await? {
            Renewal::Renewed => {}
            Renewal::Absent => {
                if let Registration::Replaced(other) = self.sessions.register(session).await? {
                    // Both were registered again at once.
                    self.close_older(&session.key, &other, &session.holder);
                }
                self.later.count(session.mid);
            }
            Renewal::Superseded => {
                let keys = std::slice::from_ref(&session.key);
                // A holder whose comet is away is not there to have the key: then nobody is closed.
                if let Some(Some(newer)) = self.sessions.holders(keys).await?.first() {
                    self.close_older(&session.key, &session.holder, newer);
                }
            }
        }
        Ok(())
    }

    /// Has the older of two connections of a key closed, if its comet does not do that by itself.
    fn close_older(&self, key: &str, older: &Holder, newer: &Holder) {
        // The same comet: see above. One of an earlier start of it has gone with its process.
        if older.server == newer.server {
            return;
        }
        tracing::debug!(key, ?older, ?newer, "a key has moved to another comet");
        match older.connection {
            Some(connection) => self
                .later
                .close(&older.server, key, connection, Why::Replaced),
            // goim's comet, which closes nobody; by the key alone, another comet might close a connection that came later.
            None => drop(self.metrics.lost_kicks("no_connection").inc()),
        }
    }

    /// Whether the user may have one more connection. One of the same key does not count: it goes.
    async fn check_room(&self, session: &Session) -> Result<(), LoginError> {
        let max = self.config.sessions.max_per_mid;
        let sessions = self.sessions.of_mids(&[session.mid]).await?;
        let others = sessions.iter().filter(|other| other.key != session.key);
        if others.count() < max {
            return Ok(());
        }
        self.metrics.refused_logins("per_mid").inc();
        Err(LoginError::Full(max))
    }

    /// Looks once more, now that others see this session too: of logins at once, the last to look sees all. Each of them may be
    /// refused then, and one too few come in; never one too many.
    async fn check_again(&self, session: &Session) -> Result<(), LoginError> {
        match self.check_room(session).await {
            Err(LoginError::Full(max)) => {
                self.sessions.remove(session).await?;
                Err(LoginError::Full(max))
            }
            Err(LoginError::Store(error)) => {
                tracing::warn!(%error, "a user's connections were not counted again");
                Ok(())
            }
            other => other,
        }
    }
}

impl From<LoginError> for Status {
    fn from(error: LoginError) -> Self {
        let text = error.to_string();
        match error {
            LoginError::Superseded(_) => Self::aborted(text),
            // The comet tells its client this text.
            LoginError::Full(_) => Self::permission_denied(text),
            LoginError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => {
                tracing::warn!(%error, "the session store is full");
                Self::resource_exhausted(error.to_string())
            }
            // The store itself says when it goes away and when it comes back.
            StoreError::Unavailable(_) => Self::unavailable(error.to_string()),
            StoreError::Refused(_) | StoreError::TooFew { .. } | StoreError::Partly(_) => {
                tracing::warn!(%error, "the session store failed");
                Self::unavailable(error.to_string())
            }
        }
    }
}
