//! Files of certificates are looked at now and then, and at once when SIGHUP comes. What is new and good counts for the
//! handshakes from then on; connections stay as they are.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Certificates, Pair, PairError, PairFiles};
use crate::follow::{Hangup, Looks};

/// How soon a file that has changed is looked at again. It is read when two looks in turn have seen the same, so that one that
/// is being written is not.
const SETTLE: Duration = Duration::from_secs(1);

/// What became of a pair whose files have changed, or that was to be read again.
#[derive(Debug)]
pub enum Reload {
    /// The new one counts.
    Taken(Arc<Pair>),
    /// The old one stays.
    Refused(PairError),
}

impl Certificates {
    /// Follows the files for ever: every `every`, and at once on SIGHUP, which is caught from the moment this returns. `told` is
    /// called for each pair that was taken or refused, after the log. For a development certificate there is nothing to do.
    ///
    /// Must be called within a tokio runtime.
    pub fn follow(
        self: Arc<Self>,
        every: Duration,
        told: impl FnMut(&Reload) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let hangup = (!self.files.is_empty()).then(Hangup::catch);
        async move {
            if let Some(hangup) = hangup {
                follow(self, every, hangup, told).await;
            }
        }
    }
}

async fn follow(
    certificates: Arc<Certificates>,
    every: Duration,
    mut hangup: Hangup,
    mut told: impl FnMut(&Reload),
) {
    let mut follower = Follower::new(certificates);
    loop {
        let pause = if follower.is_unsettled() {
            every.min(SETTLE)
        } else {
            every
        };
        let is_asked = tokio::select! {
            () = sleep(pause) => false,
            () = hangup.comes() => true,
        };
        let looking = tokio::task::spawn_blocking(move || {
            let reloads = follower.look(is_asked);
            (follower, reloads)
        });
        let Ok((back, reloads)) = looking.await else {
            // The runtime ends.
            return;
        };
        follower = back;
        if is_asked {
            tracing::info!("certificates were read again, as SIGHUP asks");
        }
        for reload in &reloads {
            log(reload);
            told(reload);
        }
    }
}

/// What the looks so far have seen.
#[derive(Debug)]
pub(super) struct Follower {
    certificates: Arc<Certificates>,
    /// Of each pair, by its fingerprint.
    looks: Vec<Looks<u64>>,
}

impl Follower {
    pub(super) fn new(certificates: Arc<Certificates>) -> Self {
        let looks = certificates.files.iter().map(|_| Looks::default());
        Self {
            looks: looks.collect(),
            certificates,
        }
    }

    /// Whether something was seen that the next look may confirm.
    pub(super) fn is_unsettled(&self) -> bool {
        self.looks.iter().any(Looks::is_unsettled)
    }

    /// Reads all files; what has changed and stayed so since the last look is put in its place. With `is_asked`, everything that
    /// has changed is, and what is refused is told again.
    pub(super) fn look(&mut self, is_asked: bool) -> Vec<Reload> {
        let mut pairs = self.certificates.pairs().to_vec();
        let slots = pairs.iter_mut().zip(&self.certificates.files);
        let reloads: Vec<Reload> = slots
            .zip(&mut self.looks)
            .filter_map(|((pair, files), looks)| look(looks, pair, files, is_asked))
            .collect();
        if reloads
            .iter()
            .any(|reload| matches!(reload, Reload::Taken(_)))
        {
            self.certificates.pairs.store(Arc::new(pairs));
        }
        reloads
    }
}

fn look(
    looks: &mut Looks<u64>,
    pair: &mut Arc<Pair>,
    files: &PairFiles,
    is_asked: bool,
) -> Option<Reload> {
    let contents = files.read();
    let seen = match &contents {
        Ok(contents) => Ok(contents.fingerprint()),
        Err(error) => Err(error.to_string()),
    };
    if !looks.is_due(seen, &pair.fingerprint, is_asked) {
        return None;
    }
    match contents.and_then(|contents| renewed(files, &contents)) {
        Ok(new) => {
            *pair = Arc::new(new);
            looks.take();
            Some(Reload::Taken(Arc::clone(pair)))
        }
        Err(error) => {
            looks.refuse();
            Some(Reload::Refused(error))
        }
    }
}

/// A new pair that is no worse than what may stay in its place.
fn renewed(files: &PairFiles, contents: &super::pair::Contents) -> Result<Pair, PairError> {
    let pair = Pair::parse(files, contents)?;
    if pair.has_ended() {
        return Err(PairError::Ended {
            file: files.certificate.clone(),
        });
    }
    Ok(pair)
}

fn log(reload: &Reload) {
    match reload {
        Reload::Taken(pair) => {
            tracing::info!(
                file = pair.name(),
                subject = pair.subject(),
                ends = pair.ends(),
                "a new certificate counts for connections from now on"
            );
        }
        Reload::Refused(error) => {
            tracing::error!(%error, "a new certificate cannot be used: the old one stays");
        }
    }
}
