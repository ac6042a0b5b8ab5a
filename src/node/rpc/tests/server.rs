//! A server on loopback that answers each request as it is told, with whatever bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use serde_json::{Value, json};

/// One request, as it came.
#[derive(Debug)]
pub(super) struct Request {
    /// Number of the connection, from 0.
    pub(super) connection: usize,
    /// The header that says who asks.
    pub(super) authorization: String,
    /// The body.
    pub(super) body: Value,
}

/// What is done about it.
#[derive(Clone)]
pub(super) enum Reply {
    /// A whole HTTP answer with this status and body.
    Http(u16, String),
    /// The JSON result, in its envelope.
    Result(Value),
    /// These bytes, and the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, and the connection is closed.
    BytesThenClose(Vec<u8>),
    /// This byte for ever, with a good head.
    Endless(u8),
}

/// Answers request after request with the next reply, the last one again and again.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: Receiver<Request>,
}

impl Server {
    pub(super) fn start(replies: &[Reply]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (seen, requests) = mpsc::channel();
        let mut replies: Vec<Reply> = replies.iter().rev().cloned().collect();
        thread::spawn(move || {
            // One connection at a time, as the client has only one.
            for (connection, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                if serve(stream, connection, &seen, &mut replies).is_none() {
                    // The other side went away, as it does after a bad answer.
                    continue;
                }
            }
        });
        Server { address, requests }
    }

    /// The next request that came.
    pub(super) fn request(&self) -> Request {
        self.requests.recv().expect("a request")
    }
}

fn serve(
    stream: TcpStream,
    connection: usize,
    seen: &Sender<Request>,
    replies: &mut Vec<Reply>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let request = read(&mut reader, connection)?;
        let id = request.body["id"].clone();
        // Nobody may listen any more.
        let _ = seen.send(request);
        let reply = if replies.len() > 1 { replies.pop()? } else { replies.last()?.clone() };
        match reply {
            Reply::Http(status, body) => writer.write_all(http(status, &body).as_bytes()).ok()?,
            Reply::Result(result) => {
                let body = json!({"result": result, "error": null, "id": id}).to_string();
                writer.write_all(http(200, &body).as_bytes()).ok()?;
            }
            Reply::Bytes(bytes) => writer.write_all(&bytes).ok()?,
            Reply::BytesThenClose(bytes) => {
                writer.write_all(&bytes).ok()?;
                return None;
            }
            Reply::Endless(byte) => {
                writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
                loop {
                    writer.write_all(&[byte; 65_536]).ok()?;
                }
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Request> {
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        assert!(!line.starts_with("transfer-encoding"), "bitcoind is told the length");
        if line.starts_with("authorization: ") {
            authorization = line.clone();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).expect("a request is JSON");
    Some(Request { connection, authorization, body })
}

pub(super) fn http(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
