//! A text that a device writes, as it comes.

use super::{Answer, CANCEL_POLL, DeviceClient};
use crate::Error;
use edgewise_protocol::{GenerateJob, Generation, Progress, Reply, Request, Stage};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// What the agent gets beyond the job's own deadline to end the worker and say so.
const MARGIN: Duration = Duration::from_secs(30);

/// What is told while a text is written.
#[derive(Debug)]
pub enum Written<'a> {
    /// Where it is before the first token.
    Progress(&'a Progress),
    /// More tokens.
    Tokens(&'a [u32]),
}

impl DeviceClient {
    /// Has the device write a text, telling `hear` of it token by token. Setting `cancel` ends it.
    ///
    /// # Errors
    /// [`Error::Device`] if it failed there, [`Error::Deadline`], [`Error::Cancelled`], and those that break the connection.
    pub fn generate(
        &mut self,
        job: &GenerateJob,
        hear: &mut dyn FnMut(Written<'_>),
        cancel: &AtomicBool,
    ) -> Result<Generation, Error> {
        self.cancelled(cancel)?;
        let ms = |ms: u32| Duration::from_millis(u64::from(ms)) + MARGIN;
        let mut limit = ms(job.deadline_ms);
        let id = self.request(Request::Generate(Box::new(job.clone())))?;
        let mut deadline = Instant::now() + limit;
        let mut waits = false;
        let result = loop {
            match self.answer(id, deadline.min(Instant::now() + CANCEL_POLL), true)? {
                Some(Answer::Reply(result)) => break result,
                Some(Answer::Tokens(tokens)) => hear(Written::Tokens(&tokens)),
                Some(Answer::Progress(progress)) => {
                    // The wait for somebody else, and the work after it, have their own times.
                    if waits != (progress.stage == Stage::Lease) {
                        waits = !waits;
                        limit = ms(if waits { job.lease_wait_ms } else { job.deadline_ms });
                        deadline = Instant::now() + limit;
                    }
                    hear(Written::Progress(&progress));
                }
                Some(Answer::Ack(_)) => return Err(self.unexpected("it acknowledged bytes of a text")),
                None => {}
            }
            let late = Instant::now() >= deadline;
            if late || cancel.load(Ordering::Relaxed) {
                break self.stop(id, late, limit)?;
            }
        };
        match self.accept(result)? {
            Reply::Generated(generation) => Ok(*generation),
            other => Err(self.wrong_reply(&other)),
        }
    }
}
