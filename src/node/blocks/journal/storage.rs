//! Where the journal's bytes are: a file, or in tests something that fails as files do.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Random access to the journal's bytes. Calls may be short, fail, and take as long as a disk
/// takes; `write_at` returns once the bytes outlive this process, `sync` once they outlive a loss
/// of power.
pub(crate) trait Storage: Send + Sync + 'static {
    /// Reads up to `into.len()` bytes; 0 is the end.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes some of the bytes and tells how many.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Makes durable what was written.
    fn sync(&self) -> io::Result<()>;
    /// Whether a later process can find the bytes: somebody may have deleted the file.
    fn can_be_found(&self) -> bool {
        true
    }
}

impl Storage for File {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn can_be_found(&self) -> bool {
        self.metadata().is_ok_and(|file| file.nlink() > 0)
    }
}

/// Writes all bytes, however short single writes are.
pub(super) fn write_all(storage: &dyn Storage, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match storage.write_at(bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `into` is full; false where the storage ends before.
pub(super) fn read_all(storage: &dyn Storage, into: &mut [u8], at: u64) -> io::Result<bool> {
    let mut filled = 0;
    while filled < into.len() {
        match storage.read_at(&mut into[filled..], at + filled as u64) {
            Ok(0) => return Ok(false),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
