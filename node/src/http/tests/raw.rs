//! A client that sends exactly the bytes a test wants, and reads one answer.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The error's code; the body must have exactly the shape that is promised.
    pub fn code(&self) -> String {
        let json = self.json();
        let error = &json["error"];
        for field in ["code", "message", "request_id"] {
            assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {}", self.body);
        }
        assert!(error["message"].as_str().unwrap().ends_with('.'), "{}", self.body);
        assert_eq!(self.header("x-request-id"), error["request_id"].as_str());
        error["code"].as_str().unwrap().into()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().into()
    }
}

/// A request as text; the connection closes after the answer.
pub fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{token}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

pub async fn send(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read(&mut stream).await
}

pub async fn ask(address: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> Answer {
    send(address, &request(method, path, Some(token), body)).await
}

pub async fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let answer = Answer { status: head[9..12].parse().unwrap(), head: head.into(), body: rest.into() };
            let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            if answer.body.len() >= length {
                return answer;
            }
        }
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the server closed after {text:?}");
        bytes.extend_from_slice(&buffer[..n]);
    }
}
