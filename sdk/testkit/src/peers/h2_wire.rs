//! The part of HTTP/2 that a misbehaving server needs (RFC 9113): the preface, frame headers, and
//! the one byte of HPACK for `:status: 200`. It has no flow control and decodes no header blocks.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The server's end of one HTTP/2 connection.
#[derive(Debug)]
pub struct H2Wire<IO> {
    io: IO,
    received: BytesMut,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> H2Wire<IO> {
    /// Reads the client's preface and sends this end's (empty) SETTINGS.
    ///
    /// # Errors
    /// The stream's, or that the client speaks something else.
    pub async fn accept(io: IO) -> io::Result<Self> {
        Self::accept_with(io, &[]).await
    }

    /// As [`accept`](Self::accept), with SETTINGS of its own: identifier and value of each.
    ///
    /// # Errors
    /// The stream's, or that the client speaks something else.
    pub async fn accept_with(io: IO, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut wire = Self {
            io,
            received: BytesMut::new(),
        };
        let preface = wire.take(PREFACE.len()).await?;
        if preface != PREFACE {
            return Err(io::Error::other("the client sent no HTTP/2 preface"));
        }
        wire.settings(settings).await?;
        Ok(wire)
    }

    /// Sends SETTINGS: identifier and value of each.
    ///
    /// # Errors
    /// The stream's.
    pub async fn settings(&mut self, settings: &[(u16, u32)]) -> io::Result<()> {
        let mut payload = BytesMut::new();
        for (identifier, value) in settings {
            payload.put_u16(*identifier);
            payload.put_u32(*value);
        }
        self.send(SETTINGS, 0, 0, &payload).await
    }

    /// Resets `stream` with REFUSED_STREAM: it was not processed.
    ///
    /// # Errors
    /// The stream's.
    pub async fn refuse(&mut self, stream: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes())
            .await
    }

    /// Waits for the next request and returns its stream id. Acknowledges SETTINGS and PING
    /// meanwhile.
    ///
    /// # Errors
    /// The stream's, its end included.
    pub async fn request(&mut self) -> io::Result<u32> {
        loop {
            let mut head = self.take(FRAME_HEAD).await?;
            let length = head.get_uint(3) as usize;
            let (kind, flags) = (head.get_u8(), head.get_u8());
            let stream = head.get_u32() & STREAM_MASK;
            let payload = self.take(length).await?;
            match kind {
                HEADERS => return Ok(stream),
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await?,
                PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await?,
                _ => {}
            }
        }
    }

    /// Answers `200` on `stream`: without a body, or with one that follows.
    ///
    /// # Errors
    /// The stream's.
    pub async fn answer(&mut self, stream: u32, body_follows: bool) -> io::Result<()> {
        let end_stream = if body_follows { 0 } else { END_STREAM };
        self.send(HEADERS, END_HEADERS | end_stream, stream, STATUS_200)
            .await
    }

    /// Sends a part of a body; more may follow.
    ///
    /// # Errors
    /// The stream's.
    pub async fn part_of_body(&mut self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        self.send(DATA, 0, stream, bytes).await
    }

    /// Sends GOAWAY with NO_ERROR: streams above `last_stream` have not been processed.
    ///
    /// # Errors
    /// The stream's.
    pub async fn goaway(&mut self, last_stream: u32) -> io::Result<()> {
        let mut payload = BytesMut::new();
        payload.put_u32(last_stream);
        payload.put_u32(NO_ERROR);
        self.send(GOAWAY, 0, 0, &payload).await
    }

    /// The underlying stream; bytes that were read ahead are lost.
    pub fn into_inner(self) -> IO {
        self.io
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let mut frame = BytesMut::with_capacity(FRAME_HEAD + payload.len());
        frame.put_uint(payload.len() as u64, 3);
        frame.put_u8(kind);
        frame.put_u8(flags);
        frame.put_u32(stream);
        frame.put_slice(payload);
        self.io.write_all(&frame).await?;
        self.io.flush().await
    }

    async fn take(&mut self, bytes: usize) -> io::Result<Bytes> {
        while self.received.len() < bytes {
            if self.io.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.received.split_to(bytes).freeze())
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const STREAM_MASK: u32 = 0x7fff_ffff;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 0x7;

/// RFC 7541, appendix A: index 8 of the static table.
const STATUS_200: &[u8] = &[0x88];
