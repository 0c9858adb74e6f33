//! What one process hands the next: three streams and a [`Spec`], and messages
//! with a length before each.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;

use super::Spec;

/// Longest message between the processes, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Messages that wait in a reader's queue.
const MESSAGES_QUEUED: usize = 16;
/// Standard streams of a command.
pub const STREAMS: usize = 3;

/// A socket whose other end already holds the three streams.
pub fn parcel(streams: &[OwnedFd; STREAMS]) -> io::Result<(Socket, OwnedFd)> {
    let (ours, theirs) = Socket::pair()?;
    let descriptors = streams.each_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(&ours, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())?;
    Ok((ours, theirs.into()))
}

/// What the process before put into our standard input.
pub fn unpack() -> io::Result<(Socket, [OwnedFd; STREAMS], Spec)> {
    let mut socket = Socket::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    recvmsg(
        &socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut streams = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            streams.extend(descriptors);
        }
    }
    let streams =
        <[OwnedFd; STREAMS]>::try_from(streams).map_err(|_| io::Error::other("no streams on standard input"))?;
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut bytes = vec![0; bounded(u32::from_be_bytes(length))?];
    socket.read_exact(&mut bytes)?;
    Ok((socket, streams, serde_json::from_slice(&bytes)?))
}

fn bounded(length: u32) -> io::Result<usize> {
    let length = length as usize;
    match length > MESSAGE_BYTES_MAX {
        true => Err(io::ErrorKind::InvalidData.into()),
        false => Ok(length),
    }
}

pub async fn send<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    bounded(length)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(body);
    to.write_all(&bytes).await
}

pub async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut bytes = vec![0; bounded(from.read_u32().await?)?];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Reads messages in a task of its own, since half a message must not be lost
/// to a `select!`; the queue ends with the socket.
pub fn reader<T: DeserializeOwned + Send + 'static>(mut from: OwnedReadHalf) -> mpsc::Receiver<T> {
    let (queue, messages) = mpsc::channel(MESSAGES_QUEUED);
    tokio::spawn(async move {
        while let Ok(message) = receive(&mut from).await {
            if queue.send(message).await.is_err() {
                return;
            }
        }
    });
    messages
}
