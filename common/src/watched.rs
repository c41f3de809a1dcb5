//! Files that are read again when they change, such as those of tokens and keys: what they say counts without a restart.
//!
//! A file is looked at every [`EVERY`], and at once when SIGHUP comes. What is new in it is taken when two looks in turn have seen
//! the same, so that a file in the middle of being written is not; SIGHUP says that it is whole. A new content that cannot be
//! taken, and a file that is gone, change nothing: the last good content stays, and the log says so. Files that belong together,
//! such as a certificate and its key, are taken together.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::follow::{Hangup, Looks};

/// How often a file is looked at.
pub const EVERY: Duration = Duration::from_secs(1);

/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// What a file says now, or several together.
#[derive(Debug)]
pub struct Watched<T> {
    current: Arc<ArcSwap<T>>,
    _looking: AbortOnDropHandle<()>,
}

/// Why a file cannot be used at the start; the operator is at fault.
#[derive(Debug, Error)]
#[error("{files}: {why}")]
pub struct WatchError {
    files: String,
    why: String,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the file, and goes on looking at it every [`EVERY`], or as SIGHUP asks, until this is dropped. `parse` says in words
    /// what is wrong with a content. Must be called in a tokio runtime; the first read blocks.
    pub fn start(
        path: &Path,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + 'static,
    ) -> Result<Self, WatchError> {
        Self::start_together(&[path], move |contents: &[Vec<u8>]| {
            parse(contents.first().map_or(&[], Vec::as_slice))
        })
    }

    /// The same for several files that belong together; `parse` gets their contents in the order of `paths`.
    pub fn start_together(
        paths: &[&Path],
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + 'static,
    ) -> Result<Self, WatchError> {
        Self::start_every(paths, EVERY, parse)
    }

    fn start_every(
        paths: &[&Path],
        every: Duration,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + 'static,
    ) -> Result<Self, WatchError> {
        let files = Files(paths.iter().map(|path| path.to_path_buf()).collect());
        let wrong = |why| WatchError {
            files: files.to_string(),
            why,
        };
        let contents = files.read().map_err(wrong)?;
        let first = parse(&contents).map_err(wrong)?;
        let current = Arc::new(ArcSwap::from_pointee(first));
        let follower = Follower::new(contents, parse);
        let looking = look_again(
            files,
            every,
            Hangup::catch(),
            follower,
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

    /// The same, to be kept.
    pub fn get_full(&self) -> Arc<T> {
        self.current.load_full()
    }
}

async fn look_again<T, P>(
    files: Files,
    every: Duration,
    mut hangup: Hangup,
    mut follower: Follower<P>,
    current: Arc<ArcSwap<T>>,
) where
    P: Fn(&[Vec<u8>]) -> Result<T, String>,
{
    loop {
        let is_asked = tokio::select! {
            () = sleep(every) => false,
            () = hangup.comes() => true,
        };
        let looked_at = files.clone();
        let seen = tokio::task::spawn_blocking(move || looked_at.read()).await;
        let seen = seen.unwrap_or_else(|error| Err(error.to_string()));
        match follower.look(seen, is_asked) {
            Look::Nothing => {}
            Look::Take(value) => {
                current.store(Arc::new(value));
                tracing::info!(%files, "a file has changed and was read again");
            }
            Look::Complain(why) => {
                tracing::error!(%files, %why, "a file has changed and cannot be used: what it said before stays");
            }
        }
    }
}

/// Where to look.
#[derive(Clone)]
struct Files(Vec<PathBuf>);

impl Files {
    fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        let one = |path: &PathBuf| {
            let name = |why| match self.0.len() {
                1 => why,
                _ => format!("{}: {why}", path.display()),
            };
            read(path).map_err(name)
        };
        self.0.iter().map(one).collect()
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", path.display())?;
        }
        Ok(())
    }
}

/// What is to be done after a look.
#[derive(Debug, PartialEq, Eq)]
enum Look<T> {
    Nothing,
    Take(T),
    Complain(String),
}

/// What counts, and what the looks since have seen.
struct Follower<P> {
    parse: P,
    taken: Vec<Vec<u8>>,
    looks: Looks<Vec<Vec<u8>>>,
}

impl<P> Follower<P> {
    fn new(taken: Vec<Vec<u8>>, parse: P) -> Self {
        Self {
            parse,
            taken,
            looks: Looks::default(),
        }
    }

    fn look<T>(&mut self, seen: Result<Vec<Vec<u8>>, String>, is_asked: bool) -> Look<T>
    where
        P: Fn(&[Vec<u8>]) -> Result<T, String>,
    {
        if !self.looks.is_due(seen.clone(), &self.taken, is_asked) {
            return Look::Nothing;
        }
        let taking = seen.and_then(|contents| {
            let value = (self.parse)(&contents)?;
            self.taken = contents;
            self.looks.take();
            Ok(value)
        });
        taking.map_or_else(
            |why| {
                self.looks.refuse();
                Look::Complain(why)
            },
            Look::Take,
        )
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

    /// The sum of the numbers in all files.
    fn sum(contents: &[Vec<u8>]) -> Result<u32, String> {
        let number = |content: &Vec<u8>| {
            let text = String::from_utf8_lossy(content);
            text.trim().parse::<u32>().map_err(|_| format!("{text:?}?"))
        };
        contents.iter().map(number).sum()
    }

    #[test]
    fn a_content_that_cannot_be_taken_is_complained_of_once() {
        let saw = |content: &str| Ok(vec![content.as_bytes().to_vec()]);
        let refused = || Look::Complain("\"x\"?".to_owned());
        let mut follower = Follower::new(vec![b"1".to_vec()], sum);
        assert_eq!(follower.look(saw("x"), false), Look::Nothing);
        assert_eq!(follower.look(saw("x"), false), refused());
        assert_eq!(follower.look(saw("x"), false), Look::Nothing);
        assert_eq!(follower.look(saw("x"), true), refused());
        assert_eq!(follower.look(saw("5"), false), Look::Nothing);
        assert_eq!(follower.look(saw("5"), false), Look::Take(5));
        assert_eq!(follower.look(saw("6"), true), Look::Take(6));
        let gone = || Err("gone".to_owned());
        assert_eq!(follower.look(gone(), false), Look::Nothing);
        assert_eq!(
            follower.look(gone(), false),
            Look::Complain("gone".to_owned())
        );
        assert_eq!(follower.look(saw("6"), false), Look::Nothing);
    }

    #[tokio::test]
    async fn a_file_is_followed() {
        let named = |name| std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let (path, other) = (named("watched"), named("watched-too"));
        let (paths, every) = ([path.as_path(), &other], Duration::from_millis(5));
        std::fs::write(&other, "0").unwrap();
        let missing = Watched::start_every(&paths, every, sum).unwrap_err();
        assert!(missing.to_string().contains("watched-too"), "{missing}");
        std::fs::write(&path, "1").unwrap();
        let watched = Watched::start_every(&paths, every, sum).unwrap();
        assert_eq!(**watched.get(), 1);
        let becomes = async |wanted| {
            let waiting = async {
                while **watched.get() != wanted {
                    sleep(every).await;
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
        std::fs::write(&other, "1").unwrap();
        becomes(4).await;
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&other).unwrap();
    }
}
