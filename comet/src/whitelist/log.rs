//! Where the steps go: a file of its own, written by a thread of its own, or the process's log where there is no file.
//!
//! Nobody waits for the file. What finds the thread too far behind is counted and left out. When the file has its greatest size, it
//! is renamed, with `.1` behind its name, over the one that was renamed before; so the two never have more than twice that size.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use super::LineCounters;
use crate::config;

/// Where lines go.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// None: to the process's log.
    thread: Option<SyncSender<Entry>>,
    lines: LineCounters,
}

#[derive(Debug)]
enum Entry {
    Line(String),
    /// All before is to be in the file.
    Flush(oneshot::Sender<()>),
}

impl Log {
    pub(super) fn open(config: &config::Whitelist, lines: LineCounters) -> io::Result<Self> {
        if config.white_log.is_empty() {
            return Ok(Self {
                thread: None,
                lines,
            });
        }
        let path = PathBuf::from(&config.white_log);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", config.white_log))
        };
        let file = Bounded::open(path, config.max_bytes).map_err(named)?;
        let (sender, entries) = sync_channel(config.queue);
        let lost = lines.lost.clone();
        thread::Builder::new()
            .name("whitelist".to_owned())
            .spawn(move || write(file, &entries, &lost))?;
        Ok(Self {
            thread: Some(sender),
            lines,
        })
    }

    /// Takes a line, or counts that it is lost.
    pub(super) fn put(&self, line: String) {
        let Some(thread) = &self.thread else {
            self.lines.written.inc();
            tracing::info!(target: "whitelist", "{line}");
            return;
        };
        if thread.try_send(Entry::Line(line)).is_ok() {
            self.lines.written.inc();
        } else {
            self.lines.lost.inc();
        }
    }

    pub(super) async fn flush(&self) {
        let Some(thread) = self.thread.clone() else {
            return;
        };
        let (done, flushed) = oneshot::channel();
        // The thread may be behind; it takes what it has first.
        let asking = tokio::task::spawn_blocking(move || thread.send(Entry::Flush(done)));
        if asking.await.is_ok_and(|asked| asked.is_ok()) {
            // It may have ended with an error, which it has told.
            let _ = flushed.await;
        }
    }
}

/// Writes until nobody can send any more. What is written is in the file as soon as nothing waits.
fn write(mut file: Bounded, entries: &Receiver<Entry>, lost: &Counter) {
    let mut is_failing = false;
    let mut next = entries.recv().ok();
    while let Some(entry) = next {
        let written = match entry {
            Entry::Line(line) => file.line(&line),
            Entry::Flush(done) => {
                let flushed = file.flush();
                // Whoever asked may have gone.
                let _ = done.send(());
                flushed
            }
        };
        next = match entries.try_recv() {
            Ok(entry) => Some(entry),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                // Said below with the next line, if it cannot be written either.
                let _ = file.flush();
                entries.recv().ok()
            }
        };
        match written {
            Ok(()) => is_failing = false,
            Err(error) => {
                lost.inc();
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, path = %file.path.display(), "the whitelist's log cannot be written");
                }
            }
        }
    }
    // The process ends.
    let _ = file.flush();
}

/// A file of at most so many bytes, and the one before it.
struct Bounded {
    path: PathBuf,
    max: u64,
    file: BufWriter<File>,
    len: u64,
}

impl Bounded {
    fn open(path: PathBuf, max: u64) -> io::Result<Self> {
        let file = append(&path)?;
        let len = file.metadata()?.len();
        Ok(Self {
            path,
            max,
            file: BufWriter::new(file),
            len,
        })
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let len = line.len() as u64 + 1;
        if self.len > 0 && self.len + len > self.max {
            self.begin_anew()?;
        }
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.len += len;
        Ok(())
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let mut before = self.path.clone().into_os_string();
        before.push(".1");
        fs::rename(&self.path, before)?;
        self.file = BufWriter::new(append(&self.path)?);
        self.len = 0;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// For the eyes of this process's user: it says who does what.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn config(&self, max_bytes: u64, queue: usize) -> config::Whitelist {
            config::Whitelist {
                white_log: self.0.join("log").to_str().unwrap().to_owned(),
                max_bytes,
                queue,
                ..config::Whitelist::default()
            }
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn lines_are_appended_and_the_file_is_bounded() {
        let folder = Folder::new("whitelist-bounded");
        fs::write(folder.0.join("log"), "before\n").unwrap();
        let log = Log::open(&folder.config(20, 100), LineCounters::default()).unwrap();
        log.put("one".to_owned());
        log.flush().await;
        assert_eq!(folder.read("log"), "before\none\n");
        log.put("a longer line".to_owned());
        log.flush().await;
        assert_eq!(folder.read("log.1"), "before\none\n");
        assert_eq!(folder.read("log"), "a longer line\n");
        // One that is longer than the file may be has it for itself.
        log.put("x".repeat(30));
        log.put("last".to_owned());
        log.flush().await;
        assert_eq!(folder.read("log.1"), format!("{}\n", "x".repeat(30)));
        assert_eq!(folder.read("log"), "last\n");
        assert_eq!((log.lines.written.get(), log.lines.lost.get()), (4, 0));
    }

    #[tokio::test]
    async fn what_is_noted_or_lost_is_counted() {
        let folder = Folder::new("whitelist-queue");
        let log = Log::open(&folder.config(1 << 20, 1), LineCounters::default()).unwrap();
        for _ in 0..10_000 {
            log.put("line".to_owned());
        }
        log.flush().await;
        let lines = folder.read("log").lines().count() as u64;
        assert_eq!(log.lines.written.get(), lines);
        assert_eq!(lines + log.lines.lost.get(), 10_000);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = config::Whitelist {
            white_log: "/nowhere/log".to_owned(),
            ..config::Whitelist::default()
        };
        let error = Log::open(&config, LineCounters::default()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/log"), "{error}");
    }
}
