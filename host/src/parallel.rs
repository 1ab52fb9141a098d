//! The same work on several devices at once.

use crate::{exit_code, failure::Failure, json::Missing};
use edgewise_fleet::RegisteredDevice;
use std::{
    sync::{Mutex, PoisonError},
    thread,
};

/// What came of one device.
pub(crate) struct Outcome<T> {
    pub(crate) device: String,
    pub(crate) result: Result<T, Failure>,
}

/// Works on all devices, each on a thread of its own, so that one that is slow or dead delays no other. Those that share the
/// host's processor take turns. `done` hears of each as it ends; results come in the order of devices.
pub(crate) fn on_each<T: Send>(
    devices: &[RegisteredDevice],
    work: impl Fn(&RegisteredDevice) -> Result<T, Failure> + Sync,
    mut done: impl FnMut(&Outcome<T>),
) -> Vec<Outcome<T>> {
    let host = Mutex::new(());
    let (sender, results) = crossbeam_channel::unbounded();
    let mut out: Vec<Option<Outcome<T>>> = devices.iter().map(|_| None).collect();
    thread::scope(|scope| {
        for (at, device) in devices.iter().enumerate() {
            let (sender, host, work) = (sender.clone(), &host, &work);
            scope.spawn(move || {
                let _turn = device.shares_host.then(|| host.lock().unwrap_or_else(PoisonError::into_inner));
                // The receiver lives as long as the scope.
                let _ = sender.send((at, Outcome { device: device.name.clone(), result: work(device) }));
            });
        }
        drop(sender);
        for (at, outcome) in results {
            done(&outcome);
            out[at] = Some(outcome);
        }
    });
    let lost = |device: &RegisteredDevice| Outcome {
        device: device.name.clone(),
        result: Err(Failure::new(exit_code::BUG, "a thread ended early")),
    };
    out.into_iter().zip(devices).map(|(outcome, device)| outcome.unwrap_or_else(|| lost(device))).collect()
}

/// What devices delivered, and what is missing with the first reason for it. A single device's failure is the command's own.
#[expect(clippy::type_complexity, reason = "three things that are taken apart at once")]
pub(crate) fn settle<T>(outcomes: Vec<Outcome<T>>) -> Result<(Vec<(String, T)>, Vec<Missing>, Option<Failure>), Failure> {
    let single = outcomes.len() == 1;
    let (mut found, mut missing, mut failed) = (Vec::new(), Vec::new(), None);
    for Outcome { device, result } in outcomes {
        match result {
            Ok(delivered) => found.push((device, delivered)),
            Err(failure) if single => return Err(failure),
            Err(failure) => {
                missing.push(Missing::new(&device, &failure));
                failed.get_or_insert(failure);
            }
        }
    }
    Ok((found, missing, failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgewise_fleet::Place;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, Instant},
    };

    fn device(name: &str, shares_host: bool) -> RegisteredDevice {
        RegisteredDevice {
            name: name.into(),
            target: "linux-x86_64".into(),
            place: Place::Local,
            shares_host,
            agent: None,
            store: None,
            groups: Vec::new(),
            lease: None,
        }
    }

    #[test]
    fn boards_work_at_once_and_results_keep_their_order() {
        let devices: Vec<RegisteredDevice> = (0..8).map(|i| device(&format!("d{i}"), false)).collect();
        let (at_work, alone) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut heard = 0;
        let out = on_each(
            &devices,
            |d| {
                at_work.fetch_add(1, Ordering::SeqCst);
                let end = Instant::now() + Duration::from_secs(10);
                while at_work.load(Ordering::SeqCst) < 8 && Instant::now() < end {
                    thread::sleep(Duration::from_millis(1));
                }
                alone.fetch_add(usize::from(at_work.load(Ordering::SeqCst) < 8), Ordering::SeqCst);
                // The first is the last to end.
                if d.name == "d0" {
                    thread::sleep(Duration::from_millis(50));
                }
                if d.name == "d3" { Err(Failure::usage("broken")) } else { Ok(d.name.clone()) }
            },
            |_| heard += 1,
        );
        assert_eq!((heard, alone.into_inner()), (8, 0), "all were at work at once");
        for (i, outcome) in out.iter().enumerate() {
            assert_eq!(outcome.device, format!("d{i}"));
            assert_eq!(outcome.result.as_ref().ok().cloned(), (i != 3).then(|| format!("d{i}")));
        }
    }

    #[test]
    fn one_devices_failure_is_the_commands_and_one_of_many_is_missing() {
        let outcome = |name: &str, result: Result<u32, Failure>| Outcome { device: name.into(), result };
        assert!(settle(vec![outcome("a", Err(Failure::usage("no")))]).is_err());
        let (found, missing, failed) = settle(vec![
            outcome("a", Err(Failure::usage("first"))),
            outcome("b", Ok(7)),
            outcome("c", Err(Failure::usage("last"))),
        ])
        .unwrap();
        assert_eq!(found, [("b".to_owned(), 7)]);
        assert_eq!(missing.iter().map(|m| m.device.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(failed.unwrap().message, "first");
    }

    #[test]
    fn those_that_share_the_host_take_turns() {
        let devices: Vec<RegisteredDevice> = (0..4).map(|i| device(&format!("d{i}"), true)).collect();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        on_each(
            &devices,
            |_| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            },
            |_| {},
        );
        assert_eq!(most.into_inner(), 1);
    }
}
