//! The generated sample and a small benchmark against a cluster of three real processes.

use std::{path::Path, sync::Arc, time::Duration};

use stakehold::{
    bench::run::{Mode, Options, Target as Measured, run as measure},
    exchange::Nodes,
    harness::{Cluster, Node, Usage},
    replay::{
        report::Notes,
        run::{Speed, run as replay},
    },
};

#[tokio::test]
async fn a_cluster_of_processes_reproduces_the_sample_and_keeps_every_bet() {
    let program = Path::new(env!("CARGO_BIN_EXE_stakehold"));
    let cluster = Arc::new(Cluster::start(program, 3, &[]).await.unwrap_or_else(|error| panic!("{error}")));
    let target = cluster.target();
    let exchange = Nodes::new(&target, true).unwrap();

    let samples = [Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/two-races")];
    let report = replay(exchange.clone(), 1, &samples, Speed::Max, Arc::new(Notes::default()), &|_, _| {}).await;
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert!(report.counts.percent() >= 99.0 && report.counts.messages == 404, "{report}\n{:?}", report.notes);
    assert!(report.conserved && report.fills > 0, "{report}");

    for (run, mode) in [(2, Mode::Http), (3, Mode::Quic)] {
        let ours = cluster.clone();
        let measured = Measured {
            nodes: cluster.nodes().iter().map(|node| node.http.to_string()).collect(),
            token: target.token.clone().unwrap(),
            exchange: exchange.clone(),
            usage: Box::new(move || ours.nodes().iter().map(Node::usage).collect::<Option<Vec<Usage>>>()),
        };
        let options = Options {
            mode,
            batch: 1,
            wallets: 60,
            markets: 8,
            clients: 6,
            duration: Duration::from_secs(2),
            warm_up: Duration::from_millis(200),
            seed: 1,
            run,
        };
        let report = measure(&measured, &options, &|_, _| {}).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(report.acknowledged > 0 && report.found == report.acknowledged && report.conserved, "{report}");
        assert!(report.cells >= 16 && report.funded_across_cells.is_some_and(|share| share > 0.5), "{report}");
        assert!(report.cpu_us_per_bet.is_some_and(|cpu| cpu > 0.0) && report.fsyncs_per_bet > 0.0, "{report}");
    }
}
