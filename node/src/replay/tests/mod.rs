//! Whole recordings against an exchange in this process.

mod rules;

use std::{
    future::pending,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use proptest::prelude::*;
use stakehold_actors::{
    api::{Request, Response},
    domain::types::MarketId,
};
use tokio::time::timeout;

use super::{
    report::{Notes, Report},
    run::{Speed, run},
};
use crate::{
    client::{ClientError, Feed},
    exchange::Exchange,
    model::Model,
    recording::generate::{Shape, generate},
};

fn replay_files(exchange: Arc<Model>, files: &[PathBuf]) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime
        .block_on(run(exchange, 1, files, Speed::Max, Arc::new(Notes::default()), &|_: &Path, _| {}))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn replay(text: &[u8]) -> (Report, Arc<Model>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    let exchange = Arc::new(Model::default());
    (replay_files(exchange.clone(), &[file.path().to_owned()]), exchange)
}

/// Every file in the folder that the environment names; a folder may hold licences and catalogues
/// beside the recordings.
#[test]
fn recordings_of_the_folder_that_the_environment_names_are_reproduced() {
    let Ok(folder) = std::env::var("STAKEHOLD_RECORDINGS") else {
        println!("skipped: set STAKEHOLD_RECORDINGS to a folder of recordings to replay them all");
        return;
    };
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files);
    files.sort();
    let mut replayed = 0;
    for file in files {
        let report = replay_files(Arc::new(Model::default()), std::slice::from_ref(&file));
        if report.counts.messages == 0 {
            continue;
        }
        replayed += 1;
        println!("{report}");
        for note in report.notes.iter().take(12) {
            println!("    {note}");
        }
        assert!(report.counts.percent() >= 99.0, "{}: {:?}", file.display(), report.counts);
    }
    assert!(replayed > 0, "{folder} holds no recording");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

fn generated(shape: Shape) -> Vec<u8> {
    let mut text = Vec::new();
    generate(shape, &mut text).unwrap();
    text
}

/// `stakehold replay --generate 7 --messages 400 --runners 5 > node/samples/two-races`
#[test]
fn the_sample_is_what_the_generator_makes_and_is_reproduced() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/two-races");
    let sample = std::fs::read(&path).unwrap();
    assert!(sample.len() <= 200_000, "{} bytes", sample.len());
    assert!(sample == generated(Shape { seed: 7, messages: 400, markets: 2, runners: 5 }), "generate it again");
    let report = replay_files(Arc::default(), &[path]);
    assert_eq!((report.counts.reproduced, report.counts.messages), (404, 404), "{report}");
    assert!(report.fills > 0 && report.conserved, "{report}");
}

#[test]
fn the_json_object_has_the_fields_that_were_promised() {
    let (report, _) = replay(&generated(Shape { seed: 3, messages: 50, markets: 1, runners: 4 }));
    let json = serde_json::to_value(&report).unwrap();
    for field in ["messages", "crossed", "reproduced", "orders", "fills"] {
        assert!(json[field].is_u64(), "{field}");
    }
    for field in ["orders_per_second", "p50_ms", "p99_ms"] {
        assert!(json[field].is_number(), "{field}");
    }
    assert_eq!((&json["audit_sum"], &json["conserved"]), (&0.into(), &true.into()));
    assert!(json["unreproduced"].is_object() && json["files"][0]["messages"].is_u64());
}

/// Answers nothing from a certain moment on, like a cluster that is going down.
struct Leaving(Arc<Model>, AtomicBool);

impl Exchange for Leaving {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>> {
        if self.1.load(Ordering::Relaxed) { pending().boxed() } else { self.0.call(request) }
    }

    fn feed(&self, market: MarketId) -> BoxFuture<'_, Result<Feed, ClientError>> {
        self.0.feed(market)
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_given_up_lets_go_of_the_cluster() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&generated(Shape { seed: 3, messages: 200, markets: 2, runners: 4 })).unwrap();
    let (files, progress) = ([file.path().to_owned()], |_: &Path, _| {});
    let exchange = Arc::new(Leaving(Arc::default(), AtomicBool::new(false)));
    let replay = run(exchange.clone(), 1, &files, Speed::Times(1.0), Arc::new(Notes::default()), &progress);
    assert!(timeout(Duration::from_secs(10), replay).await.is_err(), "the recording is longer");
    assert!(Arc::strong_count(&exchange) > 1, "markets are being replayed");
    exchange.1.store(true, Ordering::Relaxed);
    // Of virtual time, in which a drain waits for nobody: whatever holds on longer would hold it up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&exchange), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_generated_recording_is_reproduced_message_by_message(
        seed in any::<u64>(), messages in 10_u32..400, markets in 1_u32..4, runners in 2_u32..9,
    ) {
        let (report, _) = replay(&generated(Shape { seed, messages, markets, runners }));
        prop_assert_eq!(report.counts.reproduced, report.counts.messages, "{:?} {:?}", report.counts, report.notes);
    }
}
