//! One rule of the replay after the other, on recordings written by hand.

use stakehold_actors::{
    api::ApiError,
    domain::types::{MarketResult, RunnerId, WinFraction},
};

use super::{replay, replay_files};
use crate::{client::ClientError, model::Model, recording::generate::Shape, replay::report::Report};

/// A market of three runners, as far as its definition matters.
struct Defined {
    status: &'static str,
    in_play: bool,
    runners: [&'static str; 3],
    extra: &'static str,
}

const OPEN: Defined = Defined { status: "OPEN", in_play: false, runners: ["ACTIVE"; 3], extra: "" };
const CLOSED: Defined = Defined { status: "CLOSED", in_play: true, runners: ["LOSER", "WINNER", "LOSER"], extra: "" };

impl Defined {
    fn text(&self) -> String {
        let runners: Vec<String> = (1..)
            .zip(self.runners)
            .map(|(id, status)| format!(r#"{{"id":{id},"status":"{status}","adjustmentFactor":20.5}}"#))
            .collect();
        format!(
            r#"{{"status":"{}","inPlay":{},"bettingType":"ODDS","marketType":"WIN","numberOfWinners":1,"complete":true,"eventId":"7",{}"runners":[{}]}}"#,
            self.status,
            self.in_play,
            self.extra,
            runners.join(",")
        )
    }
}

/// Lines of a recording of the market `1.1`, a second apart.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn of(definition: &Defined, runners: &str) -> Self {
        Lines::default().with(definition, runners)
    }

    fn raw(mut self, line: &str) -> Self {
        self.0.push(line.to_owned());
        self
    }

    fn change(self, change: &str) -> Self {
        let time = 1_000 * self.0.len();
        self.raw(&format!(r#"{{"op":"mcm","pt":{time},"mc":[{change}]}}"#))
    }

    fn with(self, definition: &Defined, runners: &str) -> Self {
        self.change(&format!(r#"{{"id":"1.1","marketDefinition":{},"rc":[{runners}]}}"#, definition.text()))
    }

    fn rc(self, runners: &str) -> Self {
        self.change(&format!(r#"{{"id":"1.1","rc":[{runners}]}}"#))
    }

    fn replay(self) -> (Report, std::sync::Arc<Model>) {
        replay(self.0.join("\n").as_bytes())
    }

    /// (messages, crossed, reproduced, orders, cancels, fills)
    fn figures(self) -> (u64, u64, u64, u64, u64, u64) {
        let (report, _) = self.replay();
        let counts = &report.counts;
        (counts.messages, counts.crossed, counts.reproduced, report.orders, report.cancels, report.fills)
    }
}

#[test]
fn a_size_that_grows_is_an_order_and_one_that_shrinks_a_cancel() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10]],"atl":[[3.1,5]]}"#)
        .rc(r#"{"id":1,"atb":[[3,12.5]]}"#)
        .rc(r#"{"id":1,"atb":[[3,4]],"atl":[[3.1,0]]}"#)
        .with(&CLOSED, "");
    // Three orders; the reduction to 4 takes the newest order whole and part of the oldest.
    assert_eq!(lines.figures(), (4, 0, 4, 3, 3, 0));
}

#[test]
fn a_size_that_shrinks_where_volume_grew_is_a_trade() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10],[2.9,10]]}"#)
        .rc(r#"{"id":1,"atb":[[3,4]],"trd":[[3,6]]}"#)
        .rc(r#"{"id":1,"atb":[[3,0],[2.9,7]],"trd":[[3,10],[2.9,2]]}"#)
        .with(&CLOSED, "");
    // Two makers; 6 @ 3 are taken, then 4 @ 3 and 2 @ 2.90 in one go, and 1 @ 2.90 is cancelled.
    assert_eq!(lines.figures(), (4, 0, 4, 2 + 2, 1, 3));
}

#[test]
fn a_trade_behind_a_better_price_is_a_cancel() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10],[2.9,10]],"atl":[[4,10],[4.1,10]]}"#)
        .rc(r#"{"id":1,"atb":[[2.9,4]],"atl":[[4.1,3]],"trd":[[2.9,6],[4.1,7]]}"#)
        .with(&CLOSED, "");
    assert_eq!(lines.figures(), (3, 0, 3, 4, 2, 0));
}

#[test]
fn both_sides_trade_in_one_message() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10]],"atl":[[3.5,10]]}"#)
        .rc(r#"{"id":1,"atb":[[3,9]],"atl":[[3.5,9]],"trd":[[3,1],[3.5,1]]}"#)
        .with(&CLOSED, "");
    assert_eq!(lines.figures(), (3, 0, 3, 4, 0, 2));
}

#[test]
fn odds_that_move_through_each_other_in_one_message_do_not_match() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10]],"atl":[[3.1,10]]}"#)
        .rc(r#"{"id":1,"atb":[[3,0],[4,20]]},{"id":1,"atl":[[4.1,20]]},{"id":1,"atl":[[3.1,0]]}"#)
        .rc(r#"{"id":1,"atl":[[2,20]],"atb":[[1.5,3]]},{"id":1,"atb":[[4,0]],"atl":[[4.1,0]]}"#)
        .with(&CLOSED, "");
    assert_eq!(lines.figures(), (4, 0, 4, 6, 4, 0));
}

#[test]
fn a_crossed_message_is_counted_and_the_next_one_brings_only_differences() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10],[2,10]],"atl":[[3.1,10]]},{"id":2,"atb":[[5,10]]}"#)
        .rc(r#"{"id":1,"atb":[[3.1,4]]}"#)
        .rc(r#"{"id":1,"atl":[[3.1,0],[3.2,1]]}"#)
        .with(&CLOSED, "");
    let (report, _) = lines.replay();
    assert_eq!((report.counts.crossed, report.counts.reproduced, report.resynchronised), (1, 3, 1));
    assert_eq!((report.orders, report.cancels, report.fills), (4 + 2, 1, 0));
    assert!(report.notes.iter().any(|note| note.contains("back in line") && note.contains("line 3")));
}

#[test]
fn an_image_sent_again_touches_nothing_that_is_the_same() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10],[2,10]]}"#)
        .change(r#"{"id":"1.1","img":true,"rc":[{"id":1,"atb":[[3,10]]},{"id":2,"atl":[[7,3]]}]}"#)
        .with(&CLOSED, "");
    assert_eq!(lines.figures(), (3, 0, 3, 3, 1, 0));
}

#[test]
fn offers_whose_liability_rounds_to_nothing_in_pennies_make_money_finer() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[1.02,0.21],[1.01,0.01]],"atl":[[1.5,0.01]]}"#)
        .rc(r#"{"id":1,"atb":[[1.02,0.22]]}"#)
        .rc(r#"{"id":1,"atb":[[1.02,0.01]]}"#)
        .with(&CLOSED, "");
    assert_eq!(lines.figures(), (4, 0, 4, 4, 2, 0));
}

#[test]
fn an_addition_too_small_for_an_order_of_its_own_joins_the_newest() {
    // In pennies 0.30 @ 1.01 has no liability, 1.30 has.
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[1.01,1]]}"#)
        .rc(r#"{"id":1,"atb":[[1.01,1.30]]}"#)
        .rc(r#"{"id":1,"atb":[[1.01,5]]}"#)
        .rc(r#"{"id":1,"atb":[[1.01,1.60]]}"#)
        .with(&CLOSED, "");
    // 1.00; 1.30 in its stead; 3.70 more; and 1.60 in one piece, for 1.30 and 0.30 would not do.
    assert_eq!(lines.figures(), (5, 0, 5, 4, 3, 0));
}

#[test]
fn an_offer_off_the_ladder_is_named_and_the_rest_goes_on() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3.07,10],[2,10]],"trd":[[8.18,5]]}"#)
        .rc(r#"{"id":1,"atb":[[3.07,0]]}"#)
        .with(&CLOSED, "");
    let (report, _) = lines.replay();
    assert_eq!((report.counts.messages, report.counts.reproduced, report.orders), (3, 2, 1));
    assert_eq!(report.counts.unreproduced["an offer at a price that is not on the ladder"], 1);
}

#[test]
fn a_cluster_that_does_not_do_what_it_says_is_found_out() {
    let text = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10]]}"#).rc(r#"{"id":1,"atb":[[2.9,10]]}"#).with(&CLOSED, "").0;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, text.join("\n").as_bytes()).unwrap();
    let exchange = std::sync::Arc::new(Model::default());
    exchange.short();
    let report = replay_files(exchange, &[file.path().to_owned()]);
    assert_eq!((report.counts.messages, report.counts.reproduced), (3, 1));
    assert!(report.counts.unreproduced["the cluster's book differs from the recorded one"] > 0);
}

#[test]
fn an_in_play_turn_keeps_what_the_recording_keeps() {
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10],[2,10]]}"#)
        .with(&Defined { in_play: true, ..OPEN }, r#"{"id":1,"atb":[[3,0]]}"#)
        .rc(r#"{"id":1,"atb":[[2.5,10]]}"#)
        .with(&CLOSED, "");
    assert_eq!(lines.figures(), (4, 0, 4, 3, 1, 0));
}

#[test]
fn a_removal_that_leaves_lays_standing_counts_once_and_is_made_good() {
    let removed = Defined { status: "SUSPENDED", runners: ["ACTIVE", "ACTIVE", "REMOVED"], ..OPEN };
    let lines = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10]],"atl":[[4,10]]},{"id":3,"atb":[[5,10]],"atl":[[6,10]]}"#)
        .with(&removed, "")
        .with(&Defined { status: "OPEN", ..removed }, "")
        .with(&Defined { runners: ["LOSER", "WINNER", "REMOVED"], ..CLOSED }, "");
    let (report, exchange) = lines.replay();
    assert_eq!((report.counts.messages, report.counts.reproduced), (4, 3), "{:?}", report.counts);
    let named = |reason: &String| reason.contains("cancelled offers that the recording kept");
    assert!(report.counts.unreproduced.keys().all(named));
    let MarketResult::Fractions(fractions) = &exchange.results()[0].1 else { panic!("a winner is named") };
    assert_eq!(fractions.iter().map(|(runner, _)| runner.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn offers_recorded_while_suspended_are_made() {
    let suspended = Defined { status: "SUSPENDED", ..OPEN };
    let lines = Lines::of(&suspended, r#"{"id":1,"atb":[[3,10]]}"#)
        .rc(r#"{"id":1,"atb":[[2.9,10]]}"#)
        .rc(r#"{"id":1,"atb":[[3,2]],"trd":[[3,8]]}"#)
        .with(&OPEN, "")
        .with(&CLOSED, "");
    let (report, _) = lines.replay();
    assert_eq!((report.counts.messages, report.counts.reproduced, report.fills), (5, 5, 0));
    assert!(
        report.notes.iter().any(|note| note.starts_with("1 times a suspended market was opened")),
        "{:?}",
        report.notes
    );
}

#[test]
fn the_recorded_winner_is_settled() {
    let (_, exchange) = Lines::of(&OPEN, "").with(&CLOSED, "").with(&CLOSED, "").replay();
    let whole = |numerator| WinFraction { numerator, denominator: 1 };
    let expected =
        MarketResult::Fractions(vec![(RunnerId(1), whole(0)), (RunnerId(2), whole(1)), (RunnerId(3), whole(0))]);
    assert_eq!(exchange.results().into_iter().map(|(_, result)| result).collect::<Vec<_>>(), [expected]);
}

#[test]
fn results_out_of_the_ordinary() {
    let share = |numerator, denominator| WinFraction { numerator, denominator };
    let cases = [
        ("a dead heat", ["WINNER", "WINNER", "LOSER"], Some([share(1, 2), share(1, 2), share(0, 1)])),
        ("nobody won", ["LOSER", "LOSER", "LOSER"], None),
        ("no result", ["ACTIVE", "ACTIVE", "ACTIVE"], None),
    ];
    for (name, runners, fractions) in cases {
        let (report, exchange) =
            Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10]]}"#).with(&Defined { runners, ..CLOSED }, "").replay();
        let expected = fractions.map_or(MarketResult::Void, |fractions| {
            MarketResult::Fractions((1..).map(RunnerId).zip(fractions).collect())
        });
        assert_eq!(exchange.results()[0].1, expected, "{name}");
        assert_eq!(report.counts.reproduced, 2, "{name}");
        assert_eq!(fractions.is_none(), report.notes.iter().any(|note| note.contains("void")), "{name}");
    }
}

#[test]
fn a_corrected_result_is_settled_again() {
    let corrected = Defined { runners: ["WINNER", "LOSER", "LOSER"], ..CLOSED };
    let (report, exchange) = Lines::of(&OPEN, "").with(&CLOSED, "").with(&corrected, "").replay();
    assert_eq!((report.counts.reproduced, exchange.results().len()), (3, 2));
}

#[test]
fn a_recording_that_ends_early_is_void() {
    let (report, exchange) = Lines::of(&OPEN, r#"{"id":1,"atb":[[3,10]]}"#).replay();
    assert_eq!((report.counts.reproduced, &exchange.results()[0].1), (1, &MarketResult::Void));
    assert!(report.notes.iter().any(|note| note.contains("ends without a result")));
}

#[test]
fn markets_of_other_kinds_are_named_and_skipped() {
    let kinds = [
        (r#""bettingType":"ASIAN_HANDICAP_DOUBLE_LINE","runners":[{"id":1}]"#, "ASIAN_HANDICAP_DOUBLE_LINE"),
        (r#""bettingType":"LINE","runners":[{"id":1}]"#, "LINE"),
        (r#""priceLadderDefinition":{"type":"FINEST"},"runners":[{"id":1}]"#, "FINEST"),
        (r#""runners":[{"id":1,"hc":-1.5}]"#, "handicaps"),
        (r#""marketType":"EACH_WAY","runners":[{"id":1}]"#, "each-way"),
        (r#""runners":[]"#, "no runners"),
        (r#""runners":[{"id":1}]},"rc":[{"id":1,"batb":[[0,3,1]]}],"was":{"rc":[]"#, "best offers"),
    ];
    let mut lines = Lines::default();
    for (n, (kind, _)) in kinds.iter().enumerate() {
        let other = format!(r#"{{"id":"2.{n}","marketDefinition":{{"status":"OPEN",{kind}}}}}"#);
        lines = lines.change(&other);
    }
    let lines = lines
        .change(r#"{"id":"3.1","rc":[{"id":1,"atb":[[3,1]]}]}"#)
        .with(&OPEN, r#"{"id":1,"atb":[[3,10]]}"#)
        .with(&CLOSED, "");
    let (report, _) = lines.replay();
    let file = &report.files[0];
    assert_eq!((file.markets, file.messages_skipped, report.counts.messages, report.orders), (1, 8, 2, 1));
    for (n, (_, named)) in kinds.iter().enumerate() {
        assert!(file.skipped[&format!("2.{n}")].contains(named), "{named}: {:?}", file.skipped);
    }
    assert!(file.skipped["3.1"].contains("no definition"));
}

#[test]
fn lines_that_make_no_sense_are_named_and_passed_over() {
    let lines = Lines::default()
        .raw(r#"{"op":"connection","connectionId":"1"}"#)
        .raw("not json")
        .raw(r#"{"op":"mcm","mc":[]}"#)
        .raw(r#"{"op":"mcm","pt":1,"mc":[{"id":"1.1","rc":[{"id":1,"atb":[["x",1]]}]}]}"#)
        .raw(r#"{"op":"mcm","pt":1,"mc":[{"id":"1.1","rc":[{"id":1,"atb":[[3,-1]]}]}]}"#)
        .raw("")
        .raw(r#"{"op":"mcm","pt":1,"ct":"HEARTBEAT"}"#)
        .with(&OPEN, r#"{"id":1,"atb":[[3,10]]}"#)
        .with(&CLOSED, "");
    let (report, _) = lines.replay();
    let file = &report.files[0];
    assert_eq!((file.lines_unreadable, report.counts.messages, report.counts.reproduced), (4, 3, 3));
    for line in [2, 3, 4, 5] {
        assert!(report.notes.iter().any(|note| note.contains(&format!("line {line} "))), "{:?}", report.notes);
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error_that_names_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let exchange = std::sync::Arc::new(Model::default());
    let files = ["/nowhere/recording".into()];
    let notes = std::sync::Arc::default();
    let replay = crate::replay::run::run(exchange, 1, &files, crate::replay::run::Speed::Max, notes, &|_, _| {});
    let error = runtime.block_on(replay).unwrap_err().to_string();
    assert!(error.contains("/nowhere/recording cannot be read"), "{error}");
}

#[test]
fn a_message_that_changes_two_markets_is_reproduced_when_both_are() {
    let other = |text: &str| format!(r#"{{"id":"1.2","marketDefinition":{},"rc":[{text}]}}"#, OPEN.text());
    let both = |first: &str, second: &str| format!(r#"{{"id":"1.1","rc":[{first}]}},{}"#, other(second));
    let lines = Lines::of(&OPEN, "")
        .change(&both(r#"{"id":1,"atb":[[3,10]]}"#, r#"{"id":1,"atb":[[3.07,10]]}"#))
        .change(&both(r#"{"id":1,"atb":[[4,10]]}"#, r#"{"id":1,"atb":[[3.07,0],[3,1]]}"#))
        .with(&CLOSED, "");
    let (report, exchange) = lines.replay();
    assert_eq!((report.counts.messages, report.counts.reproduced, exchange.results().len()), (4, 3, 2));
}

#[test]
fn calls_that_meet_trouble_are_made_again_and_nothing_is_lost() {
    let text = super::generated(Shape { seed: 5, messages: 200, markets: 2, runners: 5 });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &text).unwrap();
    for error in [ApiError::Busy { retry_after_ms: 3 }, ApiError::Unavailable, ApiError::Unknown] {
        let exchange = std::sync::Arc::new(Model::default());
        exchange.trouble(7, ClientError::Api(error.clone()));
        let report = replay_files(exchange, &[file.path().to_owned()]);
        assert_eq!(report.counts.reproduced, report.counts.messages, "{error}: {:?}", report.counts);
    }
}

#[test]
fn a_feed_that_skips_a_change_is_asked_for_again() {
    let text = super::generated(Shape { seed: 6, messages: 200, markets: 2, runners: 5 });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &text).unwrap();
    let exchange = std::sync::Arc::new(Model::default());
    exchange.gaps(5);
    let report = replay_files(exchange, &[file.path().to_owned()]);
    let unseen: u64 = report.counts.unreproduced.values().sum();
    assert!(report.counts.unreproduced.keys().all(|why| why.contains("skipped changes")), "{:?}", report.counts);
    assert!(unseen > 0 && report.counts.reproduced + unseen == report.counts.messages && report.resynchronised > 0);
    assert!(report.notes.iter().any(|note| note.contains("had to be asked for again")), "{:?}", report.notes);
}
