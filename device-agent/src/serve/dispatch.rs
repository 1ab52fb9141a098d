//! The dispatcher: every open request, and what each message means for it.

use super::{
    input::Incoming,
    requests::{self, Shared},
    settle::{self, Finished},
};
use crate::{
    cancel::{self, Cancel, Canceller},
    error::{ServeError, wire},
    generate,
    limits::{IDLE, MAX_UPLOADS, SILENT_UPLOAD, WIND_UP},
    measure::check_job,
    store::Upload,
};
use crossbeam_channel::{Receiver, Sender, select};
use edgewise_protocol::{AgentMessage, BlobId, ErrorCode, HostMessage, Reply, Request, WireError};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    thread,
    time::Instant,
};

/// A request that has no reply yet. The canceller is gone once the host gave the request up.
enum Open {
    /// A thread opens the part of an upload.
    Opening(Option<Canceller>),
    /// Chunks are awaited.
    Receiving(Box<Upload>),
    /// A thread works on it.
    Working(Option<Canceller>),
}

/// What a thread reports to the dispatcher.
enum Event {
    Opened { id: u32, result: Result<Box<Upload>, WireError> },
    Done { id: u32, result: Result<Reply, WireError> },
}

/// Serves a host whose hello was accepted.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    open: HashMap<u32, Open>,
    /// Uploads that were answered: chunks of theirs may still be on the way, and are dropped.
    answered: HashSet<u32>,
    /// The request that has the processor for itself.
    measuring: Option<u32>,
    finished: Sender<Finished>,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

impl Dispatcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (sender, events) = crossbeam_channel::unbounded();
        let (finished, queue) = crossbeam_channel::unbounded();
        let done = sender.clone();
        settle::start(Arc::clone(&shared), queue, move |id, result| {
            // The dispatcher is gone only when the process is about to end.
            let _ = done.send(Event::Done { id, result });
        });
        Self { shared, open: HashMap::new(), answered: HashSet::new(), measuring: None, finished, sender, events }
    }

    /// Serves until the host closes the connection.
    pub(super) fn run(mut self, incoming: &Receiver<Incoming>) -> Result<(), ServeError> {
        let result = loop {
            let receives = self.open.values().any(|open| matches!(open, Open::Receiving(_)));
            let patience = if receives { SILENT_UPLOAD } else { IDLE };
            let step = select! {
                recv(incoming) -> message => match message {
                    Ok(Incoming::End) | Err(_) => break Ok(()),
                    Ok(Incoming::Undecodable(error)) => Err(ServeError::Undecodable(error)),
                    Ok(Incoming::Failed(error)) => Err(ServeError::Connection(error)),
                    Ok(Incoming::Message(message)) => self.message(message),
                    Ok(Incoming::Chunk { id, bytes }) => self.chunk(id, &bytes),
                },
                recv(self.events) -> event => match event {
                    Ok(event) => self.event(event),
                    Err(_) => break Ok(()),
                },
                default(patience) => if receives || self.open.is_empty() { Err(ServeError::Idle(patience.as_secs())) } else { Ok(()) },
            };
            if let Err(error) = step {
                break Err(error);
            }
        };
        self.wind_up();
        result
    }

    /// Gives up whatever is open, and waits a little for it to end in order: workers are killed and folders removed then.
    fn wind_up(mut self) {
        self.open.retain(|_, open| matches!(open, Open::Opening(_) | Open::Working(_)));
        for open in self.open.values_mut() {
            give_up(open);
        }
        let end = Instant::now() + WIND_UP;
        while !self.open.is_empty() {
            match self.events.recv_deadline(end) {
                Ok(Event::Opened { id, .. } | Event::Done { id, .. }) => self.open.remove(&id),
                Err(_) => break,
            };
        }
    }

    fn message(&mut self, message: HostMessage) -> Result<(), ServeError> {
        match message {
            HostMessage::Hello(_) => Err(ServeError::Protocol("a second hello".to_owned())),
            HostMessage::Ping => self.shared.output.heartbeat().map_err(ServeError::Connection),
            HostMessage::Cancel { id } => self.cancel(id),
            HostMessage::Request { id, request } => {
                // Its reply could not be told from the other one's.
                if self.open.contains_key(&id) || self.answered.contains(&id) {
                    return Err(ServeError::Protocol(format!("request number {id} is used twice")));
                }
                self.request(id, request)
            }
        }
    }

    fn request(&mut self, id: u32, request: Request) -> Result<(), ServeError> {
        match request {
            Request::Describe { ort } => self.work(id, move |shared, cancel| requests::describe(shared, &ort, cancel)),
            // Thousands of blobs are thousands of files to look at.
            Request::Have { blobs } => self.work(id, move |shared, _| Ok(Reply::Have(shared.store.ask(blobs)))),
            Request::Put { blob, size } => return self.put(id, blob, size),
            Request::Take { blob, size, path } => {
                self.work(id, move |shared, cancel| requests::take(shared, blob, size, &path, cancel));
            }
            Request::Measure(job) => {
                let checked = check_job(&job);
                return self.alone(id, checked, move |shared, cancel| requests::measure(shared, id, &job, cancel));
            }
            Request::Examine => return self.alone(id, Ok(()), requests::examine),
            Request::Generate(job) => {
                let checked = generate::check_job(&job);
                return self.alone(id, checked, move |shared, cancel| requests::generate(shared, id, &job, cancel));
            }
        }
        Ok(())
    }

    fn put(&mut self, id: u32, blob: BlobId, size: u64) -> Result<(), ServeError> {
        if self.shared.store.need(blob, size).is_ok() {
            self.acknowledge(id, size)?;
            self.answered.insert(id);
            return self.reply(id, Ok(Reply::Stored));
        }
        let uploads = self.open.values().filter(|open| matches!(open, Open::Opening(_) | Open::Receiving(_))).count();
        if uploads >= MAX_UPLOADS {
            self.answered.insert(id);
            let message = format!("{MAX_UPLOADS} uploads are open already");
            return self.reply(id, Err(wire(ErrorCode::Busy, message)));
        }
        let (canceller, cancel) = cancel::pair();
        self.open.insert(id, Open::Opening(Some(canceller)));
        let (shared, sender) = (Arc::clone(&self.shared), self.sender.clone());
        thread::spawn(move || {
            let result = Upload::begin(&shared.store, blob, size, &cancel).map(Box::new);
            // The dispatcher is gone only when the process is about to end.
            let _ = sender.send(Event::Opened { id, result });
        });
        Ok(())
    }

    fn chunk(&mut self, id: u32, bytes: &[u8]) -> Result<(), ServeError> {
        let bad = |message: &str| wire(ErrorCode::BadRequest, message);
        let step = match self.open.get_mut(&id) {
            Some(Open::Receiving(upload)) => upload.append(bytes).map(|acknowledge| (acknowledge, upload.is_complete())),
            Some(Open::Opening(_)) => Err(bad("a chunk came before the upload's first acknowledgement")),
            // All of an upload's bytes came, or the request is none that takes chunks.
            Some(Open::Working(_)) => {
                return Err(ServeError::Protocol(format!("a chunk for request {id}, which takes none now")));
            }
            None if self.answered.contains(&id) => return Ok(()),
            None => Err(bad("a chunk of an upload that nobody announced")),
        };
        match step {
            Ok((acknowledge, complete)) => {
                if let Some(received) = acknowledge {
                    self.acknowledge(id, received)?;
                }
                if complete {
                    self.finish(id);
                }
                Ok(())
            }
            Err(error) => {
                self.open.remove(&id);
                self.answered.insert(id);
                self.reply(id, Err(error))
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<(), ServeError> {
        match event {
            Event::Opened { id, result } => {
                // Whoever sent a chunk too early was answered already.
                let Some(Open::Opening(canceller)) = self.open.remove(&id) else { return Ok(()) };
                let given_up = || wire(ErrorCode::Cancelled, "given up by the host");
                match result.and_then(|upload| if canceller.is_some() { Ok(upload) } else { Err(given_up()) }) {
                    Ok(upload) => {
                        self.acknowledge(id, upload.received())?;
                        let complete = upload.is_complete();
                        self.open.insert(id, Open::Receiving(upload));
                        if complete {
                            self.finish(id);
                        }
                        Ok(())
                    }
                    Err(error) => {
                        self.answered.insert(id);
                        self.reply(id, Err(error))
                    }
                }
            }
            Event::Done { id, result } => {
                self.open.remove(&id);
                if self.measuring == Some(id) {
                    self.measuring = None;
                }
                self.reply(id, result)
            }
        }
    }

    /// Checks and stores an upload whose bytes all came.
    fn finish(&mut self, id: u32) {
        if let Some(Open::Receiving(upload)) = self.open.remove(&id) {
            // An upload that ends has no more bytes that could be on the way, but a careless host may send some.
            self.answered.insert(id);
            self.open.insert(id, Open::Working(None));
            // The thread ends with this dispatcher, not before.
            let _ = self.finished.send((id, upload));
        }
    }

    fn cancel(&mut self, id: u32) -> Result<(), ServeError> {
        if let Some(Open::Receiving(_)) = self.open.get(&id) {
            self.open.remove(&id);
            self.answered.insert(id);
            return self.reply(id, Err(wire(ErrorCode::Cancelled, "given up by the host")));
        }
        // A request that is not open has its reply on the way.
        if let Some(open) = self.open.get_mut(&id) {
            give_up(open);
        }
        Ok(())
    }

    /// Runs `task` as [`Self::work`] does, if nothing else has the processor for itself.
    fn alone(
        &mut self,
        id: u32,
        checked: Result<(), WireError>,
        task: impl FnOnce(&Shared, &Cancel) -> Result<Reply, WireError> + Send + 'static,
    ) -> Result<(), ServeError> {
        if let Some(other) = self.measuring {
            let message = format!("request {other} has the device; it is measured, examined or written on by one at a time");
            return self.reply(id, Err(wire(ErrorCode::Busy, message)));
        }
        if let Err(error) = checked {
            return self.reply(id, Err(error));
        }
        self.measuring = Some(id);
        self.work(id, task);
        Ok(())
    }

    /// Runs `task` on a thread; its result becomes the reply.
    fn work(&mut self, id: u32, task: impl FnOnce(&Shared, &Cancel) -> Result<Reply, WireError> + Send + 'static) {
        let (canceller, cancel) = cancel::pair();
        self.open.insert(id, Open::Working(Some(canceller)));
        let (shared, sender) = (Arc::clone(&self.shared), self.sender.clone());
        thread::spawn(move || {
            let task = std::panic::AssertUnwindSafe(|| task(&shared, &cancel));
            // A request must get its reply even if the agent has a fault.
            let result = std::panic::catch_unwind(task)
                .unwrap_or_else(|_| Err(wire(ErrorCode::Internal, "the agent panicked; see its standard error")));
            let _ = sender.send(Event::Done { id, result });
        });
    }

    fn reply(&self, id: u32, result: Result<Reply, WireError>) -> Result<(), ServeError> {
        self.shared.output.send(&AgentMessage::Reply { id, result }).map_err(ServeError::Connection)
    }

    fn acknowledge(&self, id: u32, received: u64) -> Result<(), ServeError> {
        self.shared.output.send(&AgentMessage::Ack { id, received }).map_err(ServeError::Connection)
    }
}

fn give_up(open: &mut Open) {
    match open {
        Open::Opening(canceller) | Open::Working(canceller) => *canceller = None,
        Open::Receiving(_) => {}
    }
}
