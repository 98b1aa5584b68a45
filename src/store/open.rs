//! Opening: whose directory it is, what is done with a database that cannot be read, and what a
//! killed process has left.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Notify;

use super::schema::{self, SchemaError};
use super::writer::Writer;
use super::{Inner, Limits, Store, StoreError, blobs, column, thumbnails};

const DATABASE: &str = "state.db";
const TEMPORARY: &str = "comfyui-api-state-";

/// The directory is ours as long as this lives.
pub struct Home {
    /// A temporary one is ours by its name, too.
    _lock: Option<Flock<File>>,
    temporary: Option<PathBuf>,
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(dir) = &self.temporary {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

pub(super) fn open(dir: Option<&Path>, limits: Limits) -> io::Result<(Store, Vec<String>)> {
    let mut notes = Vec::new();
    let refused = match dir {
        Some(dir) => match claim(dir) {
            Ok(lock) => {
                let home = Home {
                    _lock: Some(lock),
                    temporary: None,
                };
                match open_in(dir, home, &limits, &mut notes) {
                    Ok(store) => return Ok((store, notes)),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        },
        None => "STATE_DIR is not set and there is no HOME".to_owned(),
    };
    let shown = dir
        .map(|dir| format!("{}: ", dir.display()))
        .unwrap_or_default();
    notes.push(format!(
        "jobs and assets are kept in a temporary directory and will not survive a restart \
         ({shown}{refused}); set STATE_DIR to a writable directory of this server's own"
    ));
    let temporary = std::env::temp_dir();
    remove_abandoned(&temporary);
    let dir = temporary.join(format!(
        "{TEMPORARY}{}-{}",
        std::process::id(),
        uuid::Uuid::new_v4().simple()
    ));
    let home = Home {
        _lock: claim(&dir).ok(),
        temporary: Some(dir.clone()),
    };
    let store = open_in(&dir, home, &limits, &mut notes)?;
    Ok((store, notes))
}

/// Makes the directory and locks it.
fn claim(dir: &Path) -> io::Result<Flock<File>> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        io::Error::other(match error {
            Errno::EWOULDBLOCK => "another process uses it".to_owned(),
            // Nothing would keep a second server from writing into it.
            error => format!("its file system has no locks: {error}"),
        })
    })
}

fn open_in(dir: &Path, home: Home, limits: &Limits, notes: &mut Vec<String>) -> io::Result<Store> {
    for sub in [blobs::BLOBS, blobs::PENDING, blobs::INCOMING] {
        std::fs::create_dir_all(dir.join(sub))?;
    }
    let path = dir.join(DATABASE);
    let connection = match usable(&path) {
        Ok(connection) => connection,
        Err(error) => {
            let aside = set_aside(&path)?;
            notes.push(format!(
                "the database {} cannot be used ({error}); it was set aside as {} and a new one \
                 begun",
                path.display(),
                aside.display()
            ));
            usable(&path).map_err(io::Error::other)?
        }
    };
    let used = clean(dir, &connection).map_err(io::Error::other)?;
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let jobs = count("SELECT COUNT(*) FROM jobs").map_err(io::Error::other)?;
    let secret = secret(&dir.join("signing.key"))?;
    let inner = Inner {
        dir: dir.to_path_buf(),
        limits: limits.clone(),
        secret,
        writer: Writer::start(connection)?,
        readers: Mutex::default(),
        used: AtomicU64::new(used),
        jobs: AtomicU64::new(u64::try_from(jobs).unwrap_or(0)),
        held: Mutex::default(),
        thumbnails: Default::default(),
        due: AtomicI64::new(0),
        due_changed: Notify::new(),
        _home: home,
    };
    Ok(Store {
        inner: Arc::new(inner),
    })
}

fn usable(path: &Path) -> Result<Connection, SchemaError> {
    let mut connection = Connection::open(path)?;
    schema::configure(&connection)?;
    // More than there are: one that falls out is parsed anew each time.
    connection.set_prepared_statement_cache_capacity(128);
    schema::migrate(&mut connection)?;
    Ok(connection)
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stamp = super::now_ms();
    let aside = path.with_file_name(format!("{DATABASE}.set-aside-{stamp}"));
    std::fs::rename(path, &aside)?;
    for tail in ["-wal", "-shm"] {
        let with = |path: &Path| PathBuf::from(format!("{}{tail}", path.display()));
        let _ = std::fs::rename(with(path), with(&aside));
    }
    Ok(aside)
}

/// A connection for reading.
pub(super) fn reader(dir: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join(DATABASE), flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "cache_size", -1000)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Removes what has no record; a record without its file is marked. Returns the bytes of blobs that
/// are there.
fn clean(dir: &Path, connection: &Connection) -> Result<u64, StoreError> {
    for entry in std::fs::read_dir(dir.join(blobs::INCOMING))?.flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    connection.execute(
        "DELETE FROM blobs WHERE NOT EXISTS (SELECT 1 FROM assets a WHERE a.hash = blobs.hash)
         AND NOT EXISTS (SELECT 1 FROM job_blobs r WHERE r.hash = blobs.hash)",
        [],
    )?;
    let mut there = HashSet::new();
    let mut thumbnails = thumbnails::Found::default();
    for folder in std::fs::read_dir(dir.join(blobs::BLOBS))?.flatten() {
        for entry in std::fs::read_dir(folder.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let size = || entry.metadata().map(|data| data.len()).unwrap_or(0);
            if let Ok(name) = entry.file_name().into_string()
                && !(thumbnails::blob_of(&name).is_some() && thumbnails.take(&name, size()))
            {
                there.insert(name);
            }
        }
    }
    let mut used = 0;
    let mut lost = Vec::new();
    let mut recount = Vec::new();
    let mut statement = connection.prepare("SELECT hash, size, beside FROM blobs WHERE present")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (hash, size, beside): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if there.remove(&hash) {
            // A thumbnail lies beside its blob and lives as long.
            let found = thumbnails.beside(&hash);
            used += u64::try_from(size).unwrap_or(0) + found;
            if column(found) != beside {
                recount.push((hash, found));
            }
        } else {
            lost.push(hash);
        }
    }
    for hash in lost {
        connection.execute(
            "UPDATE blobs SET present = 0, beside = 0 WHERE hash = ?",
            [hash],
        )?;
    }
    for (hash, beside) in recount {
        connection.execute(
            "UPDATE blobs SET beside = ? WHERE hash = ?",
            rusqlite::params![column(beside), hash],
        )?;
    }
    thumbnails.remove_rest(dir);
    for orphan in there {
        let _ = std::fs::remove_file(blobs::path(dir, &orphan));
    }
    Ok(used + clean_pending(dir, connection)?)
}

/// Removes outputs without a record whose hash is not known yet. Returns the bytes of the rest.
fn clean_pending(dir: &Path, connection: &Connection) -> Result<u64, StoreError> {
    let mut used = 0;
    for entry in std::fs::read_dir(dir.join(blobs::PENDING))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let wanted: i64 = connection.query_row(
            "SELECT COUNT(*) FROM assets WHERE id = ? AND hash IS NULL",
            [&name],
            |row| row.get(0),
        )?;
        if wanted == 0 {
            let _ = std::fs::remove_file(entry.path());
        } else {
            used += entry.metadata().map(|data| data.len()).unwrap_or(0);
        }
    }
    Ok(used)
}

/// The key of signatures, made once.
fn secret(path: &Path) -> io::Result<[u8; 32]> {
    let mut secret = [0_u8; 32];
    if let Ok(mut file) = File::open(path)
        && file.read_exact(&mut secret).is_ok()
    {
        return Ok(secret);
    }
    rand::fill(&mut secret[..]);
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&secret)?;
    drop(file);
    std::fs::rename(&beside, path)?;
    Ok(secret)
}

/// Temporary stores whose process is gone.
fn remove_abandoned(temporary: &Path) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(TEMPORARY))
            .and_then(|rest| rest.split('-').next())
            .and_then(|id| id.parse::<u32>().ok());
        if let Some(process) = process
            && Path::new("/proc/self").exists()
            && !Path::new("/proc").join(process.to_string()).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
