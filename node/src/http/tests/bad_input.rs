//! Whatever is wrong with a request gets its status, its code, one sentence, and reaches no backend.

use std::time::Duration;

use serde_json::json;
use stakehold_actors::{
    api::{ApiError, Principal, Request, RequestId, Response},
    domain::types::{AccountId, Minor, Refusal},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    raw::{ask, read, request, send},
    served, served_with,
};
use crate::{
    fake::{ADA, ADA_TOKEN, MARKET, OPERATOR_TOKEN, new_account_token},
    http::limits::Limits,
};

const PLACE: &str = "/v1/markets/100000001/orders";
const BET: &str = r#"{"runner":1,"side":"BACK","price":350,"size":1000}"#;

#[tokio::test]
async fn what_cannot_be_meant_is_named_and_goes_nowhere() {
    let served = served().await;
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("POST", PLACE, "{", &["not valid JSON"]),
        ("POST", PLACE, r#"{"runner":1} x"#, &["something after its JSON"]),
        ("POST", PLACE, "[]", &["does not fit"]),
        ("POST", PLACE, "null", &["does not fit"]),
        ("POST", PLACE, "", &["no `runner`"]),
        ("POST", PLACE, r#"{"runner":1,"side":"BACK","price":350}"#, &["no `size`"]),
        ("POST", PLACE, r#"{"runner":1,"side":"BACK","price":350,"size":1000,"stake":3}"#, &["unknown field `stake`"]),
        ("POST", PLACE, r#"{"runner":"1","side":"BACK","price":350,"size":1000}"#, &["`runner`", "string"]),
        ("POST", PLACE, r#"{"runner":1,"side":"back","price":350,"size":1000}"#, &["`side`", "`BACK`", "`LAY`"]),
        ("POST", PLACE, r#"{"runner":1,"side":"BACK","price":3.5,"size":1000}"#, &["`price`", "350 is 3.50"]),
        ("POST", PLACE, r#"{"runner":1,"side":"BACK","price":-350,"size":1000}"#, &["`price`"]),
        ("POST", PLACE, r#"{"runner":1,"side":"BACK","price":350,"size":10.5}"#, &["`size`", "1000 is 10.00"]),
        ("POST", PLACE, r#"{"runner":1,"side":"BACK","price":350,"size":1e30}"#, &["`size`"]),
        ("POST", PLACE, r#"{"runner":1,"side":"BACK","price":350,"size":99999999999999999999}"#, &["`size`"]),
        ("POST", PLACE, r#"{"orders":[]}"#, &["1 to 200"]),
        (
            "POST",
            PLACE,
            r#"{"orders":[{"runner":1,"side":"BACK","price":350,"size":1,"x":1}]}"#,
            &["unknown field `x`"],
        ),
        ("POST", PLACE, r#"{"orders":[{"runner":1,"side":"BACK","price":350}]}"#, &["missing field `size`"]),
        ("POST", PLACE, r#"{"orders":[{"runner":1,"side":"BACK","price":"3","size":1}]}"#, &["`orders[0].price`"]),
        (
            "POST",
            PLACE,
            r#"{"orders":[{"runner":1,"side":"BACK","price":350,"size":1}],"size":5}"#,
            &["`size` belongs"],
        ),
        (
            "POST",
            PLACE,
            r#"{"reference":"","runner":1,"side":"BACK","price":350,"size":1}"#,
            &["`reference`", "1 to 64"],
        ),
        ("POST", PLACE, r#"{"reference":"a b","runner":1,"side":"BACK","price":350,"size":1}"#, &["visible ASCII"]),
        ("POST", PLACE, r#"{"runner":1,"runner":1,"side":"BACK","price":350,"size":1}"#, &["duplicate field"]),
        ("POST", "/v1/markets/x/orders", BET, &["market in the path", "`x`"]),
        ("POST", "/v1/markets/-1/orders", BET, &["market in the path"]),
        ("GET", "/v1/orders?market=abc", "", &["`market`", "`abc`"]),
        ("GET", "/v1/orders?markt=1", "", &["`markt`", "`account`"]),
        ("GET", "/v1/orders?open=yes", "", &["`open`", "`yes`"]),
        ("GET", "/v1/orders?open=2", "", &["`open`", "0 (all)"]),
        ("GET", "/v1/orders?limit=0", "", &["`limit`", "at least 1"]),
        ("GET", "/v1/accounts/7/statement?limit=0", "", &["`limit`"]),
        ("POST", "/v1/markets/100000001/orders/cancel", r#"{"orders":[{}]}"#, &["`order` or a `reference`"]),
    ];
    for (method, path, body, words) in cases {
        let answer = ask(served.address, method, path, ADA_TOKEN, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID"), "{body}: {}", answer.body);
        for word in *words {
            assert!(answer.message().contains(word), "{body}: wanted {word:?} in {:?}", answer.message());
        }
    }
    assert_eq!(served.fake.asked(), 0);
}

#[tokio::test]
async fn what_the_operator_creates_is_within_bounds() {
    let served = served().await;
    let long = "x".repeat(101);
    let market = |event_name: &str, name: &str, runner: &str| {
        let runners = json!([{"id": 1, "name": "A"}, {"id": 2, "name": runner}]);
        ("/v1/markets", json!({"event": 1, "event_name": event_name, "name": name, "runners": runners}))
    };
    let account = |account: u64, name: &str| ("/v1/accounts", json!({"account": account, "name": name}));
    for ((path, body), sentence) in [
        (account(0, "Bob"), "`account` is between 1 and 9007199254740991, not 0;"),
        (account(u64::MAX, "Bob"), "`account` is between 1 and 9007199254740991, not 18446744073709551615;"),
        (account(8, "Bob\n"), "`name` has a control character"),
        (account(8, &long), "`name` has 101 characters; shorten it to 100."),
        (market(&long, "Winner", "B"), "`event_name` has 101 characters"),
        (market("Race", "Win\u{1b}[2Jner", "B"), "`name` has a control character"),
        (market("Race", "Winner", "B\0"), "`runners[1].name` has a control character"),
    ] {
        let answer = ask(served.address, "POST", path, OPERATOR_TOKEN, &body.to_string()).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID"), "{body}: {}", answer.body);
        assert!(answer.message().starts_with(sentence), "{body}: {}", answer.message());
    }
    assert_eq!(served.fake.asked(), 0);
}

#[tokio::test]
async fn a_winner_is_named_once() {
    let served = served().await;
    for act in ["settle", "resettle"] {
        let path = format!("/v1/markets/{MARKET}/{act}");
        let answer = ask(served.address, "POST", &path, OPERATOR_TOKEN, r#"{"winners":[2,1,2]}"#).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "INVALID_RESULT"), "{}", answer.body);
        assert_eq!(answer.message(), "`winners` names runner 2 twice; name each winner once.");
    }
    assert_eq!(served.fake.asked(), 0);
}

#[tokio::test]
async fn too_little_in_the_wallet_is_said_of_a_withdrawal_as_well() {
    let served = served().await;
    let answer = ask(served.address, "POST", "/v1/accounts/7/withdraw", ADA_TOKEN, r#"{"amount":1000}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "INSUFFICIENT_FUNDS"));
    assert!(answer.message().starts_with("The wallet has less available than this takes"), "{}", answer.message());
}

#[tokio::test]
async fn the_operator_must_say_for_whom() {
    let served = served().await;
    let answer = ask(served.address, "POST", PLACE, OPERATOR_TOKEN, BET).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID"));
    let answer = ask(
        served.address,
        "POST",
        PLACE,
        OPERATOR_TOKEN,
        r#"{"account":7,"runner":1,"side":"BACK","price":350,"size":1000}"#,
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let Request::Place { account, .. } = served.fake.last().request else { panic!() };
    assert_eq!((account, served.fake.last().principal), (ADA, Principal::Operator));
}

#[tokio::test]
async fn a_token_opens_only_what_is_its_own() {
    let served = served().await;
    let bob = new_account_token(&served.fake, AccountId(8));
    let swapped = ADA_TOKEN.replace("sh_acct_7_", "sh_acct_8_");
    let wrong = format!("sh_op_{}", "f".repeat(64));
    for token in [None, Some("x"), Some(&*swapped), Some(&*wrong), Some("sh_op_")] {
        let answer = send(served.address, &request("GET", "/v1/accounts/7", token, "")).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"), "{token:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let for_ada = r#"{"account":7,"runner":1,"side":"BACK","price":350,"size":1000}"#;
    let forbidden: &[(&str, &str, &str)] = &[
        ("GET", "/v1/accounts/7", ""),
        ("GET", "/v1/accounts/99", ""),
        ("GET", "/v1/accounts/7/statement", ""),
        ("POST", "/v1/accounts/7/withdraw", r#"{"amount":1}"#),
        ("POST", "/v1/accounts/8/deposit", r#"{"amount":1}"#),
        ("PUT", "/v1/accounts/8/cap", r#"{"cap":null}"#),
        ("PUT", "/v1/accounts/8/discount", r#"{"discount_bp":10}"#),
        ("POST", "/v1/accounts/8/tokens", ""),
        ("POST", "/v1/accounts", r#"{"name":"x"}"#),
        ("GET", "/v1/orders?account=7", ""),
        ("POST", "/v1/orders/cancel-all", r#"{"account":7}"#),
        ("POST", "/v1/heartbeat", r#"{"account":7,"timeout_ms":1}"#),
        ("POST", PLACE, for_ada),
        ("POST", "/v1/markets/100000001/orders/cancel", r#"{"account":7,"orders":[{"order":1}]}"#),
        ("DELETE", "/v1/markets/100000001/orders/1?account=7", ""),
        ("POST", "/v1/markets/100000001/orders/1/replace", r#"{"account":7,"price":350}"#),
        ("PUT", "/v1/markets/100000001/orders/1/persistence", r#"{"account":7,"persistence":"LAPSE"}"#),
        ("POST", "/v1/markets", "{}"),
        ("POST", "/v1/markets/100000001/open", ""),
        ("POST", "/v1/markets/100000001/settle", r#"{"winners":[1]}"#),
        ("POST", "/v1/markets/100000001/void", ""),
        ("GET", "/v1/cluster", ""),
        ("GET", "/v1/audit", ""),
    ];
    for (method, path, body) in forbidden {
        let answer = ask(served.address, method, path, &bob, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "FORBIDDEN"), "{method} {path}: {}", answer.body);
    }
    assert_eq!(served.fake.asked(), 0, "nothing of it reached the backend");
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_say_so() {
    let served = served().await;
    let answer = ask(served.address, "GET", "/v1/nothing", ADA_TOKEN, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"));
    let answer = ask(served.address, "PATCH", "/v1/markets", ADA_TOKEN, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(answer.header("allow"), Some("GET, POST"));
}

#[tokio::test]
async fn a_refusal_of_a_single_order_is_the_answer_and_names_the_reference() {
    let served = served().await;
    let body = r#"{"reference":"mine-1","runner":1,"side":"BACK","price":350,"size":0}"#;
    let answer = ask(served.address, "POST", PLACE, ADA_TOKEN, body).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "INVALID_SIZE"));
    assert_eq!(answer.json()["error"]["reference"], "mine-1");
    let batch = r#"{"orders":[{"runner":1,"side":"BACK","price":350,"size":0}]}"#;
    let answer = ask(served.address, "POST", PLACE, ADA_TOKEN, batch).await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    assert_eq!((&json["orders"][0]["status"], &json["orders"][0]["code"]), (&"REFUSED".into(), &"INVALID_SIZE".into()));
    assert!(json["reference"].as_str().unwrap().starts_with("auto-"));
}

#[tokio::test]
async fn every_way_a_call_can_fail_has_its_status() {
    let served = served().await;
    let cases = [
        (ApiError::Refused(Refusal::UnknownMarket), 404, "UNKNOWN_MARKET"),
        (ApiError::Refused(Refusal::UnknownAccount), 404, "UNKNOWN_ACCOUNT"),
        (ApiError::Refused(Refusal::InvalidRunner), 422, "INVALID_RUNNER"),
        (ApiError::Refused(Refusal::InvalidOdds), 422, "INVALID_ODDS"),
        (ApiError::Refused(Refusal::InsufficientFunds), 422, "INSUFFICIENT_FUNDS"),
        (ApiError::Refused(Refusal::MarketSuspended), 409, "MARKET_SUSPENDED"),
        (ApiError::Refused(Refusal::MarketClosed), 409, "MARKET_CLOSED"),
        (ApiError::Refused(Refusal::ReferenceReused), 409, "REFERENCE_REUSED"),
        (ApiError::Refused(Refusal::Busy), 503, "BUSY"),
        (ApiError::Invalid("The name is empty.".into()), 400, "INVALID"),
        (ApiError::Forbidden, 403, "FORBIDDEN"),
        (ApiError::Busy { retry_after_ms: 2500 }, 503, "BUSY"),
        (ApiError::Unavailable, 503, "UNAVAILABLE"),
        (ApiError::Unknown, 504, "OUTCOME_UNKNOWN"),
        (ApiError::DiskFull { retry_after_ms: 1000 }, 507, "DISK_FULL"),
    ];
    for (error, status, code) in cases {
        served.fake.answer_next(Err(error.clone()));
        let answer = ask(served.address, "POST", PLACE, ADA_TOKEN, BET).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{error:?}");
        assert!(answer.json()["error"]["reference"].as_str().unwrap().starts_with("auto-"), "{error:?}");
        let retry = answer.header("retry-after");
        assert_eq!(retry.is_some(), status >= 503, "{error:?}");
        if error == (ApiError::Busy { retry_after_ms: 2500 }) {
            assert_eq!(retry, Some("3"));
        }
    }
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_before_they_are_read() {
    let served = served().await;
    let head = format!(
        "POST {PLACE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADA_TOKEN}\r\ncontent-length: 104857600\r\n\r\n{{"
    );
    let answer = send(served.address, head.as_bytes()).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "BODY_TOO_LARGE"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(served.fake.asked(), 0);
}

#[tokio::test]
async fn a_client_that_sends_everything_before_it_reads_still_gets_its_answer() {
    let served = served().await;
    for (token, status) in [(ADA_TOKEN, 413), ("none", 401)] {
        let body = " ".repeat(20 << 20);
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(&request("POST", PLACE, Some(token), &body)).await.unwrap();
        assert_eq!(read(&mut stream).await.status, status);
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_at_the_limit() {
    let served = served_with(Limits { body_bytes_max: 100, ..Limits::default() }).await;
    let mut bytes = format!(
        "POST {PLACE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADA_TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    bytes.push_str(&format!("80\r\n{}\r\n", " ".repeat(128)));
    let answer = send(served.address, bytes.as_bytes()).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "BODY_TOO_LARGE"));
}

#[tokio::test]
async fn a_client_that_trickles_is_cut_off() {
    let brief = Duration::from_millis(30);
    let served = served_with(Limits { body_time: brief, header_time: brief, ..Limits::default() }).await;
    let head = format!(
        "POST {PLACE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADA_TOKEN}\r\ncontent-length: 50\r\n\r\n{{"
    );
    let answer = send(served.address, head.as_bytes()).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "BODY_TOO_SLOW"));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /livez HT").await.unwrap();
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await.unwrap();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn an_account_that_asks_too_often_is_told_when_to_come_back() {
    let served = served_with(Limits { account_rate: 10, account_burst: 3, ..Limits::default() }).await;
    for _ in 0..3 {
        assert_eq!(ask(served.address, "GET", "/v1/markets", ADA_TOKEN, "").await.status, 200);
    }
    let answer = ask(served.address, "GET", "/v1/markets", ADA_TOKEN, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "TOO_MANY_REQUESTS"));
    assert_eq!(answer.json()["error"]["retry_after_ms"], 100);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let bob = new_account_token(&served.fake, AccountId(8));
    assert_eq!(ask(served.address, "GET", "/v1/markets", &bob, "").await.status, 200);
    assert_eq!(ask(served.address, "GET", "/v1/markets", OPERATOR_TOKEN, "").await.status, 200);
    served.clock.0.fetch_add(100, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(ask(served.address, "GET", "/v1/markets", ADA_TOKEN, "").await.status, 200);
}

#[tokio::test]
async fn too_much_in_flight_is_a_quick_503() {
    let served = served_with(Limits { in_flight_max: 1, connections_max: 3, ..Limits::default() }).await;
    served.fake.hold(true);
    let mut first = TcpStream::connect(served.address).await.unwrap();
    first.write_all(&request("POST", PLACE, Some(ADA_TOKEN), BET)).await.unwrap();
    while served.fake.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let answer = ask(served.address, "GET", "/v1/markets", ADA_TOKEN, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "BUSY"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let health = send(served.address, &request("GET", "/livez", None, "")).await;
    assert_eq!(health.status, 200, "health is answered all the same");
    served.fake.hold(false);
    assert_eq!(read(&mut first).await.status, 200);
}

#[tokio::test]
async fn bodies_may_not_fill_the_memory() {
    let served = served_with(Limits { body_bytes_in_flight_max: 100, ..Limits::default() }).await;
    let long = format!("{BET}{}", " ".repeat(100));
    let answer = ask(served.address, "POST", PLACE, ADA_TOKEN, &long).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "BUSY"));
    assert_eq!(ask(served.address, "POST", PLACE, ADA_TOKEN, BET).await.status, 200);
}

#[tokio::test]
async fn too_many_connections_are_turned_away() {
    let served = served_with(Limits { connections_max: 1, ..Limits::default() }).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(read(&mut first).await.status, 200);
    let mut second = TcpStream::connect(served.address).await.unwrap();
    let answer = read(&mut second).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["error"]["code"], "BUSY");
}

#[tokio::test]
async fn a_request_id_goes_in_and_out_and_to_the_backend() {
    let served = served().await;
    let text = |id: &str| {
        format!(
            "GET /v1/markets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADA_TOKEN}\r\nx-request-id: {id}\r\n\r\n"
        )
    };
    let answer = send(served.address, text("00000000000000ff").as_bytes()).await;
    assert_eq!(answer.header("x-request-id"), Some("00000000000000ff"));
    assert_eq!(served.fake.last().request_id, 255);
    let answer = send(served.address, text("my-trace").as_bytes()).await;
    assert_eq!(answer.header("x-request-id"), Some("my-trace"));
    let by_name = served.fake.last().request_id;
    send(served.address, text("my-trace").as_bytes()).await;
    assert_eq!(served.fake.last().request_id, by_name);
    let answer = ask(served.address, "GET", "/v1/markets", ADA_TOKEN, "").await;
    assert_eq!(answer.header("x-request-id"), Some(&*RequestId(served.fake.last().request_id).to_string()));
    assert_eq!(served.fake.last().good_until, 1_700_000_010_000);
}

#[tokio::test]
async fn two_bets_of_one_trace_do_not_share_a_reference() {
    let served = served().await;
    let mut references = Vec::new();
    for _ in 0..2 {
        let head = format!(
            "POST {PLACE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADA_TOKEN}\r\nx-request-id: trace\r\n\
             content-length: {}\r\n\r\n{BET}",
            BET.len()
        );
        references.push(send(served.address, head.as_bytes()).await.json()["reference"].clone());
    }
    assert_ne!(references[0], references[1]);
}

#[tokio::test]
async fn an_amount_beyond_all_bounds_is_the_exchanges_to_refuse() {
    let served = served().await;
    let body = r#"{"amount":-5,"reference":"w"}"#;
    served.fake.answer_next(Ok(Response::Done));
    ask(served.address, "POST", "/v1/accounts/7/withdraw", ADA_TOKEN, body).await;
    let Request::Withdraw { amount, .. } = served.fake.last().request else { panic!() };
    assert_eq!(amount, Minor(-5));
    let answer = ask(served.address, "GET", "/v1/markets/100000002", ADA_TOKEN, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "UNKNOWN_MARKET"));
    assert_eq!(MARKET.0, 100_000_001);
}
