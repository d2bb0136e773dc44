use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;

/// Long enough for any machine; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Encodes its number, on request only once a gate opens. Thirteen panics.
struct Fake {
    number: usize,
    gate: Option<Mutex<Receiver<()>>>,
    encoded_by: Mutex<Vec<thread::ThreadId>>,
}

impl Encode for Fake {
    type Output = usize;

    fn encode(&self) -> usize {
        lock(&self.encoded_by).push(thread::current().id());
        if let Some(gate) = &self.gate {
            lock(gate).recv_timeout(LIMIT).unwrap();
        }
        assert!(self.number != 13, "thirteen");
        self.number
    }
}

fn fake(number: usize) -> Arc<Fake> {
    Arc::new(Fake { number, gate: None, encoded_by: Mutex::default() })
}

fn gated(number: usize) -> (Arc<Fake>, Sender<()>) {
    let (open, gate) = channel();
    (Arc::new(Fake { number, gate: Some(Mutex::new(gate)), encoded_by: Mutex::default() }), open)
}

/// Waits until somebody encodes the commands.
fn begun(commands: &Fake) -> bool {
    let begun = || !lock(&commands.encoded_by).is_empty();
    (0..LIMIT.as_millis()).any(|_| begun() || (thread::sleep(Duration::from_millis(1)), begun()).1)
}

fn worker() -> Option<Arc<Worker<Fake>>> {
    Some(Arc::new(Worker::spawn(thread::Builder::new()).unwrap()))
}

#[test]
fn a_worker_encodes_what_it_is_asked_for_and_holds_nothing_afterwards() {
    let ahead = Ahead::new(worker());
    for number in [1, 2, 3] {
        let mut commands = fake(number);
        let encoding = ahead.begin(&commands);
        assert!(begun(&commands));
        assert_eq!(encoding.finish(), Ok(number));
        assert_ne!(lock(&commands.encoded_by)[..], [thread::current().id()], "it was another thread");
        assert!(Arc::get_mut(&mut commands).is_some(), "commands may change between runs");
    }
}

#[test]
fn without_a_worker_the_caller_encodes() {
    let ahead = Ahead::new(None);
    let commands = fake(7);
    assert_eq!(ahead.begin(&commands).finish(), Ok(7));
    assert_eq!(lock(&commands.encoded_by)[..], [thread::current().id()]);
    // More stack than any machine has.
    assert!(Worker::<Fake>::spawn(thread::Builder::new().stack_size(1 << 60)).is_none());
}

#[test]
fn a_panic_is_an_error_of_that_job_alone() {
    let ahead = Ahead::new(worker());
    let unlucky = fake(13);
    let encoding = ahead.begin(&unlucky);
    assert!(begun(&unlucky));
    assert_eq!(encoding.finish(), Err(EngineError::Panic("thirteen".into())));
    assert_eq!(ahead.begin(&fake(14)).finish(), Ok(14));
}

#[test]
fn a_busy_worker_delays_nobody() {
    let worker = worker();
    let [busy, other] = [0, 1].map(|_| Ahead::new(worker.clone()));
    let (slow, open) = gated(1);
    let encoding = busy.begin(&slow);
    assert!(begun(&slow));
    // The worker comes to none of these: the caller takes them back.
    for number in 20..70 {
        let commands = fake(number);
        assert_eq!(other.begin(&commands).finish(), Ok(number));
        assert_eq!(lock(&commands.encoded_by)[..], [thread::current().id()]);
        let queued = lock(&worker.as_ref().unwrap().queue.waiting).slots.len();
        assert_eq!(queued, 1, "a recording waits in the queue once");
    }
    open.send(()).unwrap();
    assert_eq!(encoding.finish(), Ok(1));
    assert_eq!(other.begin(&fake(70)).finish(), Ok(70), "a job that was taken back leaves nothing behind");
}

#[test]
fn a_job_given_up_is_over_and_the_worker_ends_with_its_last_user() {
    let current = Mutex::new(Weak::new());
    for round in 100..400 {
        let Some(worker) = Worker::of(&current) else { return };
        assert!(Arc::ptr_eq(&worker, &Worker::of(&current).unwrap()), "one worker for all");
        let shared = Arc::downgrade(&worker.queue);
        let ahead = Ahead::new(Some(worker));
        let (commands, open) = gated(round);
        let encoding = ahead.begin(&commands);
        if round % 2 == 0 {
            assert!(begun(&commands));
        }
        open.send(()).unwrap();
        drop(encoding);
        assert_eq!(Arc::strong_count(&commands), 1, "nobody encodes any more");
        drop(ahead);
        assert!(shared.upgrade().is_none(), "the thread was joined");
    }
}

#[test]
fn many_threads_share_a_worker() {
    let worker = worker();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for first in 0..4 {
            let (worker, done) = (worker.clone(), &done);
            scope.spawn(move || {
                let ahead = Ahead::new(worker);
                for number in (0..500).map(|i| 100 + 1000 * first + i) {
                    assert_eq!(ahead.begin(&fake(number)).finish(), Ok(number));
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(done.into_inner(), 4);
}
