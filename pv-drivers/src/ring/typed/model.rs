//! The notification protocol under every order of its memory accesses that the language permits.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

use super::{BackRing, FrontRing};
use crate::ring::Page;

/// The four indices and two slots of one word: what the model needs of a page.
struct ModelPage {
    head: [AtomicU32; 4],
    slots: [AtomicU32; 2],
}

impl ModelPage {
    fn new() -> Self {
        Self {
            head: std::array::from_fn(|_| AtomicU32::new(0)),
            slots: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        match offset {
            0..16 => &self.head[offset / 4],
            _ => &self.slots[(offset - 64) / 4],
        }
    }
}

impl Page for Arc<ModelPage> {
    fn read(&self, offset: usize, into: &mut [u8]) {
        let word = self.word(offset).load(Ordering::Relaxed);
        into.copy_from_slice(&word.to_ne_bytes());
    }

    fn write(&self, offset: usize, from: &[u8]) {
        // The head is cleared once, before there is a second thread.
        if let Ok(word) = from.try_into() {
            self.word(offset)
                .store(u32::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    fn load(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    fn store(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Release);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// A frontend asks while the backend, awake after an earlier request, is about to sleep. When both
/// are done, the backend has seen the request or is notified: it does not lie there with nobody to
/// come.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks")]
fn a_wake_up_is_never_lost() {
    loom::model(|| {
        let page = Arc::new(ModelPage::new());
        let mut front = FrontRing::<u32, u32, _>::new(Arc::clone(&page));
        let mut back = BackRing::<u32, u32, _>::attach(page);
        front.put(&11).expect("a slot");
        assert!(front.push());
        assert_eq!(back.take(), Ok(Some(11)));
        // The mark is behind: a push does not notify now, until the backend arms again.
        let asks = thread::spawn(move || {
            front.put(&12).expect("a slot");
            front.push()
        });
        let mut seen = false;
        while back.arm().expect("an honest peer") {
            assert_eq!(back.take(), Ok(Some(12)));
            seen = true;
        }
        let notified = asks.join().expect("the frontend");
        assert!(seen || notified, "asleep, and a request lies there");
    });
}

/// A response is seen whole: its index never comes before its bytes.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks")]
fn an_index_covers_what_was_written() {
    loom::model(|| {
        let page = Arc::new(ModelPage::new());
        let mut front = FrontRing::<u32, u32, _>::new(Arc::clone(&page));
        let mut back = BackRing::<u32, u32, _>::attach(page);
        front.put(&5).expect("a slot");
        let _ = front.push();
        let serves = thread::spawn(move || {
            let request = back.take().expect("an honest peer").expect("pushed");
            back.put(&(request + 1)).expect("its slot");
            let _ = back.push();
        });
        if let Some(response) = front.take().expect("an honest peer") {
            assert_eq!(response, 6);
        }
        serves.join().expect("the backend");
        assert!(front.arm().is_ok());
    });
}
