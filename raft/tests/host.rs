//! A group host of several nodes in one process, with a snapshot every 50 entries.

mod rejoin;
mod support;

use std::{sync::atomic::Ordering, time::Duration};

use stakehold_raft::{
    CellId, NodeId,
    host::{ProposeError, RequestError},
    seam::Clock,
};
use support::{
    Cluster,
    tally::{Command, Effect, Verdict},
};

const CELL: CellId = CellId(0);

#[tokio::test(start_paused = true)]
async fn three_nodes_commit_apply_and_snapshot() {
    let cluster = Cluster::start(Cluster::config(1, 3)).await;
    for reference in 0..300 {
        let verdict = cluster.commit(CELL, Command::Add { reference, n: 2 }).await;
        assert_eq!(verdict, Verdict::Done { total: 2 * (reference as i64 + 1) });
    }
    assert_eq!(cluster.commit(CELL, Command::Add { reference: 7, n: 2 }).await, Verdict::Known);
    cluster.settle().await;
    assert_eq!(cluster.total(), 600);
    cluster
        .until("every replica has a snapshot of the second half", |cluster| {
            cluster.hosts.values().all(|host| host.cell(CELL).unwrap().status().snapshot > 150)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn messages_cross_cells_once_and_outboxes_drain() {
    let cluster = Cluster::start(Cluster::config(4, 3)).await;
    let mut reference = 0;
    for round in 0..150u16 {
        for from in 0..4u16 {
            let to = CellId((from + 1 + round % 3) % 4);
            reference += 1;
            cluster.commit(CellId(from), Command::Move { reference, to, n: i64::from(round) + 1 }).await;
        }
    }
    cluster.settle().await;
    assert_eq!(cluster.total(), 0, "what left one cell arrived in another, once");
    for cell in 0..4 {
        let received: u64 = cluster.group(NodeId(1), CellId(cell)).read(|r| r.machine().received.values().sum());
        assert_eq!(received, 150);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_runs_ahead_leads_nothing_until_it_is_right() {
    let cluster = Cluster::start(Cluster::config(4, 3)).await;
    let fast = cluster.leader(CELL).await;
    cluster.until("the clocks are compared", |cluster| cluster.clock.now_ms() > 1_002_000).await;
    cluster.clocks[&fast].ahead_ms.store(3_600_000, Ordering::Relaxed);
    let mut reference = 0;
    cluster.until("others lead", |cluster| cluster.hosts[&fast].cells().all(|group| !group.is_leader())).await;
    for _ in 0..50 {
        for cell in 0..4 {
            reference += 1;
            let verdict = cluster.commit(CellId(cell), Command::Add { reference, n: 1 }).await;
            assert!(matches!(verdict, Verdict::Done { .. }));
        }
    }
    assert!(cluster.hosts[&fast].status().clock_ahead_ms.is_some_and(|ms| ms > 3_500_000));
    assert!(cluster.hosts[&fast].cells().all(|group| !group.is_leader()), "it was handed leadership again");

    cluster.clocks[&fast].ahead_ms.store(0, Ordering::Relaxed);
    cluster.until("it leads its share again", |cluster| cluster.group(fast, CELL).is_leader()).await;
    assert_eq!(cluster.hosts[&fast].status().clock_ahead_ms, None);
    cluster.settle().await;
    assert_eq!(cluster.total(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_arrives_together_is_one_entry() {
    let cluster = Cluster::start(Cluster::config(1, 3)).await;
    let group = cluster.group(cluster.leader(CELL).await, CELL);
    let before = group.status().applied;
    let proposals: Vec<_> =
        (0..500).map(|reference| group.propose(Command::Add { reference, n: 1 }).expect("room")).collect();
    for proposal in proposals {
        proposal.await.expect("a verdict");
    }
    let entries = group.status().applied - before;
    assert!(entries <= 4, "500 commands that arrived together took {entries} entries");
    assert_eq!(group.read(|replica| replica.machine().total), 500);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_refused_at_once() {
    let mut config = Cluster::config(1, 3);
    (config.max_queue, config.max_round, config.max_in_flight) = (10, 2, 1);
    let cluster = Cluster::start(config).await;
    let group = cluster.group(cluster.leader(CELL).await, CELL);
    let (mut proposals, mut refused) = (Vec::new(), 0);
    for reference in 0..25 {
        match group.propose(Command::Add { reference, n: 1 }) {
            Ok(proposal) => proposals.push(proposal),
            Err(why) => {
                assert_eq!(why, ProposeError::Busy(CELL));
                refused += 1;
            }
        }
    }
    assert_eq!((proposals.len(), refused), (10, 15));
    for proposal in proposals {
        proposal.await.expect("what was taken in is carried out");
    }
    cluster.settle().await;
    assert_eq!(cluster.total(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_command_halts_one_cell_and_no_other() {
    let cluster = Cluster::start(Cluster::config(4, 3)).await;
    cluster.commit(CELL, Command::Add { reference: 1, n: 5 }).await;
    let group = cluster.group(cluster.leader(CELL).await, CELL);
    let poisoned = group.propose(Command::Poison).expect("it is a command like any other").await;
    assert!(poisoned.is_err(), "{poisoned:?}");
    cluster
        .until("the cell has halted on every replica", |cluster| {
            cluster.hosts.values().all(|host| host.cell(CELL).unwrap().status().halted.is_some())
        })
        .await;
    for host in cluster.hosts.values() {
        let halted = host.cell(CELL).unwrap().status().halted.unwrap();
        assert_eq!(halted.message, "poisoned");
        assert_eq!(halted.index, group.status().halted.unwrap().index, "at the same entry everywhere");
    }
    assert!(matches!(group.propose(Command::Add { reference: 2, n: 1 }), Err(ProposeError::Halted)));
    for cell in 1..4 {
        cluster.commit(CellId(cell), Command::Add { reference: 1, n: 1 }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn deadlines_fire_by_themselves_when_due() {
    let cluster = Cluster::start(Cluster::config(1, 3)).await;
    let leader = cluster.leader(CELL).await;
    let now = cluster.group(leader, CELL).read(|replica| replica.stamp()).max(1_000_000);
    let due = now + 20_000;
    cluster.commit(CELL, Command::AddAt { due }).await;
    cluster.commit(CELL, Command::AddAt { due: due + 1_000 }).await;
    cluster.until("both deadlines fire", |cluster| cluster.total() == 2).await;
    cluster.settle().await;
    let fired = cluster.group(leader, CELL).read(|replica| replica.machine().fired_at.clone());
    for (due, at) in fired {
        assert!(at >= due && at < due + 50, "due {due}, fired at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn effects_are_told_in_order_and_a_slow_listener_learns_that_it_lagged() {
    let mut config = Cluster::config(1, 3);
    config.effects_kept = 8;
    let cluster = Cluster::start(config).await;
    let leader = cluster.leader(CELL).await;
    let follower = *cluster.hosts.keys().find(|node| **node != leader).unwrap();
    let mut on_leader = cluster.group(leader, CELL).subscribe();
    let mut on_follower = cluster.group(follower, CELL).subscribe();
    for reference in 0..8 {
        cluster.commit(CELL, Command::Add { reference, n: 1 }).await;
    }
    cluster.settle().await;
    for expected in 1..=8 {
        let (here, there) = (on_leader.next().await.unwrap(), on_follower.next().await.unwrap());
        assert_eq!((here.index, &*here.effects), (there.index, &*there.effects));
        assert_eq!(*here.effects, [Effect::Total(expected)]);
    }
    for reference in 8..40 {
        cluster.commit(CELL, Command::Add { reference, n: 1 }).await;
    }
    assert!(on_leader.next().await.is_err(), "it missed entries");
    assert!(on_leader.next().await.is_ok(), "and goes on from what is kept");
}

#[tokio::test(start_paused = true)]
async fn readers_share_a_read_index_round() {
    let cluster = Cluster::start(Cluster::config(1, 3)).await;
    cluster.commit(CELL, Command::Add { reference: 1, n: 3 }).await;
    let leader = cluster.leader(CELL).await;
    let group = cluster.group(leader, CELL);
    let before = cluster.hosts[&leader].status().mesh.messages_sent;
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move { group.read_index().await.map(|()| group.read(|r| r.machine().total)) })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), Ok(3));
    }
    let messages = cluster.hosts[&leader].status().mesh.messages_sent - before;
    assert!(messages <= 10, "100 readers took {messages} messages");
    for (node, host) in &cluster.hosts {
        if *node != leader {
            let refused = host.cell(CELL).unwrap().read_index().await;
            assert_eq!(refused, Err(stakehold_raft::host::ReadError::NotLeader { leader: Some(leader) }));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leaders_are_spread_and_hand_over_when_a_node_drains() {
    let cluster = Cluster::start(Cluster::config(16, 3)).await;
    for cell in 0..16 {
        cluster.commit(CellId(cell), Command::Add { reference: 1, n: 1 }).await;
    }
    let leads =
        |cluster: &Cluster, node: NodeId| cluster.hosts[&node].cells().filter(|group| group.is_leader()).count();
    cluster
        .until("every node leads its share", |c| [1, 2, 3].iter().all(|n| (4..=7).contains(&leads(c, NodeId(*n)))))
        .await;
    let started = tokio::time::Instant::now();
    cluster.host(1).drain(Duration::from_secs(10)).await;
    assert!(started.elapsed() < Duration::from_secs(5), "hand-over does not wait for elections");
    assert_eq!(leads(&cluster, NodeId(1)), 0);
    for cell in 0..16 {
        cluster.commit(CellId(cell), Command::Add { reference: 2, n: 1 }).await;
    }
    cluster.settle().await;
    assert_eq!(cluster.total(), 32);
}

/// Adds under fresh references until it is told to stop; what was acknowledged is returned.
async fn acknowledged(cluster: &Cluster, cell: CellId, references: std::ops::Range<u64>) -> Vec<u64> {
    let mut done = Vec::new();
    for reference in references {
        cluster.commit(cell, Command::Add { reference, n: 1 }).await;
        done.push(reference);
    }
    done
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_when_all_nodes_restart() {
    let mut cluster = Cluster::start(Cluster::config(2, 3)).await;
    for reference in 0..180 {
        cluster.commit(CELL, Command::Move { reference, to: CellId(1), n: 3 }).await;
    }
    let before = acknowledged(&cluster, CellId(1), 1_000..1_070).await;
    for node in 1..=3 {
        cluster.crash(NodeId(node), 7).await;
    }
    for node in 1..=3 {
        cluster.boot(NodeId(node)).await;
    }
    assert_eq!(cluster.commit(CellId(1), Command::Add { reference: before[0], n: 1 }).await, Verdict::Known);
    cluster.settle().await;
    let (a, b) = (cluster.group(NodeId(1), CELL), cluster.group(NodeId(1), CellId(1)));
    assert_eq!(a.read(|replica| replica.machine().total), -540);
    assert_eq!(b.read(|replica| replica.machine().total), 540 + 70);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_away_catches_up_by_log_and_by_snapshot() {
    let mut cluster = Cluster::start(Cluster::config(1, 3)).await;
    cluster.commit(CELL, Command::Add { reference: 0, n: 1 }).await;
    let leader = cluster.leader(CELL).await;
    let away = *cluster.hosts.keys().find(|node| **node != leader).unwrap();
    let mut reference = 1;
    // A little behind: from the log. Far behind, everything it needs purged: by snapshot.
    for count in [30, 600] {
        cluster.board.cut(away, true);
        for _ in 0..count {
            cluster.commit(CELL, Command::Add { reference, n: 1 }).await;
            reference += 1;
        }
        cluster.board.cut(away, false);
        cluster.settle().await;
    }
    // And one that was not even running.
    cluster.crash(away, 3).await;
    for _ in 0..600 {
        cluster.commit(CELL, Command::Add { reference, n: 1 }).await;
        reference += 1;
    }
    cluster.boot(away).await;
    cluster.settle().await;
    assert_eq!(cluster.group(away, CELL).read(|replica| replica.machine().total), reference as i64);
}

#[tokio::test(start_paused = true)]
async fn leaders_crash_and_no_acknowledged_command_is_lost_or_applied_twice() {
    let mut cluster = Cluster::start(Cluster::config(2, 3)).await;
    let mut done = 0u64;
    for crash in 0..8 {
        let leader = cluster.leader(CELL).await;
        // Commands under way when the leader dies: whoever gets no verdict asks again.
        let group = cluster.group(leader, CELL);
        let under_way: Vec<_> = (done..done + 40)
            .map(|reference| group.propose(Command::Move { reference, to: CellId(1), n: 1 }).expect("room"))
            .collect();
        if crash % 2 == 1 {
            tokio::task::yield_now().await;
        }
        cluster.crash(leader, crash).await;
        let mut unknown = 0;
        for proposal in under_way {
            unknown += usize::from(proposal.await.is_err());
        }
        let started = tokio::time::Instant::now();
        for reference in done..done + 40 {
            cluster.commit(CELL, Command::Move { reference, to: CellId(1), n: 1 }).await;
        }
        let took = started.elapsed();
        assert!(took < Duration::from_secs(3), "the take-over took {took:?} ({unknown} were unknown)");
        done += 40;
        cluster.boot(leader).await;
    }
    cluster.settle().await;
    for node in 1..=3 {
        let total = |cell| cluster.group(NodeId(node), cell).read(|replica| replica.machine().total);
        assert_eq!((total(CELL), total(CellId(1))), (-(done as i64), done as i64));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_says_unknown_and_the_others_go_on() {
    let cluster = Cluster::start(Cluster::config(1, 3)).await;
    cluster.commit(CELL, Command::Add { reference: 0, n: 1 }).await;
    let old = cluster.leader(CELL).await;
    cluster.board.cut(old, true);
    let orphan = cluster.group(old, CELL).propose(Command::Add { reference: 1, n: 100 }).expect("it does not know yet");
    cluster
        .until("another leads", |c| c.hosts.iter().any(|(n, h)| *n != old && h.cell(CELL).unwrap().is_leader()))
        .await;
    let new = *cluster.hosts.keys().find(|n| **n != old && cluster.group(**n, CELL).is_leader()).unwrap();
    cluster.group(new, CELL).propose(Command::Add { reference: 2, n: 1 }).unwrap().await.expect("a quorum is there");
    cluster.board.cut(old, false);
    assert!(orphan.await.is_err(), "nobody heard of it");
    cluster.settle().await;
    assert_eq!(cluster.total(), 2, "what was never committed is nowhere");
}

#[tokio::test(start_paused = true)]
async fn five_nodes_hold_three_replicas_of_each_cell_and_messages_find_their_way() {
    let cluster = Cluster::start(Cluster::config(8, 5)).await;
    for (reference, from) in (0..40u64).zip((0..8u16).cycle()) {
        cluster.commit(CellId(from), Command::Move { reference, to: CellId((from + 3) % 8), n: 1 }).await;
    }
    cluster.settle().await;
    assert_eq!(cluster.total(), 0);
    for host in cluster.hosts.values() {
        assert!(host.cells().count() < 8, "no node holds everything");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_reach_the_layer_above_on_another_node() {
    let cluster = Cluster::start(Cluster::config(1, 3)).await;
    cluster.host(2).serve(|from, body, replier| match &body[..] {
        b"who" => replier.reply(from.to_string().as_bytes()),
        _ => drop(replier),
    });
    let ask = |body: &'static [u8]| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        cluster.host(1).request(NodeId(2), body.into(), deadline)
    };
    assert_eq!(ask(b"who").await.unwrap(), "n1".as_bytes());
    assert_eq!(ask(b"what").await, Err(RequestError::Refused(NodeId(2))));
    cluster.board.cut(NodeId(2), true);
    assert_eq!(ask(b"who").await, Err(RequestError::NotConnected(NodeId(2))));
}

#[tokio::test(start_paused = true)]
async fn an_idle_cell_does_not_keep_the_log_from_shrinking() {
    let mut config = Cluster::config(2, 3);
    config.segment_bytes = 256 << 10;
    config.reserve_bytes = 256 << 10;
    let mut cluster = Cluster::start(config).await;
    cluster.commit(CellId(1), Command::Add { reference: 1, n: 7 }).await;
    for reference in 0..1_500 {
        cluster.commit(CELL, Command::Add { reference, n: 1 }).await;
    }
    // A purge has no sync of its own: it is done with whatever is written next.
    for reference in 1_500..1_510 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.commit(CELL, Command::Add { reference, n: 1 }).await;
    }
    for host in cluster.hosts.values() {
        let log = host.status().log;
        assert!(log.segments <= 5, "old segments are deleted: {log:?}");
    }
    for node in 1..=3 {
        cluster.crash(NodeId(node), 5).await;
    }
    for node in 1..=3 {
        cluster.boot(NodeId(node)).await;
    }
    cluster.commit(CellId(1), Command::Add { reference: 2, n: 1 }).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), 1_510 + 8);
}
