//! The bet path over HTTP/1.1, as lean as a client can be, because in `--embedded` its CPU is
//! taken from the cluster's: one keep-alive connection, one buffer each way, no parser but for the
//! status, the length and the two fields that are asked for.

use std::{fmt::Write as _, io};

use stakehold_actors::{
    api::NewOrder,
    domain::types::{Persistence, Side},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::workload::{Bet, Workload};

/// An answer larger than this is none to a bet.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a node said to a call that places bets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every order was taken: the numbers of the first and, in a batch, of the last.
    Taken { first: u64, last: u64 },
    /// The code of the refusal, such as `INSUFFICIENT_FUNDS`, or the HTTP status without one.
    Refused(String),
}

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    request: String,
    body: String,
    answer: Vec<u8>,
    /// Everything of the head that is the same in every request, up to the path's market number
    /// and from there on.
    head: [String; 2],
}

impl Connection {
    /// Connects to `host:port`; the token is the operator's, who bets for any account.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(address: &str, token: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let head = [
            "POST /v1/markets/".to_owned(),
            format!(
                "/orders HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: "
            ),
        ];
        Ok(Self {
            stream,
            request: String::with_capacity(1024),
            body: String::with_capacity(512),
            answer: Vec::with_capacity(4096),
            head,
        })
    }

    /// Places one call's orders and waits for the answer.
    ///
    /// # Errors
    /// When the connection breaks: the outcome is open.
    pub async fn place(&mut self, workload: &Workload, client: u32, n: u64, batch: u32) -> io::Result<Answer> {
        let (bet, orders) = workload.orders(client, n, batch);
        self.write_request(workload, client, n, &bet, &orders);
        self.stream.write_all(self.request.as_bytes()).await?;
        self.read_answer().await
    }

    fn write_request(&mut self, workload: &Workload, client: u32, n: u64, bet: &Bet, orders: &[NewOrder]) {
        let body = &mut self.body;
        body.clear();
        let _ = write!(body, r#"{{"account":{},"reference":""#, bet.account);
        workload.reference_text(client, n, body);
        match orders {
            [order] => {
                body.push_str(r#"","#);
                write_order(body, order);
            }
            orders => {
                body.push_str(r#"","orders":["#);
                for (n, order) in orders.iter().enumerate() {
                    body.push_str(if n > 0 { ",{" } else { "{" });
                    write_order(body, order);
                    body.push('}');
                }
                body.push(']');
            }
        }
        body.push('}');
        self.request.clear();
        let [before, after] = &self.head;
        let _ = write!(self.request, "{before}{}{after}{}\r\n\r\n{body}", bet.market, body.len());
    }

    async fn read_answer(&mut self) -> io::Result<Answer> {
        self.answer.clear();
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut head = None;
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if head.is_none() {
                head = Head::parse(&self.answer).map_err(broken)?;
            }
            if let Some(Head { status, body, length }) = head {
                if length > ANSWER_BYTES_MAX {
                    return Err(broken("the answer is too long"));
                }
                if self.answer.len() >= body + length {
                    return Ok(answer(status, &self.answer[body..body + length]));
                }
            } else if self.answer.len() > ANSWER_BYTES_MAX {
                return Err(broken("the answer's head has no end"));
            }
        }
    }
}

fn write_order(body: &mut String, order: &NewOrder) {
    let side = match order.side {
        Side::Back => "BACK",
        Side::Lay => "LAY",
    };
    let _ =
        write!(body, r#""runner":{},"side":"{side}","price":{},"size":{}"#, order.runner, order.price, order.size.0);
    if order.persistence == Persistence::Persist {
        body.push_str(r#","persistence":"PERSIST""#);
    }
}

/// The part of an answer's head that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins.
    body: usize,
    length: usize,
}

impl Head {
    /// `None` while the head is not complete.
    fn parse(answer: &[u8]) -> Result<Option<Head>, &'static str> {
        let Some(end) = find(answer, b"\r\n\r\n") else { return Ok(None) };
        let head = &answer[..end];
        let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status = status.ok_or("this is no HTTP/1.1 answer")?;
        let mut length = None;
        for line in head.split(|&b| b == b'\n').skip(1) {
            let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
            if line[..colon].eq_ignore_ascii_case(b"content-length") {
                length = std::str::from_utf8(&line[colon + 1..]).ok().and_then(|text| text.trim().parse().ok());
            }
        }
        let length = length.ok_or("the answer has no length")?;
        Ok(Some(Head { status, body: end + 4, length }))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn answer(status: u16, body: &[u8]) -> Answer {
    if status != 200 {
        return Answer::Refused(text_after(body, br#""code":""#).unwrap_or_else(|| format!("HTTP_{status}")));
    }
    // A batch answers 200 with a code in every order that was refused.
    if let Some(code) = text_after(body, br#""code":""#) {
        return Answer::Refused(code);
    }
    match (number_after(body, false), number_after(body, true)) {
        (Some(first), Some(last)) => Answer::Taken { first, last },
        _ => Answer::Refused("ANSWER_WITHOUT_ORDER".into()),
    }
}

fn text_after(body: &[u8], key: &[u8]) -> Option<String> {
    let start = find(body, key)? + key.len();
    let end = start + body[start..].iter().position(|&b| b == b'"')?;
    Some(String::from_utf8_lossy(&body[start..end]).into_owned())
}

/// The first or last `"order":` number.
fn number_after(body: &[u8], last: bool) -> Option<u64> {
    const KEY: &[u8] = br#""order":"#;
    let at = if last { body.windows(KEY.len()).rposition(|window| window == KEY) } else { find(body, KEY) };
    let digits = body[at? + KEY.len()..].iter().skip_while(|b| **b == b' ').take_while(|b| b.is_ascii_digit());
    let mut number = None;
    for digit in digits {
        number = Some(number.unwrap_or(0_u64).checked_mul(10)?.checked_add(u64::from(digit - b'0'))?);
    }
    number
}

#[cfg(test)]
mod tests {
    use stakehold_actors::domain::types::MarketId;
    use tokio::net::TcpListener;

    use super::*;

    fn workload() -> Workload {
        Workload { run: 7, seed: 42, wallets: 1000, markets: vec![MarketId::new(3, 1)] }
    }

    /// Answers one request after the other with these bytes, in pieces of `piece` bytes, and gives
    /// back what was asked.
    async fn served(answers: &[&str], piece: usize, batch: u32) -> (Vec<io::Result<Answer>>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let count = answers.len();
        let client = tokio::spawn(async move {
            let mut connection = Connection::open(&address, "sh_op_x").await.unwrap();
            let mut results = Vec::new();
            for n in 0..count {
                results.push(connection.place(&workload(), 1, n as u64, batch).await);
            }
            results
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut requests = Vec::new();
        for answer in answers {
            let mut request = vec![0; 8192];
            let n = stream.read(&mut request).await.unwrap();
            requests.push(String::from_utf8(request[..n].to_vec()).unwrap());
            for piece in answer.as_bytes().chunks(piece) {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
        drop(stream);
        (client.await.unwrap(), requests)
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nCONTENT-LENGTH:  {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn answers_are_understood_however_they_arrive() {
        let taken = http("200 OK", r#"{"market":1,"orders":[{"index":0,"order":1099511627777,"size":5}]}"#);
        let two = http("200 OK", r#"{"orders":[{"order":5},{"order": 6}]}"#);
        let refused = http("422 Unprocessable", r#"{"code":"INSUFFICIENT_FUNDS","message":"…"}"#);
        let busy = http("503 Service Unavailable", "");
        let odd = http("200 OK", "{}");
        for piece in [1, 7, 4096] {
            let (results, requests) = served(&[&taken, &two, &refused, &busy, &odd], piece, 1).await;
            let results: Vec<Answer> = results.into_iter().map(Result::unwrap).collect();
            assert_eq!(results[0], Answer::Taken { first: 1_099_511_627_777, last: 1_099_511_627_777 });
            assert_eq!(results[1], Answer::Taken { first: 5, last: 6 });
            assert_eq!(results[2], Answer::Refused("INSUFFICIENT_FUNDS".into()));
            assert_eq!(results[3], Answer::Refused("HTTP_503".into()));
            assert_eq!(results[4], Answer::Refused("ANSWER_WITHOUT_ORDER".into()));
            let bet = workload().bet(1, 0);
            assert!(requests[0].starts_with(&format!("POST /v1/markets/{}/orders HTTP/1.1\r\n", bet.market)));
        }
    }

    #[tokio::test]
    async fn a_request_is_valid_json_with_its_length() {
        for batch in [1, 3] {
            let (_, requests) = served(&[&http("200 OK", "{}")], 4096, batch).await;
            let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("content-length: {}", body.len())));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let bet = workload().bet(1, 0);
            assert_eq!(body["account"], bet.account.0);
            assert_eq!(body["reference"], "b7-1-0");
            let first = if batch == 1 { &body } else { &body["orders"][0] };
            assert_eq!((&first["price"], &first["size"]), (&bet.price.into(), &bet.size.0.into()));
            assert_eq!(body["orders"].as_array().map_or(1, Vec::len), batch as usize);
        }
    }

    #[tokio::test]
    async fn answers_that_are_none_are_errors() {
        for garbage in
            ["SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"]
        {
            let (results, _) = served(&[garbage], 4096, 1).await;
            assert!(results[0].is_err(), "{garbage:?}");
        }
    }
}
