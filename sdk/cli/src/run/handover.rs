//! What `bowline run` gives its keeper at the start, over a socket that is the keeper's standard
//! input: the command's standard input, and the proxy's listener. As long as the keeper holds the
//! listener, no other process can take the port, even when `bowline run` is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// What the keeper holds.
pub(super) struct Handover {
    pub(super) stdin: OwnedFd,
    /// Never accepts.
    pub(super) listener: OwnedFd,
}

/// The keeper's end, from which it can already [`receive`].
pub(super) fn give(stdin: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let files = [stdin, listener];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(&files));
    // Files travel with a byte at least.
    sendmsg(
        &ours,
        &[IoSlice::new(&[0])],
        &mut message,
        SendFlags::empty(),
    )?;
    Ok(theirs)
}

/// # Errors
/// There is no such socket, or it holds something else: the keeper was not started by `run`.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Handover> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    // The command must not inherit the listener.
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut message,
        flags,
    )?;
    let mut files = message.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let mut files = files.by_ref().flatten();
    match (files.next(), files.next()) {
        (Some(stdin), Some(listener)) => Ok(Handover { stdin, listener }),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
