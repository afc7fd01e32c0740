//! A Unix socket that has its mode from its first moment on: with 0600 only its owner can connect.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::values::folder_of;

/// Binds it with mode 0600. `bind` itself goes by the process's umask, so the socket is made in a
/// folder that others cannot enter, and moved out of it when its mode is right.
///
/// A socket that an earlier process has left is replaced.
pub(crate) async fn bind_private(path: &Path) -> Result<UnixListener, String> {
    bind(path, 0o600).await
}

/// The same with another mode.
pub(crate) async fn bind(path: &Path, mode: u32) -> Result<UnixListener, String> {
    // `bind` sees another path.
    SocketAddr::from_pathname(path).map_err(|error| error.to_string())?;
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err("there is a file that is no socket: choose another path".to_owned());
        }
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            _ => {
                return Err(
                    "another process listens there; stop it, or choose another path".to_owned(),
                );
            }
        }
    }
    let folder = Private::new(path).map_err(|error| error.to_string())?;
    let inside = folder.0.join("s");
    let bind_inside = || {
        let listener = UnixListener::bind(&inside)?;
        fs::set_permissions(&inside, Permissions::from_mode(mode))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    };
    bind_inside().map_err(|error: io::Error| error.to_string())
}

/// A folder that is gone when this is dropped.
struct Private(PathBuf);

impl Private {
    fn new(beside: &Path) -> io::Result<Self> {
        // Short: the path of a socket has about 100 bytes.
        let folder = folder_of(beside).join(format!(".{}", std::process::id()));
        let create = || DirBuilder::new().mode(0o700).create(&folder);
        match create() {
            // A process of the same number was killed here: in a container that is every former one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                drop(Self(folder.clone()));
                create()?;
            }
            created => created?,
        }
        Ok(Self(folder))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("s"));
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests;
