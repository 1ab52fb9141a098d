//! The thread that ends uploads.
//!
//! Writing a blob to the disk takes milliseconds on a good disk and tens of them on a card. A super-network comes as thousands of
//! blobs, so those that wait are ended together.

use super::requests::Shared;
use crate::{limits::MAX_UPLOADS, store::Upload};
use crossbeam_channel::Receiver;
use edgewise_protocol::{Reply, WireError};
use std::{sync::Arc, thread};

/// Uploads whose bytes all came, by their requests' numbers.
pub(super) type Finished = (u32, Box<Upload>);

/// Starts the thread; it ends when `queue` closes. `done` gets each result.
pub(super) fn start(
    shared: Arc<Shared>,
    queue: Receiver<Finished>,
    done: impl Fn(u32, Result<Reply, WireError>) + Send + 'static,
) {
    thread::spawn(move || {
        while let Ok(first) = queue.recv() {
            let waiting = queue.try_iter().take(MAX_UPLOADS - 1);
            let (ids, uploads): (Vec<u32>, Vec<Upload>) =
                std::iter::once(first).chain(waiting).map(|(id, upload)| (id, *upload)).unzip();
            let results = Upload::finish_all(uploads, &shared.store);
            ids.into_iter().zip(results).for_each(|(id, result)| done(id, result.map(|()| Reply::Stored)));
        }
    });
}
