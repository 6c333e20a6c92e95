//! Both clients against real servers: every request arrives as it was asked, every answer comes
//! back as it was given.

use stakehold_actors::{
    api::{ApiError, CancelOrder, MarketDelta, NewOrder, Principal, Request, Response, WhichOrder},
    domain::types::{
        AccountId, MarketDefinition, MarketId, MarketResult, MarketStatus, Minor, OrderId, Persistence, Reference,
        Refusal, RunnerId, Side, WinFraction,
    },
};

use super::*;
use crate::{
    bridge::tests::{Bridged, bridged},
    fake::{ADA, ADA_TOKEN, MARKET, OPERATOR_TOKEN, market_view},
    http::limits::Limits,
};
use futures::StreamExt as _;

fn target(bridged: &Bridged, token: &str) -> Target {
    Target {
        http: format!("http://{}", bridged.served.address),
        quic: Some(format!("localhost:{}", bridged.address.port())),
        token: Some(token.into()),
        ca_pem: Some(bridged.ca_pem.clone()),
        ..Target::default()
    }
}

fn both(bridged: &Bridged, token: &str) -> [Client; 2] {
    let target = target(bridged, token);
    [Client::http(&target).unwrap(), Client::quic(&target).unwrap()]
}

fn reference(text: &str) -> Reference {
    Reference::new(text).unwrap()
}

/// One of each, with every optional field used somewhere.
fn requests() -> Vec<Request> {
    let (account, market, order) = (ADA, MARKET, OrderId::new(0, 9));
    let r = || reference("r-1");
    let new = |price, fill_or_kill| NewOrder {
        runner: RunnerId(1),
        side: Side::Lay,
        price,
        size: Minor(1000),
        persistence: Persistence::Persist,
        fill_or_kill,
        min_fill: fill_or_kill.then_some(Minor(500)),
        post_only: !fill_or_kill,
    };
    let definition = MarketDefinition { market_cap: Some(Minor(9)), ..market_view().definition };
    let half = WinFraction { numerator: 1, denominator: 2 };
    let halves = MarketResult::Fractions(vec![(RunnerId(1), half), (RunnerId(2), half)]);
    vec![
        Request::GetAccount { account },
        Request::Deposit { account, amount: Minor(5), reference: r() },
        Request::Withdraw { account, amount: Minor(5), reference: r() },
        Request::SetAccountCap { account, cap: Some(Minor(7)), reference: r() },
        Request::SetAccountCap { account, cap: None, reference: r() },
        Request::SetAccountDiscount { account, discount_bp: 2_500, reference: r() },
        Request::Statement { account, before: Some(4), limit: 10 },
        Request::Statement { account, before: None, limit: 1000 },
        Request::Heartbeat { account, timeout_ms: 5000 },
        Request::CreateMarket { definition: Box::new(definition), reference: r() },
        Request::ListMarkets,
        Request::GetMarket { market },
        Request::Book { market },
        Request::TurnInPlay { market, bet_delay_s: 3 },
        Request::Settle { market, result: MarketResult::Void, reference: r() },
        Request::Settle { market, result: halves.clone(), reference: r() },
        Request::Resettle { market, result: halves, reference: r() },
        Request::RemoveRunner { market, runner: RunnerId(2), factor: 20_000, reference: r() },
        Request::Place { account, market, reference: r(), orders: vec![new(350, false), new(7, true)] },
        Request::Cancel {
            account,
            market,
            orders: vec![
                CancelOrder { which: WhichOrder::Id(order), reduction: Some(Minor(5)) },
                CancelOrder { which: WhichOrder::Reference(r(), 3), reduction: None },
            ],
        },
        Request::CancelAll { account, market: None },
        Request::CancelAll { account, market: Some(market) },
        Request::Replace { account, market, order, price: 360, reference: r() },
        Request::SetPersistence { account, market, order, persistence: Persistence::Persist },
        Request::ListOrders { account, market: Some(market) },
        Request::ListOrders { account, market: None },
        Request::Status,
        Request::Audit,
    ]
}

#[tokio::test]
async fn every_request_arrives_and_every_answer_comes_back() {
    let bridged = bridged(Limits::default()).await;
    let [http, quic] = both(&bridged, OPERATOR_TOKEN);
    for request in requests() {
        let over_quic = quic.call(request.clone()).await;
        assert_eq!(bridged.fake().last().request, request);
        let before = bridged.fake().asked();
        let over_http = http.call(request.clone()).await;
        assert_eq!(bridged.fake().calls.lock().unwrap()[before].request, request);
        assert_eq!(over_http, over_quic, "{request:?}");
    }
    let open = Request::OpenMarket { market: MARKET };
    let shown = Ok(Response::Market(Box::new(market_view())));
    assert_eq!(http.call(open.clone()).await, shown, "over HTTP the new state is shown");
    assert_eq!(quic.call(open).await, Ok(Response::Done));
}

#[tokio::test]
async fn every_failure_comes_back_as_what_it_was() {
    let bridged = bridged(Limits::default()).await;
    for client in both(&bridged, OPERATOR_TOKEN) {
        for error in [
            ApiError::Refused(Refusal::InsufficientFunds),
            ApiError::Refused(Refusal::UnknownMarket),
            ApiError::Refused(Refusal::Busy),
            ApiError::Invalid("The name is empty.".into()),
            ApiError::Forbidden,
            ApiError::Busy { retry_after_ms: 250 },
            ApiError::DiskFull { retry_after_ms: 1_000 },
            ApiError::Unavailable,
            ApiError::Unknown,
        ] {
            bridged.fake().answer_next(Err(error.clone()));
            let got = client.call(Request::ListMarkets).await;
            let got = match got {
                // The two names of one thing share a code on the wire.
                Err(ClientError::Api(ApiError::Busy { retry_after_ms: 100 })) => ApiError::Refused(Refusal::Busy),
                Err(ClientError::Api(got)) => got,
                other => panic!("{other:?}"),
            };
            assert_eq!(got, error);
        }
    }
    for client in both(&bridged, "sh_op_wrong") {
        assert!(matches!(client.call(Request::ListMarkets).await, Err(ClientError::Unauthorized(_))));
    }
}

#[tokio::test]
async fn an_account_sees_only_its_own_through_either_client() {
    let bridged = bridged(Limits::default()).await;
    for client in both(&bridged, ADA_TOKEN) {
        client.call(Request::GetAccount { account: ADA }).await.unwrap();
        assert_eq!(bridged.fake().last().principal, Principal::Account(ADA));
        let before = bridged.fake().asked();
        for request in [Request::GetAccount { account: AccountId(8) }, Request::Status] {
            assert_eq!(client.call(request).await, Err(ClientError::Api(ApiError::Forbidden)));
        }
        assert_eq!(client.issue_token(ADA).await, Err(ClientError::Api(ApiError::Forbidden)));
        assert_eq!(bridged.fake().asked(), before);
    }
}

#[tokio::test]
async fn accounts_are_created_with_tokens_that_work() {
    let bridged = bridged(Limits::default()).await;
    let Client::Http(http) = &both(&bridged, OPERATOR_TOKEN)[0] else { panic!() };
    let created = http.create_account(None, "Bob".into()).await.unwrap();
    let bob = http.with_token(Some(&created.token));
    assert!(bob.call(Request::GetAccount { account: created.account }).await.is_ok());
    for client in both(&bridged, OPERATOR_TOKEN) {
        let token = client.issue_token(created.account).await.unwrap();
        assert!(Client::quic(&target(&bridged, &token)).unwrap().call(Request::ListMarkets).await.is_ok());
    }
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let bridged = bridged(Limits::default()).await;
    for client in both(&bridged, OPERATOR_TOKEN) {
        let calls = (0..300).map(|n| {
            let client = client.clone();
            let request =
                Request::Deposit { account: AccountId(n), amount: Minor(1), reference: reference(&format!("d-{n}")) };
            async move { (n, client.call(request).await) }
        });
        for (n, answer) in futures::future::join_all(calls).await {
            let Ok(Response::Wallet(receipt)) = answer else { panic!("{answer:?}") };
            assert_eq!(receipt.account, AccountId(n));
        }
    }
}

#[tokio::test]
async fn https_trusts_the_clusters_ca_and_no_other() {
    let bridged = bridged(Limits::default()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::http::server::serve(
        listener,
        Some(bridged.https()),
        std::sync::Arc::clone(&bridged.served.api),
    ));
    let secure = Target { http: format!("https://localhost:{}", address.port()), ..target(&bridged, ADA_TOKEN) };
    assert!(Client::http(&secure).unwrap().call(Request::GetAccount { account: ADA }).await.is_ok());
    let other = crate::pki::Authority::create(crate::identity::ClusterId(2), 1_700_000_000_000).unwrap();
    let wrong = Target { ca_pem: Some(other.cert_pem), ..secure };
    let answer = Client::http(&wrong).unwrap().call(Request::ListMarkets).await;
    assert!(matches!(answer, Err(ClientError::Unreachable { .. })), "{answer:?}");
}

fn delta(sequence: u64) -> MarketDelta {
    MarketDelta {
        market: MARKET,
        sequence,
        at: sequence,
        status: MarketStatus::Open,
        in_play: sequence.is_multiple_of(2),
        levels: vec![],
        trades: vec![],
    }
}

#[tokio::test]
async fn both_clients_follow_a_market() {
    let bridged = bridged(Limits::default()).await;
    let mut sequence = 10;
    for client in both(&bridged, ADA_TOKEN) {
        let unknown = client.feed(MarketId(5)).await.err();
        assert_eq!(unknown, Some(ClientError::Api(ApiError::Refused(Refusal::UnknownMarket))));
        let mut feed = client.feed(MARKET).await.unwrap();
        let Some(Ok(FeedEvent::Image(image))) = feed.next().await else { panic!() };
        assert_eq!(image.sequence, sequence);
        for _ in 0..50 {
            sequence += 1;
            bridged.fake().push(delta(sequence));
            assert_eq!(feed.next().await, Some(Ok(FeedEvent::Delta(delta(sequence)))));
        }
    }
}

#[tokio::test]
async fn a_lost_connection_fails_what_was_in_flight_and_is_made_anew() {
    let bridged = bridged(Limits::default()).await;
    let [_, quic] = both(&bridged, ADA_TOKEN);
    let mut feed = quic.feed(MARKET).await.unwrap();
    feed.next().await.unwrap().unwrap();
    bridged.fake().hold(true);
    let call = tokio::spawn({
        let quic = quic.clone();
        async move { quic.call(Request::ListMarkets).await }
    });
    while bridged.fake().asked() == 0 {
        tokio::task::yield_now().await;
    }
    bridged.cut();
    assert!(matches!(call.await.unwrap(), Err(ClientError::Lost { .. })));
    assert!(matches!(feed.next().await, Some(Err(ClientError::Lost { .. }))));
    assert!(feed.next().await.is_none());
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let nowhere = Target {
        http: "http://127.0.0.1:1".into(),
        quic: None,
        token: Some(ADA_TOKEN.into()),
        ca_pem: None,
        ..Target::default()
    };
    let answer = Client::http(&nowhere).unwrap().call(Request::ListMarkets).await;
    assert!(matches!(answer, Err(ClientError::Unreachable { .. })), "{answer:?}");
    assert!(matches!(Client::quic(&nowhere), Err(ClientError::Setup(_))));
    let https = Target { http: "https://127.0.0.1:1".into(), ..nowhere };
    assert!(matches!(Client::http(&https), Err(ClientError::Setup(text)) if text.contains("STAKEHOLD_CA")));
}
