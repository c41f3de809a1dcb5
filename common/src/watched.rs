//! Files that are read again when they change, such as those of tokens and keys: what they say counts without a restart.
//!
//! A file is looked at every [`EVERY`]. What is new in it is taken when two looks in turn have seen the same, so that a file
//! in the middle of being written is not. A new content that cannot be taken, and a file that is gone, change nothing: the
//! last good content stays, and the log says so.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;

/// How often a file is looked at.
pub const EVERY: Duration = Duration::from_secs(1);

/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// What a file says now.
#[derive(Debug)]
pub struct Watched<T> {
    current: Arc<ArcSwap<T>>,
    _looking: AbortOnDropHandle<()>,
}

/// Why a file cannot be used at the start; the operator is at fault.
#[derive(Debug, Error)]
#[error("{path}: {why}")]
pub struct WatchError {
    path: String,
    why: String,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the file, and goes on looking at it every [`EVERY`] until this is dropped. `parse` says in words what is wrong
    /// with a content. Must be called in a tokio runtime; the first read blocks.
    pub fn start(
        path: &Path,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + 'static,
    ) -> Result<Self, WatchError> {
        Self::start_every(path, EVERY, parse)
    }

    /// The same with another time between two looks.
    pub fn start_every(
        path: &Path,
        every: Duration,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + 'static,
    ) -> Result<Self, WatchError> {
        let wrong = |why| WatchError {
            path: path.display().to_string(),
            why,
        };
        let content = read(path).map_err(wrong)?;
        let first = parse(&content).map_err(wrong)?;
        let current = Arc::new(ArcSwap::from_pointee(first));
        let looking = look_again(
            path.to_owned(),
            every,
            Follower::new(content, parse),
            Arc::clone(&current),
        );
        Ok(Self {
            current,
            _looking: AbortOnDropHandle::new(tokio::spawn(looking)),
        })
    }

    /// The last good content.
    pub fn get(&self) -> Guard<Arc<T>> {
        self.current.load()
    }
}

async fn look_again<T, P>(
    path: PathBuf,
    every: Duration,
    mut follower: Follower<P>,
    current: Arc<ArcSwap<T>>,
) where
    P: Fn(&[u8]) -> Result<T, String>,
{
    loop {
        tokio::time::sleep(every).await;
        let file = path.clone();
        let seen = tokio::task::spawn_blocking(move || read(&file)).await;
        let seen = seen.unwrap_or_else(|error| Err(error.to_string()));
        match follower.look(seen) {
            Look::Nothing => {}
            Look::Take(value) => {
                current.store(Arc::new(value));
                tracing::info!(file = %path.display(), "a file has changed and was read again");
            }
            Look::Complain(why) => {
                tracing::error!(file = %path.display(), %why, "a file has changed and cannot be used: what it said before stays");
            }
        }
    }
}

/// What is to be done after a look.
#[derive(Debug, PartialEq, Eq)]
enum Look<T> {
    Nothing,
    Take(T),
    Complain(String),
}

/// What the looks so far have seen.
struct Follower<P> {
    parse: P,
    /// The content that counts.
    taken: Vec<u8>,
    /// What the last look saw, if it was something else, and whether that cannot be taken.
    last: Option<(Vec<u8>, bool)>,
    /// What was complained of and is still so.
    complaint: Option<String>,
}

impl<P> Follower<P> {
    fn new(taken: Vec<u8>, parse: P) -> Self {
        Self {
            parse,
            taken,
            last: None,
            complaint: None,
        }
    }

    fn look<T>(&mut self, seen: Result<Vec<u8>, String>) -> Look<T>
    where
        P: Fn(&[u8]) -> Result<T, String>,
    {
        let content = match seen {
            Ok(content) => content,
            Err(why) => return self.complain(why),
        };
        if content == self.taken {
            self.last = None;
            self.complaint = None;
            return Look::Nothing;
        }
        match &self.last {
            Some((last, refused)) if *last == content => {
                if *refused {
                    return Look::Nothing;
                }
            }
            _ => {
                self.last = Some((content, false));
                return Look::Nothing;
            }
        }
        match (self.parse)(&content) {
            Ok(value) => {
                self.taken = content;
                self.last = None;
                self.complaint = None;
                Look::Take(value)
            }
            Err(why) => {
                self.last = Some((content, true));
                self.complain(why)
            }
        }
    }

    /// Once for as long as it is the same.
    fn complain<T>(&mut self, why: String) -> Look<T> {
        if self.complaint.as_ref() == Some(&why) {
            return Look::Nothing;
        }
        self.complaint = Some(why.clone());
        Look::Complain(why)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut content))
        .map_err(|error| error.to_string())?;
    if content.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(content: &[u8]) -> Result<u32, String> {
        let text = String::from_utf8_lossy(content);
        text.trim().parse().map_err(|_| format!("{text:?}?"))
    }

    fn saw(content: &str) -> Vec<u8> {
        content.as_bytes().to_vec()
    }

    #[test]
    fn a_content_is_taken_when_it_was_seen_twice() {
        let mut follower = Follower::new(b"1".to_vec(), number);
        assert_eq!(follower.look(Ok(saw("1"))), Look::Nothing);
        // In the middle of being written.
        assert_eq!(follower.look(Ok(saw(""))), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("2"))), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("23"))), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("23"))), Look::Take(23));
        assert_eq!(follower.look(Ok(saw("23"))), Look::Nothing);
        // Back before it counted.
        assert_eq!(follower.look(Ok(saw("4"))), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("23"))), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("4"))), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("4"))), Look::Take(4));
    }

    #[test]
    fn what_is_wrong_is_said_once() {
        let mut follower = Follower::new(b"1".to_vec(), number);
        let gone = || Err("gone".to_owned());
        assert_eq!(follower.look(gone()), Look::Complain("gone".to_owned()));
        assert_eq!(follower.look(gone()), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("x"))), Look::Nothing);
        assert_eq!(
            follower.look(Ok(saw("x"))),
            Look::Complain("\"x\"?".to_owned())
        );
        assert_eq!(follower.look(Ok(saw("x"))), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("5"))), Look::Nothing);
        assert_eq!(follower.look(Ok(saw("5"))), Look::Take(5));
        assert_eq!(follower.look(gone()), Look::Complain("gone".to_owned()));
    }

    #[tokio::test]
    async fn a_file_is_followed() {
        let path = std::env::temp_dir().join(format!("watched-{}", std::process::id()));
        let every = Duration::from_millis(5);
        let missing = Watched::start_every(&path, every, number).unwrap_err();
        assert!(missing.to_string().contains("watched-"), "{missing}");
        std::fs::write(&path, "1").unwrap();
        let watched = Watched::start_every(&path, every, number).unwrap();
        assert_eq!(**watched.get(), 1);
        let becomes = async |wanted| {
            let waiting = async {
                while **watched.get() != wanted {
                    tokio::time::sleep(every).await;
                }
            };
            let patience = Duration::from_mins(1);
            tokio::time::timeout(patience, waiting).await.unwrap();
        };
        std::fs::write(&path, "2").unwrap();
        becomes(2).await;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![b'7'; 2 << 20]).unwrap();
        assert!(read(&path).unwrap_err().contains("more than"));
        std::fs::write(&path, "3").unwrap();
        becomes(3).await;
        std::fs::remove_file(&path).unwrap();
    }
}
