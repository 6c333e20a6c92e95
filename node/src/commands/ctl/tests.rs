//! The commands as a person types them, against a server with the fake backend.

use clap::Parser;
use stakehold_actors::{
    api::{AuditView, CancelReport, LedgerView, NewOrder, WhichOrder},
    domain::types::{MarketId, MarketResult, Minor, OrderId, Persistence, Refusal, RunnerId, Side, WinFraction},
};

use super::*;
use crate::{
    fake::{ADA, ADA_TOKEN, Counting, MARKET, OPERATOR_TOKEN, audit},
    http::tests::{Served, served},
};

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    ctl: CtlArgs,
}

async fn typed(served: &Served, token: &str, line: &str) -> Result<Output, ClientError> {
    let words = std::iter::once("ctl").chain(line.split_whitespace());
    let program = Program::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    let target = Target { http: format!("http://{}", served.address), token: Some(token.into()), ..Target::default() };
    execute(&target, program.ctl.command, &Counting::default()).await
}

async fn operator(served: &Served, line: &str) -> Output {
    typed(served, OPERATOR_TOKEN, line).await.unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory as _;
    Program::command().debug_assert();
}

#[tokio::test]
async fn an_order_goes_out_exactly_as_typed() {
    let served = served().await;
    let line = "orders place 100000001 --account 7 --runner 2 --lay 12.50 --price 3.5 --persist --reference my-1";
    let output = operator(&served, line).await;
    let Request::Place { account, market, reference, orders } = served.fake.last().request else { panic!() };
    assert_eq!((account, market, reference.as_str()), (ADA, MARKET, "my-1"));
    let expected = NewOrder {
        runner: RunnerId(2),
        side: Side::Lay,
        price: 350,
        size: Minor(1250),
        persistence: Persistence::Persist,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
    };
    assert_eq!(orders, [expected]);
    assert!(output.text.contains("12.50 unmatched") && output.text.contains("my-1"), "{}", output.text);
    let json: serde_json::Value = serde_json::from_str(&output.json).unwrap();
    assert_eq!((&json["orders"][0]["size"], output.failed), (&1250.into(), false));
}

#[tokio::test]
async fn a_refused_order_fails_the_command() {
    let served = served().await;
    let output = typed(&served, ADA_TOKEN, "orders place 100000001 --runner 1 --back 0 --price 2").await.unwrap();
    assert!(output.failed && output.text.starts_with("Refused: "), "{}", output.text);
    let error = typed(&served, ADA_TOKEN, "accounts withdraw 7 5.00").await.unwrap_err();
    assert_eq!(error, ClientError::Api(ApiError::Refused(Refusal::InsufficientFunds)));
    assert!(failure(&error).contains(r#""code":"INSUFFICIENT_FUNDS""#));
}

#[tokio::test]
async fn what_a_cancel_says_is_what_has_happened() {
    let served = served().await;
    let unknown = CancelReport { order: None, outcome: Err(Refusal::UnknownOrder) };
    for (line, reports, funds_pending, says) in [
        (
            "orders cancel --all --account 7",
            vec![],
            true,
            "is being cancelled in its markets; `orders list --account 7`",
        ),
        ("orders cancel --all --account 7", vec![], false, "There was nothing to cancel."),
        ("orders cancel --all --market 100000001 --account 7", vec![], false, "There was nothing to cancel."),
        (
            "orders cancel --market 100000001 12345 --account 7",
            vec![unknown],
            false,
            "Order 12345: There is no such order",
        ),
    ] {
        served.fake.answer_next(Ok(Response::Cancelled { reports, funds_pending }));
        let output = operator(&served, line).await;
        assert!(output.text.contains(says), "{line}: {}", output.text);
        assert_eq!(output.text.contains("nothing to cancel"), says.contains("nothing"), "{line}: {}", output.text);
    }
}

#[tokio::test]
async fn an_accounts_token_needs_no_account() {
    let served = served().await;
    for line in ["accounts show", "accounts statement --limit 5", "orders list", "orders cancel --all"] {
        typed(&served, ADA_TOKEN, line).await.unwrap_or_else(|error| panic!("{line}: {error}"));
        let error = typed(&served, OPERATOR_TOKEN, line).await.unwrap_err();
        assert!(error.to_string().contains("--account"), "{line}: {error}");
    }
}

#[tokio::test]
async fn every_command_shows_something_and_gives_json() {
    let served = served().await;
    for (line, words) in [
        ("accounts create --name Bob --deposit 5.00", "sh_acct_"),
        ("accounts show 7", "100.00"),
        ("accounts deposit 7 5.00", "Paid in 5.00"),
        ("accounts statement 7", "2023-11-14 22:13:20Z"),
        ("markets create --name Winner --runner A --runner 7=B --commission 5 --open", "open"),
        ("markets list", "Newmarket"),
        ("markets show 100000001", "Runner 2"),
        ("markets book 100000001", "3.50 × 10.00"),
        ("markets open 100000001", "14:30"),
        ("markets suspend 100000001", "14:30"),
        ("markets in-play 100000001", "14:30"),
        ("markets settle 100000001 --winner 2", "14:30"),
        ("markets resettle 100000001 --fraction 1=1/2 --fraction 2=1/2", "14:30"),
        ("markets void 100000001", "14:30"),
        ("markets remove-runner 100000001 2 --factor 16.2", "14:30"),
        ("markets finalise 100000001", "14:30"),
        ("orders list --account 7 --market 100000001", "3.55"),
        ("orders cancel --market 100000001 5 --account 7 --reduce 1.00", "cancelled 1.00"),
        ("cluster status", "→1: 3"),
        ("ledger audit", "Every penny is accounted for."),
    ] {
        let output = operator(&served, line).await;
        assert!(output.text.contains(words), "{line}: wanted {words:?} in\n{}", output.text);
        assert!(!output.text.contains('\u{1b}'), "{line}: colours without a terminal");
        assert!(serde_json::from_str::<serde_json::Value>(&output.json).is_ok_and(|json| json.is_object()), "{line}");
        assert!(!output.failed, "{line}");
    }
}

#[tokio::test]
async fn what_is_typed_is_what_is_asked() {
    let served = served().await;
    operator(&served, "markets settle 100000001 --winner 2").await;
    let Request::Settle { result, .. } = served.fake.last().request else { panic!() };
    let share = |runner, numerator| (RunnerId(runner), WinFraction { numerator, denominator: 1 });
    assert_eq!(result, MarketResult::Fractions(vec![share(1, 0), share(2, 1)]));
    operator(&served, "markets in-play 100000001").await;
    assert_eq!(served.fake.last().request, Request::TurnInPlay { market: MARKET, bet_delay_s: 5 });
    operator(&served, "markets remove-runner 100000001 2 --factor 16.2").await;
    assert!(matches!(served.fake.last().request, Request::RemoveRunner { factor: 16_200, .. }));
    operator(&served, "orders cancel --market 100000001 5 6 --account 7").await;
    let Request::Cancel { orders, .. } = served.fake.last().request else { panic!() };
    let which: Vec<WhichOrder> = orders.into_iter().map(|order| order.which).collect();
    assert_eq!(which, [WhichOrder::Id(OrderId(5)), WhichOrder::Id(OrderId(6))]);
    operator(&served, "markets create --name W --runner A --runner 1=B --runner C").await;
    let Request::CreateMarket { definition, .. } = served.fake.last().request else { panic!() };
    let numbers: Vec<u64> = definition.runners.iter().map(|runner| runner.id.0).collect();
    assert_eq!((numbers, definition.min_stake), (vec![2, 1, 3], Minor(100)));
    let unknown = typed(&served, OPERATOR_TOKEN, "markets settle 100000001 --winner 9").await.unwrap_err();
    assert!(unknown.to_string().contains("no runner 9"), "{unknown}");
}

#[tokio::test]
async fn books_that_do_not_add_up_fail_the_command() {
    let served = served().await;
    for broken in [
        AuditView { sum: -1, conserved: false, ..audit() },
        AuditView { problems: vec!["Cell 3: margin below exposure.".into()], ..audit() },
    ] {
        served.fake.answer_next(Ok(Response::Audit(Box::new(broken.clone()))));
        let output = operator(&served, "ledger audit").await;
        assert!(output.failed && output.text.contains("DO NOT ADD UP"), "{}", output.text);
        let shown = |ledger: &LedgerView| output.text.contains(&ledger.hash);
        assert!(!broken.ledgers.is_empty() && broken.ledgers.iter().all(shown), "{}", output.text);
        assert!(broken.problems.iter().all(|problem| output.text.contains(problem)));
    }
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    for (line, words) in [
        ("orders place 100000001 --runner 1 --back 10.005 --price 2", "more than 2 digits"),
        ("orders place 100000001 --runner 1 --back -5 --price 2", "unexpected argument"),
        ("orders place 100000001 --runner 1 --back 5 --lay 5 --price 2", "cannot be used with"),
        ("orders place 100000001 --runner 1 --price 2", "--back"),
        ("orders place x --runner 1 --back 5 --price 2", "not the number of a market"),
        ("orders cancel 5", "--market"),
        ("markets settle 100000001", "--winner"),
        ("markets settle 100000001 --winner 1 --void", "cannot be used with"),
        ("accounts deposit 7 1e3", "not a number like 12.34"),
    ] {
        let error = Program::try_parse_from(std::iter::once("ctl").chain(line.split_whitespace())).unwrap_err();
        assert!(error.to_string().contains(words), "{line}: wanted {words:?} in {error}");
    }
    assert_eq!(MarketId(100_000_001), MARKET);
}
