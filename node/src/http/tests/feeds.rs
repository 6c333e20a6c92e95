//! A client that rebuilds the book from a feed's events has exactly the book: over sockets, when it
//! resumes, and when it was too slow.

use proptest::{strategy::Strategy as _, test_runner::TestRunner};
use stakehold_actors::{
    api::{BookView, LevelChange, MarketDelta, Trade},
    domain::types::{MarketStatus, Minor, RunnerId, Side},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Served, raw::ask, served};
use crate::{
    book,
    fake::{ADA_TOKEN, MARKET},
    http::{
        feed::{Event, RING},
        json::books::{Book, Delta},
    },
};

/// Random changes that follow the fake's book.
pub(super) fn deltas(count: usize) -> Vec<MarketDelta> {
    let change = (1u64..4, proptest::bool::ANY, 0u32..30, 0i64..4, proptest::bool::ANY);
    let each = proptest::collection::vec(change, 0..4);
    let all = proptest::collection::vec(each, count).new_tree(&mut TestRunner::deterministic()).unwrap();
    let mut sequence = 10;
    proptest::strategy::ValueTree::current(&all)
        .into_iter()
        .map(|changes| {
            sequence += 1;
            let level = |&(runner, back, price, size, _): &(u64, bool, u32, i64, bool)| LevelChange {
                runner: RunnerId(runner),
                side: if back { Side::Back } else { Side::Lay },
                price: 300 + price,
                size: Minor(size * 100),
            };
            let trades = changes.iter().filter(|c| c.4);
            MarketDelta {
                market: MARKET,
                sequence,
                at: sequence,
                status: if sequence % 7 == 0 { MarketStatus::Suspended } else { MarketStatus::Open },
                in_play: sequence % 11 == 0,
                levels: changes.iter().map(level).collect(),
                trades: trades.map(|c| Trade { runner: RunnerId(c.0), price: 300 + c.2, size: Minor(c.3) }).collect(),
            }
        })
        .collect()
}

/// Reads events until the book is at `sequence`; counts the images.
pub(super) struct Follower {
    stream: TcpStream,
    pub(super) text: String,
    book: Option<BookView>,
    images: usize,
}

impl Follower {
    pub(super) async fn connect(served: &Served, last: Option<u64>) -> Self {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /v1/markets/{MARKET}/feed HTTP/1.0\r\nhost: x\r\nauthorization: Bearer {ADA_TOKEN}\r\n{last}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut follower = Self { stream, text: String::new(), book: None, images: 0 };
        while !follower.text.contains("\r\n\r\n") {
            follower.more().await;
        }
        let (head, rest) = follower.text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200") && head.contains("text/event-stream"), "{head}");
        follower.text = rest.into();
        follower
    }

    pub(super) async fn more(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        let n = self.stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the feed ended: {:?}", self.text);
        self.text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }

    async fn until(&mut self, sequence: u64) -> &BookView {
        while self.book.as_ref().is_none_or(|book| book.sequence < sequence) {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                match field("event: ") {
                    Some("image") => {
                        self.images += 1;
                        let book: Book = serde_json::from_str(field("data: ").unwrap()).unwrap();
                        assert_eq!(field("id: "), Some(&*book.sequence.to_string()));
                        self.book = Some(book.into());
                    }
                    Some("delta") => {
                        let delta: Delta = serde_json::from_str(field("data: ").unwrap()).unwrap();
                        assert_eq!(field("id: "), Some(&*delta.sequence.to_string()));
                        book::apply(self.book.as_mut().unwrap(), &delta.into()).unwrap();
                    }
                    Some(other) => panic!("event {other}"),
                    None => {}
                }
                self.text = rest.into();
            }
            if self.book.as_ref().is_none_or(|book| book.sequence < sequence) {
                self.more().await;
            }
        }
        self.book.as_ref().unwrap()
    }
}

#[tokio::test]
async fn a_book_rebuilt_from_events_is_the_book() {
    let served = served().await;
    let mut follower = Follower::connect(&served, None).await;
    assert_eq!(follower.until(10).await, &*served.fake.book.lock().unwrap());
    for (index, delta) in deltas(400).into_iter().enumerate() {
        let sequence = delta.sequence;
        served.fake.push(delta);
        if index % 16 == 0 {
            let rebuilt = follower.until(sequence).await;
            assert_eq!(rebuilt, &*served.fake.book.lock().unwrap());
        }
    }
    let last = served.fake.book.lock().unwrap().clone();
    assert_eq!(follower.until(last.sequence).await, &last);
    assert_eq!(follower.images, 1, "nothing was lost on the way");
}

#[tokio::test]
async fn a_follower_resumes_where_it_was() {
    let served = served().await;
    let mut stays = Follower::connect(&served, None).await;
    let mut leaves = Follower::connect(&served, None).await;
    let all = deltas(60);
    for delta in &all[..20] {
        served.fake.push(delta.clone());
    }
    stays.until(30).await;
    let book = leaves.until(30).await.clone();
    drop(leaves);
    for delta in &all[20..] {
        served.fake.push(delta.clone());
    }
    stays.until(70).await;
    let mut back = Follower::connect(&served, Some(30)).await;
    back.book = Some(book);
    assert_eq!(back.until(70).await, &*served.fake.book.lock().unwrap());
    assert_eq!(back.images, 0, "it went on from change 31");
    let mut ahead = Follower::connect(&served, Some(1_000)).await;
    ahead.until(70).await;
    assert_eq!(ahead.images, 1, "a position nobody knows gets an image");
}

#[tokio::test]
async fn a_slow_follower_gets_an_image_and_no_backlog() {
    let served = served().await;
    let mut slow = served.api.feeds.subscribe(MARKET, None).await.unwrap();
    let Some(Event::Image(mut rebuilt)) = slow.next().await else { panic!("the image comes first") };
    let mut quick = served.api.feeds.subscribe(MARKET, None).await.unwrap();
    let count = RING * 2;
    for delta in deltas(count) {
        let sequence = delta.sequence;
        served.fake.push(delta);
        // The quick one keeps up, and with that the hub too.
        while let Some(event) = quick.next().await {
            let at = match event {
                Event::Image(book) => book.sequence,
                Event::Delta(change) => change.delta.sequence,
            };
            if at == sequence {
                break;
            }
        }
    }
    let mut images = 0;
    while rebuilt.sequence < 10 + count as u64 {
        match slow.next().await.unwrap() {
            Event::Image(book) => {
                images += 1;
                rebuilt = book;
            }
            Event::Delta(change) => book::apply(&mut rebuilt, &change.delta).unwrap(),
        }
    }
    assert_eq!(images, 1);
    assert_eq!(rebuilt, *served.fake.book.lock().unwrap());
}

#[tokio::test]
async fn a_lagging_backend_costs_an_image_and_nothing_else() {
    let served = served().await;
    let mut follower = served.api.feeds.subscribe(MARKET, None).await.unwrap();
    let Some(Event::Image(mut rebuilt)) = follower.next().await else { panic!("the image comes first") };
    // Many times what the fake's channel holds, with no chance for the hub to run in between.
    for delta in deltas(300) {
        served.fake.push(delta);
    }
    while rebuilt.sequence < 310 {
        match follower.next().await.unwrap() {
            Event::Image(book) => rebuilt = book,
            Event::Delta(change) => book::apply(&mut rebuilt, &change.delta).unwrap(),
        }
    }
    assert_eq!(rebuilt, *served.fake.book.lock().unwrap());
}

#[tokio::test]
async fn nobody_following_costs_nothing() {
    let served = served().await;
    let follower = served.api.feeds.subscribe(MARKET, None).await.unwrap();
    assert_eq!(served.api.feeds.followed(), 1);
    drop(follower);
    assert_eq!(served.api.feeds.followed(), 0);
    let answer = ask(served.address, "GET", "/v1/markets/5/feed", ADA_TOKEN, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "UNKNOWN_MARKET"));
}

#[tokio::test]
async fn an_idle_feed_has_heartbeats_and_ends_with_the_server() {
    let limits = crate::http::limits::Limits {
        feed_heartbeat: std::time::Duration::from_millis(5),
        ..crate::http::limits::Limits::default()
    };
    let served = super::served_with(limits).await;
    let mut follower = Follower::connect(&served, None).await;
    while !follower.text.contains(": heartbeat") {
        follower.more().await;
    }
    served.stop.cancel();
    let mut rest = Vec::new();
    follower.stream.read_to_end(&mut rest).await.unwrap();
}
