//! Who may use a data directory, and what is left untouched when it may not be used.

use super::*;
use std::collections::BTreeMap;

const OURS: ClusterId = ClusterId(0xa1);
const N1: NodeId = NodeId(1);

fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = files::list(path).unwrap().unwrap_or_default();
    names
        .into_iter()
        .filter(|n| n != LOCK)
        .map(|n| (n.clone(), files::read(&path.join(&n)).unwrap().unwrap()))
        .collect()
}

fn refused(path: &Path, cluster: ClusterId, node: NodeId) -> String {
    let before = contents(path);
    let error = DataDir::open(path, cluster, node).unwrap_err().to_string();
    assert_eq!(contents(path), before, "untouched");
    error
}

#[test]
fn a_permit_lets_a_node_found_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    grant_permit(&path, OURS, N1).unwrap();
    let mut data = DataDir::open(&path, OURS, N1).unwrap();
    assert_eq!(data.standing(), Standing::MayFound);
    data.begin_founding().unwrap();
    assert!(!path.join(PERMIT).exists(), "consumed");
    drop(data);
    let mut data = DataDir::open(&path, OURS, N1).unwrap();
    assert_eq!(data.standing(), Standing::Founding, "cut short: goes on");
    data.settled().unwrap();
    drop(data);
    assert_eq!(DataDir::open(&path, OURS, N1).unwrap().standing(), Standing::Member);
    grant_permit(&path, OURS, N1).unwrap();
    assert_eq!(DataDir::open(&path, OURS, N1).unwrap().standing(), Standing::Member);
    assert!(!path.join(PERMIT).exists(), "a permit beside data is spent, not kept for later");
}

#[test]
fn a_wiped_directory_can_only_rejoin_and_the_others_data_stays() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (1..=3).map(|n| dir.path().join(format!("n{n}"))).collect();
    for (i, path) in paths.iter().enumerate() {
        let node = NodeId(i as u16 + 1);
        grant_permit(path, OURS, node).unwrap();
        let mut data = DataDir::open(path, OURS, node).unwrap();
        data.begin_founding().unwrap();
        data.settled().unwrap();
        files::create(&path.join("a-bet"), b"10 on the nose", files::PUBLIC).unwrap();
    }
    let before = contents(&paths[0]);
    for path in &paths[1..] {
        std::fs::remove_dir_all(path).unwrap();
    }
    for (i, path) in paths.iter().enumerate() {
        let standing = DataDir::open(path, OURS, NodeId(i as u16 + 1)).unwrap().standing();
        assert_eq!(standing, if i == 0 { Standing::Member } else { Standing::RejoinOnly });
    }
    assert_eq!(contents(&paths[0]), before);
    assert!(Standing::RejoinOnly.sentence().contains("no founding permit"));
}

#[test]
#[should_panic(expected = "only a permit lets a node found")]
fn nothing_is_founded_without_a_permit() {
    let dir = tempfile::tempdir().unwrap();
    let _ = DataDir::open(dir.path(), OURS, N1).unwrap().begin_founding();
}

#[test]
fn what_is_not_this_nodes_is_refused_and_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    grant_permit(&path, OURS, N1).unwrap();
    let shown = path.display().to_string();
    let other = ClusterId(0xb2);
    let says = |rest: &str| format!("The data directory {shown} {rest}; set `data` to this node's own directory.");
    let cluster = says(&format!("belongs to cluster {OURS}, and this node is of cluster {other}"));
    let node = says("belongs to n1, and this node is n2");
    assert_eq!(refused(&path, other, N1), cluster, "by its permit");
    assert_eq!(refused(&path, OURS, NodeId(2)), node);
    DataDir::open(&path, OURS, N1).unwrap().begin_founding().unwrap();
    assert_eq!(refused(&path, other, N1), cluster, "by its identity");
    assert_eq!(refused(&path, OURS, NodeId(2)), node);

    let identity = path.join(IDENTITY);
    for (text, says) in [
        ("{\"format\": 2, \"shape\": \"unknown\"}", "was written by a newer version (format 2, this program knows 1)"),
        ("{\"format\": 1}", "identity.json is damaged (missing field `cluster`"),
        ("{\"format\": 1, \"clu", "identity.json is damaged (EOF"),
        ("", "identity.json is damaged (EOF"),
    ] {
        files::replace(&identity, text.as_bytes(), files::PUBLIC).unwrap();
        let error = refused(&path, OURS, N1);
        assert!(error.contains(says) && error.contains(&shown), "{error}");
    }
    files::remove(&identity).unwrap();
    files::create(&path.join("accounts.xls"), b"1,2", files::PUBLIC).unwrap();
    assert!(refused(&path, OURS, N1).contains("holds files but no identity.json"));
    let file = path.join("accounts.xls");
    let error = DataDir::open(&file, OURS, N1).unwrap_err().to_string();
    assert!(error.starts_with(&format!("The data directory {} cannot be used: ", file.display())), "{error}");
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::open(dir.path(), OURS, N1).unwrap();
    let error = DataDir::open(dir.path(), OURS, N1).unwrap_err().to_string();
    let (shown, pid) = (dir.path().display(), std::process::id());
    let says = format!(
        "The data directory {shown} is in use by process {pid}; stop that first, or set `data` to another directory."
    );
    assert_eq!(error, says);
    drop(held);
    DataDir::open(dir.path(), OURS, N1).unwrap();
}

mod founding_record {
    use super::{super::founding::*, *};
    use stakehold_raft::Cells;

    fn founding() -> Founding {
        let member = |n: u16| Member {
            id: NodeId(n),
            quic: format!("10.0.0.{n}:9080"),
            http: format!("http://10.0.0.{n}:8080"),
            zone: String::new(),
        };
        Founding {
            format: FORMAT,
            cluster: OURS,
            founded_at: 1_790_000_000_000,
            cells: Cells::new(16).unwrap(),
            replicas: 3,
            members: (1..=3).map(member).collect(),
            operator_token_hash: token_hash("secret"),
        }
    }

    fn load(change: impl FnOnce(&mut serde_json::Value), node: u16) -> Result<Founding, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("founding.json");
        let mut value = serde_json::to_value(founding()).unwrap();
        change(&mut value);
        files::create(&path, value.to_string().as_bytes(), files::PUBLIC).unwrap();
        Founding::load(&path, NodeId(node)).map_err(|e| e.to_string().replace(&path.display().to_string(), "F"))
    }

    #[test]
    fn it_survives_and_gives_the_peers() {
        let read = load(|_| {}, 2).unwrap();
        assert_eq!(read, founding());
        let moved = BTreeMap::from([(NodeId(3), "elsewhere:1".to_string()), (NodeId(9), "nobody:1".into())]);
        let peers = read.peers(NodeId(2), &moved);
        assert_eq!(
            peers.into_iter().collect::<Vec<_>>(),
            [(N1, "10.0.0.1:9080".into()), (NodeId(3), "elsewhere:1".into())]
        );
    }

    #[test]
    fn what_cannot_be_is_said() {
        let cases: [(&str, serde_json::Value, &str); 7] = [
            (
                "/cells",
                12.into(),
                "The founding record F is not valid: 12 cells: choose a power of two between 1 and 1024.",
            ),
            (
                "/replicas",
                2.into(),
                "The founding record F is not valid: 2 replicas: an odd number of at most 3, the members.",
            ),
            (
                "/replicas",
                5.into(),
                "The founding record F is not valid: 5 replicas: an odd number of at most 3, the members.",
            ),
            ("/members/1/id", 1.into(), "The founding record F is not valid: n1 is there twice or is no node number."),
            (
                "/members/0/quic",
                "x".into(),
                "The founding record F is not valid: n1 has the address \"x\", which is not host:port.",
            ),
            (
                "/cluster",
                "xyz".into(),
                "The founding record F is not valid: \"xyz\" is not a cluster id: 32 hexadecimal digits.",
            ),
            (
                "/format",
                7.into(),
                "The founding record F is of a newer version (format 7, this program knows 1); use the newer program.",
            ),
        ];
        for (at, value, says) in cases {
            assert_eq!(load(|v| *v.pointer_mut(at).unwrap() = value, 1).unwrap_err(), says, "{at}");
        }
        assert_eq!(
            load(|_| {}, 4).unwrap_err(),
            "The configuration says this is n4, which is not among the members n1, n2, n3 of the founding record F."
        );
        let unknown = load(|v| v["colour"] = "red".into(), 1).unwrap_err();
        assert!(unknown.contains("unknown field `colour`"), "{unknown}");
        let missing = Founding::load(Path::new("/nowhere/f.json"), N1).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/f.json cannot be read (there is no such file)"), "{missing}");
    }
}
