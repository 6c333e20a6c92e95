//! Replicas that lost what they had acknowledged: they come back as another incarnation, or not.

use std::collections::BTreeSet;

use stakehold_raft::{CellId, NodeId, RaftId, disk::MemDisk, host::CellStatus};

use crate::support::{
    Cluster,
    tally::{Command, Verdict},
    wire,
};

const BUSY: CellId = CellId(0);
const QUIET: CellId = CellId(1);
const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn status(cluster: &Cluster, node: NodeId, cell: CellId) -> CellStatus {
    cluster.group(node, cell).status()
}

fn id(cluster: &Cluster, node: NodeId, cell: CellId) -> RaftId {
    status(cluster, node, cell).id
}

fn cells(cluster: &Cluster) -> Vec<CellId> {
    cluster.config.cells.all().collect()
}

/// Busy in one cell, a few entries in another; what is returned is the sum.
async fn work(cluster: &Cluster, references: std::ops::Range<u64>) -> i64 {
    let mut sum = 0;
    for reference in references {
        assert!(matches!(cluster.commit(BUSY, Command::Add { reference, n: 3 }).await, Verdict::Done { .. }));
        sum += 3;
        if reference % 40 == 0 {
            cluster.commit(QUIET, Command::Move { reference, to: BUSY, n: 5 }).await;
        }
    }
    sum
}

/// On every node, exactly these replicas vote, nobody else is a member, and nobody complains.
async fn voters_are(cluster: &Cluster, cell: CellId, expected: &[RaftId]) {
    cluster
        .until(&format!("{expected:?} are the voters of {cell}"), |cluster| {
            cluster.hosts.values().all(|host| {
                let status = host.cell(cell).unwrap().status();
                status.voters == expected && status.learners.is_empty() && !host.status().notices.contains_key(&cell)
            })
        })
        .await;
}

async fn everyone_votes(cluster: &Cluster) {
    for cell in cells(cluster) {
        let expected: Vec<RaftId> = cluster.hosts.keys().map(|node| id(cluster, *node, cell)).collect();
        voters_are(cluster, cell, &expected).await;
    }
}

/// Nothing that was addressed to `old` got an answer of more than nothing.
fn assert_mute(tape: &[(NodeId, NodeId, bytes::Bytes)], old: RaftId, cell: CellId) -> usize {
    let asked: BTreeSet<(NodeId, u64)> = tape
        .iter()
        .filter(|(_, to, _)| *to == old.node())
        .flat_map(|(from, _, frame)| wire::messages(frame).into_iter().map(|message| (*from, message)))
        .filter(|(_, m)| m.is_consensus() && !m.reply && m.group == cell.0 && m.target() == old)
        .map(|(from, m)| (from, m.id))
        .collect();
    for (from, to, frame) in tape {
        for m in wire::messages(frame) {
            let answers_it = *from == old.node() && m.reply && m.is_consensus() && asked.contains(&(*to, m.id));
            assert!(!answers_it || m.body.is_empty(), "{old} answered {to}: {m:?}");
        }
    }
    asked.len()
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_rejoins_every_cell_by_log_and_by_snapshot() {
    let mut cluster = Cluster::start(Cluster::config(4, 3)).await;
    let mut sum = work(&cluster, 0..400).await;
    cluster.settle().await;
    cluster.config.found = false;
    cluster.board.record();
    cluster.wipe(N2).await;
    sum += work(&cluster, 400..500).await;
    everyone_votes(&cluster).await;
    let tape = cluster.board.tape();
    let mut mute = 0;
    for cell in cells(&cluster) {
        assert!(id(&cluster, N2, cell).incarnation() > 0, "{cell}");
        assert_eq!(id(&cluster, N1, cell), RaftId::new(N1, 0));
        mute += assert_mute(&tape, RaftId::new(N2, 0), cell);
    }
    assert!(mute > 0, "the others did speak to the old incarnation, and it said nothing");
    let chunks = |cell: CellId| {
        let sent = tape.iter().filter(|(_, to, _)| *to == N2).flat_map(|(_, _, frame)| wire::messages(frame));
        sent.filter(|m| m.kind == wire::SNAPSHOT_CHUNK && !m.reply && m.group == cell.0).count()
    };
    assert!(chunks(BUSY) > 0, "what is far behind gets a snapshot");
    assert_eq!(chunks(QUIET), 0, "what the log still has comes from the log");
    sum += work(&cluster, 500..600).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);

    // It is a voter like any other: with one of the two others away, the cells go on.
    cluster.crash(N1, 1).await;
    sum += work(&cluster, 600..650).await;
    cluster.boot(N1).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_needed_once_and_an_empty_directory_without_one_founds_nothing() {
    let mut config = Cluster::config(2, 3);
    config.found = false;
    let mut cluster = Cluster::start(config).await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    for node in [N1, N2, N3] {
        let status = status(&cluster, node, BUSY);
        assert!(status.voters.is_empty() && status.id.incarnation() > 0, "{status:?}");
    }
    // With a permit, a node knows at once that it begins: a crash before the first entry costs nothing.
    cluster.config.found = true;
    for node in [N1, N2, N3] {
        cluster.crash(node, 1).await;
        cluster.disks.remove(&node);
        cluster.boot(node).await;
        cluster.crash(node, 2).await;
    }
    cluster.config.found = false;
    for node in [N1, N2, N3] {
        cluster.boot(node).await;
        assert_eq!(id(&cluster, node, BUSY), RaftId::new(node, 0));
    }
    let sum = work(&cluster, 0..20).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_rejoined_node_keeps_its_incarnation_and_a_second_loss_gets_a_later_one() {
    let mut cluster = Cluster::start(Cluster::config(2, 3)).await;
    let mut sum = work(&cluster, 0..100).await;
    cluster.config.found = false;
    cluster.wipe(N3).await;
    everyone_votes(&cluster).await;
    let first = id(&cluster, N3, BUSY);
    cluster.crash(N3, 9).await;
    cluster.boot(N3).await;
    assert_eq!(id(&cluster, N3, BUSY), first);
    sum += work(&cluster, 100..200).await;
    everyone_votes(&cluster).await;
    assert_eq!(id(&cluster, N3, BUSY), first);
    cluster.until("it leads what it should", |c| c.group(N3, BUSY).is_leader()).await;
    cluster.board.record();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let tape = cluster.board.tape();
    let asks = tape.iter().flat_map(|(_, _, frame)| wire::messages(frame)).filter(|m| m.kind == wire::JOIN).count();
    assert_eq!(asks, 0, "whoever is a voter asks no longer");
    cluster.wipe(N3).await;
    assert!(id(&cluster, N3, BUSY) > first, "{first}");
    sum += work(&cluster, 200..300).await;
    everyone_votes(&cluster).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);
}

/// The newest segment with records, and the offset of a block half-way through them.
fn middle(disk: &MemDisk) -> (String, usize) {
    let used = |name: &String| disk.contents(name)?.iter().rposition(|byte| *byte != 0);
    let segments = disk.names().into_iter().filter(|name| name.ends_with(".wal"));
    let (segment, end) = segments.filter_map(|name| Some((name.clone(), used(&name)?))).next_back().expect("records");
    (segment, end / 4_096 / 2 * 4_096)
}

#[tokio::test(start_paused = true)]
async fn damage_that_may_be_anyones_brings_back_every_group_of_the_node() {
    let mut cluster = Cluster::start(Cluster::config(4, 3)).await;
    let mut sum = work(&cluster, 0..120).await;
    cluster.settle().await;
    cluster.crash(N2, 1).await;
    let disk = cluster.disks[&N2].clone();
    let (segment, block) = middle(&disk);
    for offset in block..block + 4_096 {
        assert!(disk.flip(&segment, offset, 0x55));
    }
    cluster.boot(N2).await;
    for cell in cells(&cluster) {
        assert!(id(&cluster, N2, cell).incarnation() > 0, "{cell}");
    }
    sum += work(&cluster, 120..240).await;
    everyone_votes(&cluster).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_brings_back_the_groups_it_hit_and_no_other() {
    let mut cluster = Cluster::start(Cluster::config(4, 3)).await;
    let mut sum = work(&cluster, 0..120).await;
    cluster.settle().await;
    cluster.crash(N1, 1).await;
    let disk = cluster.disks[&N1].clone();
    // The body of a batch in the middle, whatever it holds: it was durable, others follow.
    let (segment, block) = middle(&disk);
    assert!(disk.flip(&segment, block + 100, 0x10));
    cluster.boot(N1).await;
    let hit: Vec<CellId> =
        cells(&cluster).into_iter().filter(|cell| id(&cluster, N1, *cell).incarnation() > 0).collect();
    assert!(!hit.is_empty() && hit.len() < 4, "{hit:?}");
    let notices = cluster.host(1).status().notices;
    for cell in &hit {
        assert!(notices[cell].contains(&segment), "the place is named: {}", notices[cell]);
    }
    sum += work(&cluster, 120..240).await;
    everyone_votes(&cluster).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);
    // The log is whole again: the next start finds nothing.
    let ids: Vec<RaftId> = cells(&cluster).into_iter().map(|cell| id(&cluster, N1, cell)).collect();
    cluster.crash(N1, 2).await;
    cluster.boot(N1).await;
    assert_eq!(ids, cells(&cluster).into_iter().map(|cell| id(&cluster, N1, cell)).collect::<Vec<_>>());
    sum += work(&cluster, 240..260).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_that_is_needed_brings_back_its_cell() {
    let mut cluster = Cluster::start(Cluster::config(2, 3)).await;
    let mut sum = work(&cluster, 0..400).await;
    cluster.settle().await;
    cluster.crash(N2, 1).await;
    let disk = cluster.disks[&N2].clone();
    let snapshot = disk.names().into_iter().find(|name| name.starts_with(&format!("snapshots/{}-", BUSY.0)));
    assert!(disk.flip(&snapshot.expect("a snapshot"), 60, 0x01));
    cluster.boot(N2).await;
    assert!(id(&cluster, N2, BUSY).incarnation() > 0);
    assert_eq!(id(&cluster, N2, QUIET), RaftId::new(N2, 0));
    sum += work(&cluster, 400..420).await;
    everyone_votes(&cluster).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);
}

#[tokio::test(start_paused = true)]
async fn two_wiped_nodes_of_three_found_nothing_and_the_third_keeps_its_data() {
    let mut cluster = Cluster::start(Cluster::config(2, 3)).await;
    let mut sum = work(&cluster, 0..130).await;
    cluster.settle().await;
    let before = cluster.group(N3, BUSY).read(|replica| replica.digest());
    cluster.config.found = false;
    // Both at once, or the first would be back before the second is gone.
    cluster.crash(N1, 0).await;
    cluster.crash(N2, 0).await;
    let old = cluster.disks.remove(&N1).unwrap();
    cluster.disks.remove(&N2).unwrap();
    cluster.boot(N1).await;
    cluster.boot(N2).await;
    let says = |cluster: &Cluster, node: u16| {
        let notices = cluster.host(node).status().notices;
        cells(cluster)
            .iter()
            .all(|cell| notices.get(cell).is_some_and(|s| s.contains("has no quorum without") && s.contains("restore")))
    };
    cluster.until("everyone says that there is no quorum", |c| (1..=3).all(|node| says(c, node))).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!((1..=3).all(|node| says(&cluster, node)), "and goes on saying so");
    assert!(
        [N1, N2, N3].iter().all(|node| !cluster.group(*node, BUSY).is_led()),
        "a leader that is only remembered leads nothing"
    );
    for node in [N1, N2] {
        let status = status(&cluster, node, BUSY);
        assert_eq!((status.applied, status.last_log), (0, 0), "nothing was founded: {status:?}");
        assert!(status.voters.is_empty());
    }
    assert_eq!(cluster.group(N3, BUSY).read(|replica| replica.digest()), before);
    assert!(!cluster.group(N1, BUSY).is_leader() && !cluster.group(N2, BUSY).is_leader());

    // As the sentence says: one directory is restored, and the other node is taken in.
    cluster.crash(N1, 0).await;
    cluster.disks.insert(N1, old);
    cluster.boot(N1).await;
    sum += work(&cluster, 130..200).await;
    everyone_votes(&cluster).await;
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);
    assert_eq!(id(&cluster, N1, BUSY), RaftId::new(N1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_ends_a_replacement_that_the_old_one_began() {
    // At which moment the leader dies: the newcomer learns, or both incarnations are voters.
    for joint in [false, true] {
        let mut cluster = Cluster::start(Cluster::config(2, 3)).await;
        let mut sum = work(&cluster, 0..150).await;
        cluster.settle().await;
        cluster.config.found = false;
        // Slow disks, so that every step of the change can be seen.
        for disk in cluster.disks.values() {
            let slow = std::time::Duration::from_millis(25);
            disk.set_faults(stakehold_raft::disk::Faults { sync_delay: (slow, slow), ..Default::default() });
        }
        let old = RaftId::new(N3, 0);
        cluster.wipe(N3).await;
        let new = id(&cluster, N3, BUSY);
        let half_way = |status: &CellStatus| match joint {
            false => status.learners.contains(&new),
            true => status.voters.contains(&new) && status.voters.contains(&old),
        };
        cluster
            .until("the change is half-way", |c| {
                c.hosts.values().any(|h| h.cell(BUSY).is_some_and(|g| g.is_leader() && half_way(&g.status())))
            })
            .await;
        let leader = cluster.leader(BUSY).await;
        cluster.crash(leader, 4).await;
        cluster.boot(leader).await;
        sum += work(&cluster, 150..200).await;
        everyone_votes(&cluster).await;
        cluster.settle().await;
        assert_eq!(cluster.total(), sum);
        assert_eq!(id(&cluster, N3, BUSY), new);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_old_incarnation_said_or_was_told_changes_nothing() {
    let mut cluster = Cluster::start(Cluster::config(2, 3)).await;
    cluster.board.record();
    let sum = work(&cluster, 0..60).await;
    cluster.settle().await;
    let late = cluster.board.tape();
    cluster.config.found = false;
    cluster.wipe(N3).await;
    everyone_votes(&cluster).await;
    let preferred = cluster.config.placement()[&BUSY][0];
    cluster.until("leadership rests", |c| c.group(preferred, BUSY).is_leader()).await;
    let (old, new) = (RaftId::new(N3, 0), id(&cluster, N3, BUSY));
    let facts = |cluster: &Cluster| {
        [N1, N2, N3].map(|node| {
            let s = status(cluster, node, BUSY);
            (s.term, s.last_log, s.applied, s.leader, s.voters)
        })
    };
    cluster.settle().await;
    let before = facts(&cluster);
    let mut injected = 0;
    for (from, to, frame) in late {
        // Messages between cells are another matter: they are counted, and may well come twice.
        if (from == N3 || to == N3) && wire::messages(&frame).iter().all(wire::Message::is_consensus) {
            cluster.board.inject(from, to, frame);
            injected += 1;
        }
    }
    assert!(injected > 0);
    // Requests that every living voter would grant.
    cluster.board.record();
    cluster.board.inject(N3, N1, wire::vote_request(BUSY, 1, old, RaftId::new(N1, 0), 1_000).into());
    cluster.board.inject(N3, N2, wire::vote_request(BUSY, 2, old, RaftId::new(N2, 0), 1_000).into());
    cluster.board.inject(N1, N3, wire::vote_request(BUSY, 3, RaftId::new(N1, 0), old, 1_000).into());
    // In another's name.
    cluster.board.inject(N3, N1, wire::vote_request(BUSY, 4, RaftId::new(N2, 0), RaftId::new(N1, 0), 1_000).into());
    let answers = |tape: &[(NodeId, NodeId, bytes::Bytes)], id: u64| {
        let all = tape.iter().flat_map(|(_, _, frame)| wire::messages(frame));
        all.filter(|m| m.reply && m.kind == wire::VOTE && m.id == id).map(|m| m.body).collect::<Vec<_>>()
    };
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let tape = cluster.board.tape();
    for id in 1..=4 {
        assert_eq!(answers(&tape, id), [Vec::<u8>::new()], "request {id} is answered with nothing");
    }
    assert_mute(&tape, old, BUSY);
    assert_eq!(facts(&cluster), before);
    cluster.settle().await;
    assert_eq!(cluster.total(), sum);

    // The same request of the incarnation that is a voter is granted: the frame is what it seems.
    cluster.board.record();
    cluster.board.inject(N3, N1, wire::vote_request(BUSY, 5, new, RaftId::new(N1, 0), 1_000).into());
    cluster.until("the vote is cast", |c| status(c, N1, BUSY).term >= 1_000).await;
    let granted = answers(&cluster.board.tape(), 5);
    assert_eq!(granted[0].last(), Some(&1), "{granted:?}");
}
