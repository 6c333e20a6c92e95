//! Every route is driven with good input, and its real answer is checked against the OpenAPI
//! document that the same server hands out.

use serde_json::{Value, json};

use super::{
    feeds::{Follower, deltas},
    raw::{ask, request, send},
    served,
};
use crate::{
    fake::OPERATOR_TOKEN,
    http::{
        json::books::FeedEvent,
        routes::{Answer, ROUTES},
    },
};

/// Checks a value against a schema of the document; the sentence says where it does not fit.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/components/schemas/").ok_or(format!("{at}: odd $ref {reference}"))?;
        let target = &document["components"]["schemas"][name];
        if target.is_null() {
            return Err(format!("{at}: the document has no schema {name}"));
        }
        return check(document, target, value, at);
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(options) = schema[key].as_array() {
            if options.iter().any(|option| check(document, option, value, at).is_ok()) {
                return Ok(());
            }
            return Err(format!("{at}: {value} fits none of {schema}"));
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return Err(format!("{at}: a schema without a type: {schema}")),
    };
    let fits = types.iter().any(|kind| match *kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    });
    if !fits {
        return Err(format!("{at}: {value} is not {types:?}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at}: {value} is none of {words:?}"));
    }
    if let Some(items) = value.as_array() {
        for (index, item) in items.iter().enumerate() {
            check(document, &schema["items"], item, &format!("{at}[{index}]"))?;
        }
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(format!("{at}: {name} is missing"));
            }
        }
        for (name, field) in fields {
            let property = &schema["properties"][name];
            if property.is_null() {
                return Err(format!("{at}: the document knows no {name}"));
            }
            check(document, property, field, &format!("{at}.{name}"))?;
        }
    }
    Ok(())
}

/// One good body for each route that takes one.
fn body(name: &str) -> Value {
    match name {
        "place" => json!({"account": 7, "orders": [
            {"runner": 1, "side": "BACK", "price": 350, "size": 1000},
            {"runner": 1, "side": "LAY", "price": 1, "size": 1000, "persistence": "PERSIST", "post_only": true},
        ]}),
        "cancel" => json!({"account": 7, "orders": [{"order": 1}, {"reference": "a", "index": 2, "reduction": 5}]}),
        "replace" => json!({"account": 7, "price": 360}),
        "persistence" => json!({"account": 7, "persistence": "PERSIST"}),
        "cancel_all" => json!({"account": 7, "market": 100_000_001}),
        "heartbeat" => json!({"account": 7, "timeout_ms": 5000}),
        "create_market" => {
            json!({"event": 1, "name": "Winner", "runners": [{"id": 1, "name": "A"}, {"id": 2, "name": "B"}]})
        }
        "in_play" => json!({"bet_delay_s": 3}),
        "settle" => json!({"winners": [1]}),
        "resettle" => {
            json!({"fractions": [{"runner": 1, "numerator": 1, "denominator": 2}, {"runner": 2, "numerator": 1, "denominator": 2}]})
        }
        "void" => json!({"reference": "v-1"}),
        "remove_runner" => json!({"runner": 2, "factor": 20000}),
        "create_account" => json!({"name": "Bob"}),
        "deposit" | "withdraw" => json!({"amount": 1000, "reference": "d-1"}),
        "set_cap" => json!({"cap": 100_000}),
        "set_discount" => json!({"discount_bp": 2_500}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn every_route_answers_as_the_document_says() {
    let served = served().await;
    let document = send(served.address, &request("GET", "/openapi.json", None, "")).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut driven = 0;
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        assert_eq!(operation["operationId"], route.name, "{} {}", route.method, route.path);
        let Answer::Json(status, _) = route.answer else { continue };
        let mut path = route.path.replace("{market}", "100000001").replace("{order}", "9").replace("{account}", "7");
        if route.query.iter().any(|(name, _)| *name == "account") {
            path.push_str("?account=7");
        }
        let body = body(route.name);
        let text = if route.body.is_some() { body.to_string() } else { String::new() };
        if let Some(schema) = operation["requestBody"]["content"]["application/json"].get("schema") {
            check(&document, schema, &body, route.name).unwrap();
        }
        let answer = ask(served.address, route.method.as_str(), &path, OPERATOR_TOKEN, &text).await;
        let expected = if route.name == "withdraw" { 422 } else { status };
        assert_eq!(answer.status, expected, "{} {path}: {}", route.method, answer.body);
        let key = if route.name == "withdraw" { "default".into() } else { status.to_string() };
        let schema = &operation["responses"][&key]["content"]["application/json"]["schema"];
        check(&document, schema, &answer.json(), route.name).unwrap();
        driven += 1;
    }
    assert!(driven >= 28, "only {driven} routes");
}

/// An event as the document describes it: its lines as fields, its `data` read as JSON.
fn event(text: &str) -> Option<Value> {
    let mut event = json!({});
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        event[name] = match name {
            "event" => value.into(),
            "id" | "data" => serde_json::from_str(value).unwrap(),
            _ => return None,
        };
    }
    Some(event)
}

#[tokio::test]
async fn a_feeds_events_are_as_the_document_says() {
    let served = served().await;
    let document = send(served.address, &request("GET", "/openapi.json", None, "")).await.json();
    let operation = &document["paths"]["/v1/markets/{market}/feed"]["get"];
    let schema = &operation["responses"]["200"]["content"]["text/event-stream"]["schema"];
    let mut follower = Follower::connect(&served, None).await;
    while !follower.text.contains("event: image") {
        follower.more().await;
    }
    let pushed = deltas(20);
    for delta in &pushed {
        served.fake.push(delta.clone());
    }
    while !follower.text.contains("id: 30\n") || !follower.text.ends_with("\n\n") {
        follower.more().await;
    }
    let events: Vec<Value> = follower.text.split_terminator("\n\n").filter_map(event).collect();
    let mut kinds = Vec::new();
    for event in &events {
        check(&document, schema, event, "feed").unwrap();
        match serde_json::from_value(event.clone()).unwrap() {
            FeedEvent::Image { id, data } => kinds.push((id, data.sequence, 0)),
            FeedEvent::Delta { id, data } => kinds.push((id, data.sequence, data.levels.len())),
        }
    }
    let expected = pushed.iter().map(|delta| (delta.sequence, delta.sequence, delta.levels.len()));
    assert_eq!(kinds, [(10, 10, 0)].into_iter().chain(expected).collect::<Vec<_>>());
    let mut swapped = events[0].clone();
    swapped["event"] = "delta".into();
    assert!(check(&document, schema, &swapped, "feed").is_err(), "a book is no change");
}

#[tokio::test]
async fn the_document_knows_every_header_that_is_read_and_sent() {
    let served = served().await;
    let document = send(served.address, &request("GET", "/openapi.json", None, "")).await.json();
    let (parameter, header) = ("#/components/parameters/x-request-id", "#/components/headers/x-request-id");
    for path in [parameter, header] {
        assert_eq!(document.pointer(&path[1..]).unwrap()["schema"]["type"], "string", "{path}");
    }
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        let parameters = operation["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|p| p["$ref"] == parameter), "{}", route.name);
        for response in operation["responses"].as_object().unwrap().values() {
            assert_eq!(response["headers"]["x-request-id"]["$ref"], header, "{}", route.name);
        }
        let resumes = parameters.iter().any(|p| p["name"] == "Last-Event-ID" && p["in"] == "header");
        assert_eq!(resumes, route.name == "feed", "{}", route.name);
    }
}

#[tokio::test]
async fn the_check_notices_what_does_not_fit() {
    let served = served().await;
    let document = send(served.address, &request("GET", "/openapi.json", None, "")).await.json();
    let schema = json!({"$ref": "#/components/schemas/Book"});
    let good = ask(served.address, "GET", "/v1/markets/100000001/book", OPERATOR_TOKEN, "").await.json();
    check(&document, &schema, &good, "book").unwrap();
    let broken: [fn(&mut Value); 5] = [
        |book| book["status"] = "OPENED".into(),
        |book| book["sequence"] = "1".into(),
        |book| book["runners"][0]["to_back"][0][0] = 3.5.into(),
        |book| drop(book.as_object_mut().unwrap().remove("market")),
        |book| book["extra"] = 1.into(),
    ];
    for (index, breaking) in broken.iter().enumerate() {
        let mut bad = good.clone();
        breaking(&mut bad);
        assert!(check(&document, &schema, &bad, "book").is_err(), "case {index}: {bad}");
    }
}

#[tokio::test]
async fn winners_alone_make_a_whole_result() {
    use stakehold_actors::{
        api::Request,
        domain::types::{MarketResult, RunnerId, WinFraction},
    };
    let served = served().await;
    ask(served.address, "POST", "/v1/markets/100000001/settle", OPERATOR_TOKEN, r#"{"winners":[2]}"#).await;
    let Request::Settle { result, .. } = served.fake.last().request else { panic!() };
    let share = |numerator| WinFraction { numerator, denominator: 1 };
    assert_eq!(result, MarketResult::Fractions(vec![(RunnerId(1), share(0)), (RunnerId(2), share(1))]));
    let before = served.fake.asked();
    let answer =
        ask(served.address, "POST", "/v1/markets/100000001/settle", OPERATOR_TOKEN, r#"{"winners":[3]}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "INVALID_RUNNER"));
    let calls = served.fake.calls.lock().unwrap();
    assert!(calls[before..].iter().all(|call| matches!(call.request, Request::GetMarket { .. })));
}

#[tokio::test]
async fn a_new_accounts_token_works_at_once_and_only_for_it() {
    let served = served().await;
    let created = ask(served.address, "POST", "/v1/accounts", OPERATOR_TOKEN, r#"{"name":"Bob"}"#).await.json();
    let (account, token) = (created["account"].as_u64().unwrap(), created["token"].as_str().unwrap());
    let own = ask(served.address, "GET", &format!("/v1/accounts/{account}"), token, "").await;
    assert_eq!((own.status, &own.json()["name"]), (200, &"Bob".into()));
    assert_eq!(ask(served.address, "GET", "/v1/accounts/7", token, "").await.status, 403);
    let again = format!(r#"{{"name":"Bob","account":{account}}}"#);
    let answer = ask(served.address, "POST", "/v1/accounts", OPERATOR_TOKEN, &again).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "ACCOUNT_EXISTS"));
    let answer = ask(served.address, "POST", "/v1/accounts/12345/tokens", OPERATOR_TOKEN, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "UNKNOWN_ACCOUNT"));
}

#[tokio::test]
async fn health_and_figures_need_no_token() {
    let served = served().await;
    let get = async |path| send(served.address, &request("GET", path, None, "")).await;
    assert_eq!(get("/livez").await.status, 200);
    assert_eq!(get("/readyz").await.status, 200);
    served.fake.ready.store(false, std::sync::atomic::Ordering::Relaxed);
    let answer = get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "Two cells have no leader yet.\n"));
    let figures = get("/metrics").await;
    for line in [
        "stakehold_leader{cell=\"3\"} 1",
        "stakehold_money_in_flight{cell=\"3\"} -20",
        "stakehold_conservation{cell=\"3\"} 0",
        "stakehold_fsyncs_total 12",
        "stakehold_commit_seconds_count 3",
        "stakehold_queue_depth{queue=\"gateway\"} 4",
        "stakehold_http_requests_total{route=\"livez\",status=\"2xx\"} 1",
        "stakehold_ready 0",
        "# EOF",
    ] {
        assert!(figures.body.lines().any(|l| l == line), "{line} in\n{}", figures.body);
    }
}
