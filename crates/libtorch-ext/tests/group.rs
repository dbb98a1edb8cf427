//! Processes that find one another and compute together, on loopback: threads of this test stand for them, since nothing
//! of a group is shared within a process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use libtorch_ext::group::{Group, Member, Network, Patience, Waited, Work};
use libtorch_ext::store::{Store, StoreError};
use tch::{Device, Kind, Tensor};

const LONG: Duration = Duration::from_secs(60);
const PATIENCE: Patience = Patience {
    joining: LONG,
    operation: LONG,
};
const SHORT: Duration = Duration::from_millis(200);

/// Runs `body` as each of `size` processes of a group, and returns what they return.
fn as_each<T: Send + 'static>(size: u32, body: fn(Member, Store, Group) -> T) -> Vec<T> {
    let server = Store::serve(0, LONG).unwrap();
    let port = server.port();
    let threads: Vec<_> = (0..size)
        .map(|rank| {
            thread::spawn(move || {
                let member = Member { rank, size };
                let store = Store::connect("127.0.0.1", port, LONG).unwrap();
                let network = Network::Host("127.0.0.1".to_owned());
                let group = Group::join(&store, "test", member, &network, PATIENCE).unwrap();
                body(member, store, group)
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn done(work: &Work) {
    assert_eq!(work.wait(LONG).unwrap(), Waited::Done);
}

fn filled(count: i64, value: u32) -> Tensor {
    Tensor::full([count], f64::from(value), (Kind::Float, Device::Cpu))
}

fn counted(count: i64) -> Tensor {
    Tensor::arange(count, (Kind::Float, Device::Cpu))
}

#[test]
fn sums_are_everybodys() {
    for size in [1, 2, 3] {
        let sums = as_each(size, |member, _, mut group| {
            assert_eq!(group.member(), member);
            let (one, two) = (filled(5, member.rank + 1), filled(1000, 10 * (member.rank + 1)));
            // Two at a time, in the same order everywhere.
            let works = [group.all_reduce(&one).unwrap(), group.all_reduce(&two).unwrap()];
            works.iter().for_each(done);
            (one.double_value(&[4]), two.double_value(&[999]))
        });
        let sum = f64::from(size * (size + 1) / 2);
        assert_eq!(sums, vec![(sum, 10.0 * sum); size as usize]);
    }
}

#[test]
fn sums_are_the_same_to_the_last_bit() {
    let sums = as_each(3, |member, _, mut group| {
        let values = (counted(10_007) + f64::from(member.rank)).sin() * 1e3;
        done(&group.all_reduce(&values).unwrap());
        values
    });
    assert_eq!(sums[0], sums[1]);
    assert_eq!(sums[0], sums[2]);
}

#[test]
fn what_one_has_is_copied_split_and_collected() {
    as_each(3, |member, _, mut group| {
        let values = filled(4, member.rank);
        done(&group.broadcast(&values, 2).unwrap());
        assert_eq!(values, filled(4, 2));

        let all = counted(6);
        let own = filled(2, 0);
        done(&group.reduce_scatter(&own, &all).unwrap());
        let first = 3.0 * 2.0 * member.rank as f32;
        assert_eq!(own, Tensor::from_slice(&[first, first + 3.0]));
        done(&group.all_gather(&all, &own).unwrap());
        assert_eq!(all, counted(6) * 3.0);
    });
}

#[test]
fn a_wait_ends_and_may_go_on() {
    let waits = as_each(2, |member, store, mut group| {
        if member.rank == 1 {
            store.get("go", LONG).unwrap();
        }
        let values = filled(3, 1);
        let work = group.all_reduce(&values).unwrap();
        let first = match member.rank {
            0 => work.wait(SHORT).unwrap(),
            _ => Waited::Done,
        };
        store.set("go", b"").unwrap();
        done(&work);
        (first, values.double_value(&[0]))
    });
    assert_eq!(waits, [(Waited::NotYet, 2.0), (Waited::Done, 2.0)]);
}

#[test]
fn a_process_that_is_gone_is_an_error() {
    let errors = as_each(2, |member, _, mut group| {
        if member.rank == 1 {
            drop(group);
            return String::new();
        }
        let work = group.all_reduce(&filled(3, 1)).unwrap();
        work.wait(LONG).unwrap_err().to_string()
    });
    assert!(
        errors[0].contains("closed") || errors[0].contains("reset"),
        "{errors:?}"
    );
}

#[test]
fn keys_are_set_counted_waited_for_and_taken_away() {
    let server = Store::serve(0, LONG).unwrap();
    let store = Store::connect("localhost", server.port(), LONG).unwrap();
    let again = store.connect_again().unwrap();
    assert!(!store.has("a").unwrap());
    let waiter = thread::spawn(move || again.get("a", LONG).unwrap());
    let value = [0, 255, 7];
    store.set("a", &value).unwrap();
    assert_eq!(waiter.join().unwrap(), value);
    assert!(store.has("a").unwrap());
    store.delete("a").unwrap();
    assert!(!store.has("a").unwrap());
    let error = store.get("a", SHORT).unwrap_err();
    assert_eq!(error.to_string(), "nobody set `a` within 0.2 s");
    assert_eq!((store.add("n", 2).unwrap(), server.add("n", 3).unwrap()), (2, 5));
    assert_eq!(store.get("n", SHORT).unwrap(), b"5");
    drop(server);
    let error = store.set("b", b"").and_then(|()| store.get("b", SHORT));
    assert!(matches!(error, Err(StoreError::Lost { .. })), "{error:?}");
}

#[test]
fn who_does_not_come_is_named() {
    let server = Store::serve(0, LONG).unwrap();
    let come = |rank| server.meet("here", Member { rank, size: 4 }, SHORT);
    let error = come(2).unwrap_err().to_string();
    assert_eq!(error, "ranks 0, 1, 3 did not come within 0.2 s");
    come(0).unwrap_err();
    let error = come(1).unwrap_err().to_string();
    assert_eq!(error, "rank 3 did not come within 0.2 s");
    come(3).unwrap();
}

#[test]
fn a_busy_port_and_a_silent_one_are_said() {
    // A store listens on all addresses.
    let taken = TcpListener::bind("[::]:0")
        .or_else(|_| TcpListener::bind("0.0.0.0:0"))
        .unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Store::serve(port, LONG).unwrap_err();
    assert_eq!(error, StoreError::BusyPort { port });
    drop(taken);
    let error = Store::connect("127.0.0.1", port, Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[test]
fn a_group_that_is_not_complete_in_time_is_none() {
    let server = Store::serve(0, LONG).unwrap();
    let member = Member { rank: 0, size: 2 };
    let network = Network::Host("127.0.0.1".to_owned());
    let patience = Patience {
        joining: SHORT,
        ..PATIENCE
    };
    Group::join(&server, "x", member, &network, patience).unwrap_err();
}

#[test]
fn a_group_without_its_network_says_so() {
    let server = Store::serve(0, LONG).unwrap();
    let join = |network| {
        let member = Member { rank: 0, size: 1 };
        Group::join(&server, "x", member, &network, PATIENCE)
            .unwrap_err()
            .to_string()
    };
    if !libtorch_ext::device::load_cuda() {
        let error = join(Network::Nccl);
        assert!(error.contains("without CUDA"), "{error}");
    }
    let error = join(Network::Interface("no-such-interface".to_owned()));
    assert!(error.contains("no-such-interface"), "{error}");
}
