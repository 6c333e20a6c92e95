//! Which values of a plan can be simpler, and in what order that is tried. Every change brings the plan
//! nearer to an end, so that there is one. What never lives here: whether the plan still fails.

use stakehold_actors::api::{NewOrder, Request};

use crate::plan::{Fault, Plan, Step, What};

/// Below this a cluster might not come to rest in time, and anything would fail.
const REST_MS: u64 = 20_000;
/// Whole nodes and cells are taken away down to these.
const NODES: u16 = 3;
/// Amounts and delays are halved down to about these.
const SIZE: i64 = 200;
const DELAY_MS: u64 = 10;

/// Changes one thing for all of the plan; false when it is as simple as can be. What can be simpler by
/// degrees is called again.
pub type Change = fn(&mut Plan) -> bool;

pub const OF_ALL: [Change; 8] =
    [no_seldom, no_slow_followers, no_loss, even_net, even_disk, fewer_nodes, one_cell, fewer_cells];

fn set<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changes = *place != value;
    *place = value;
    changes
}

fn no_seldom(plan: &mut Plan) -> bool {
    set(&mut plan.setup.seldom, 0)
}

fn no_slow_followers(plan: &mut Plan) -> bool {
    set(&mut plan.setup.slow_followers, 0)
}

fn no_loss(plan: &mut Plan) -> bool {
    set(&mut plan.setup.net.lost, 0)
}

fn even_net(plan: &mut Plan) -> bool {
    let least = plan.setup.net.least_us;
    set(&mut plan.setup.net.most_us, least)
}

fn even_disk(plan: &mut Plan) -> bool {
    let disk = &mut plan.setup.disk;
    let (write, sync) = (disk.write_us.0, disk.sync_us.0);
    set(&mut disk.write_us, (write, write)) | set(&mut disk.sync_us, (sync, sync))
}

/// The last node goes, and what happens to it.
fn fewer_nodes(plan: &mut Plan) -> bool {
    let nodes = plan.setup.nodes;
    if nodes <= NODES {
        return false;
    }
    plan.setup.nodes = nodes - 1;
    plan.steps.retain_mut(|step| match &mut step.what {
        What::Fault(fault) => fault.nodes().iter().all(|node| *node < nodes),
        What::Call(call) => {
            call.node = call.node.min(nodes - 1);
            true
        }
    });
    true
}

fn one_cell(plan: &mut Plan) -> bool {
    set(&mut plan.setup.cells, 1)
}

fn fewer_cells(plan: &mut Plan) -> bool {
    let fewer = (plan.setup.cells / 2).max(1);
    set(&mut plan.setup.cells, fewer)
}

/// Only what never comes to rest waits for that.
pub fn less_rest(plan: &mut Plan) -> bool {
    let less = plan.setup.rest_ms.min(REST_MS);
    set(&mut plan.setup.rest_ms, less)
}

/// The node that something happens to: its faults may all be beside the point.
pub fn node(step: &Step) -> Option<u16> {
    match &step.what {
        What::Fault(fault) => fault.nodes().first().copied(),
        What::Call(_) => None,
    }
}

/// What is asked for, by the request's name: calls of a kind may all be beside the point.
pub fn kind(step: &Step) -> Option<String> {
    match &step.what {
        What::Call(call) => format!("{:?}", call.request).split([' ', '{']).next().map(str::to_owned),
        What::Fault(_) => None,
    }
}

/// The step with its `nth` value simpler; None when there are no more of them.
pub fn simpler(step: &Step, nth: usize) -> Option<Step> {
    let what = match &step.what {
        What::Fault(fault) => faults(fault).into_iter().nth(nth).map(What::Fault),
        What::Call(call) => requests(&call.request).into_iter().nth(nth).map(|request| {
            let mut call = call.clone();
            call.request = request;
            What::Call(call)
        }),
    };
    what.map(|what| Step { at: step.at, what })
}

fn half(value: u64, least: u64) -> Option<u64> {
    (value / 2 >= least).then_some(value / 2)
}

fn faults(fault: &Fault) -> Vec<Fault> {
    let less = match *fault {
        Fault::Slow { a, b, more_ms } => half(more_ms, DELAY_MS).map(|more_ms| Fault::Slow { a, b, more_ms }),
        Fault::SlowDisk { node, sync_ms } => half(sync_ms, DELAY_MS).map(|sync_ms| Fault::SlowDisk { node, sync_ms }),
        Fault::FullDisk { node, room } => half(room, 0).filter(|_| room > 0).map(|room| Fault::FullDisk { node, room }),
        Fault::FailWrite { node, after } => half(after, 1).map(|after| Fault::FailWrite { node, after }),
        Fault::FailSync { node, after } => half(after, 1).map(|after| Fault::FailSync { node, after }),
        Fault::FailRead { node, after } => half(after, 1).map(|after| Fault::FailRead { node, after }),
        Fault::Misdirect { node, after } => half(after, 1).map(|after| Fault::Misdirect { node, after }),
        Fault::Clock { node, ahead_ms } => {
            half(ahead_ms.unsigned_abs(), DELAY_MS).map(|_| Fault::Clock { node, ahead_ms: ahead_ms / 2 })
        }
        _ => None,
    };
    less.into_iter().collect()
}

/// The request with one of its parts gone, then with a value simpler.
fn requests(request: &Request) -> Vec<Request> {
    let mut simpler = Vec::new();
    let parts = match request {
        Request::Place { orders, .. } => orders.len(),
        Request::Cancel { orders, .. } => orders.len(),
        _ => 0,
    };
    for part in (0..parts).rev().filter(|_| parts > 1) {
        let mut request = request.clone();
        match &mut request {
            Request::Place { orders, .. } => drop(orders.remove(part)),
            Request::Cancel { orders, .. } => drop(orders.remove(part)),
            _ => {}
        }
        simpler.push(request);
    }
    if let Request::Place { orders, .. } = request {
        for part in 0..orders.len() {
            for change in [plain, smaller] {
                let mut request = request.clone();
                if let Request::Place { orders, .. } = &mut request
                    && change(&mut orders[part])
                {
                    simpler.push(request);
                }
            }
        }
    }
    simpler
}

/// An order without conditions.
fn plain(order: &mut NewOrder) -> bool {
    set(&mut order.fill_or_kill, false) | set(&mut order.min_fill, None) | set(&mut order.post_only, false)
}

fn smaller(order: &mut NewOrder) -> bool {
    // Whole hundreds stay readable.
    let size = order.size.0 / 2 / 100 * 100;
    size >= SIZE && {
        order.size.0 = size;
        order.min_fill = order.min_fill.map(|least| least.min(order.size));
        true
    }
}
