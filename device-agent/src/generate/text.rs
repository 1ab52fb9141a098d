//! The loop from one token to the next.

use crate::{clock::TickClock, error::wire, logits::Sampler, runtime::CausalModel};
use edgewise_protocol::{Ended, ErrorCode, GenerateJob, WireError};

/// A text that ended; its tokens were told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    /// Why it ended.
    pub(crate) ended: Ended,
    /// Its tokens.
    pub(crate) tokens: u32,
    /// Steps after the prompt.
    pub(crate) steps: u32,
    /// The prompt up to the choice of the first token, in nanoseconds.
    pub(crate) prefill_ns: u64,
    /// All steps, in nanoseconds.
    pub(crate) decode_ns: u64,
}

/// Writes a text; `tell` gets each token as soon as it is chosen.
///
/// # Errors
/// The runtime's errors, and [`ErrorCode::ModelRejected`] for a model whose logits are no numbers.
pub(crate) fn write<C: TickClock>(
    model: &mut dyn CausalModel,
    clock: &C,
    job: &GenerateJob,
    tell: &mut dyn FnMut(u32),
) -> Result<Text, WireError> {
    let mut sampler = Sampler::new(job.sampling);
    let mut step = |tokens: &[u32]| -> Result<u32, WireError> {
        let none = || wire(ErrorCode::ModelRejected, "the model's logits are no numbers");
        sampler.choose(model.feed(tokens)?).ok_or_else(none)
    };
    let start = clock.now();
    let mut next = step(&job.prompt)?;
    let prefill_ns = clock.since(start).0;
    let start = clock.now();
    let (mut tokens, mut steps) = (0, 0);
    let ended = loop {
        if job.stop.contains(&next) {
            break Ended::Stop;
        }
        tell(next);
        tokens += 1;
        if tokens >= job.max_tokens {
            break Ended::Length;
        }
        next = step(&[next])?;
        steps += 1;
    };
    Ok(Text { ended, tokens, steps, prefill_ns, decode_ns: clock.since(start).0 })
}

#[cfg(test)]
mod tests {
    use super::{super::job::tests::job, *};
    use crate::clock::fake::HandClock;

    /// Says the token after the last one that it was fed, of ten; a prompt takes 50 ms and a token 2.
    struct Counting {
        clock: HandClock,
        logits: Vec<f32>,
        fed: Vec<Vec<u32>>,
    }

    impl CausalModel for Counting {
        fn runtime_version(&self) -> &'static str {
            "0"
        }
        fn reset(&mut self) {}
        fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], WireError> {
            self.clock.advance(if tokens.len() > 1 { 50_000_000 } else { 2_000_000 });
            self.fed.push(tokens.to_vec());
            let next = (tokens[tokens.len() - 1] + 1) % 10;
            self.logits = (0..10).map(|token| if token == next { 1.0 } else { 0.0 }).collect();
            Ok(&self.logits)
        }
    }

    fn write_it(job: &GenerateJob) -> (Text, Vec<u32>, Vec<Vec<u32>>) {
        let clock = HandClock::default();
        let mut model = Counting { clock: clock.clone(), logits: Vec::new(), fed: Vec::new() };
        let mut told = Vec::new();
        let text = write(&mut model, &clock, job, &mut |token| told.push(token)).unwrap();
        (text, told, model.fed)
    }

    #[test]
    fn each_token_is_fed_once_and_the_last_never() {
        let (text, told, fed) = write_it(&job());
        assert_eq!(told, [4, 5, 6, 7, 8]);
        assert_eq!(fed, [vec![1, 2, 3], vec![4], vec![5], vec![6], vec![7]]);
        let expected = Text { ended: Ended::Length, tokens: 5, steps: 4, prefill_ns: 50_000_000, decode_ns: 8_000_000 };
        assert_eq!(text, expected);
    }

    #[test]
    fn a_token_that_ends_the_text_is_no_part_of_it() {
        let (text, told, _) = write_it(&GenerateJob { max_tokens: 100, ..job() });
        assert_eq!(told, [4, 5, 6, 7, 8, 9]);
        assert_eq!((text.ended, text.tokens, text.steps), (Ended::Stop, 6, 6));
        let (text, told, _) = write_it(&GenerateJob { stop: vec![4], ..job() });
        assert_eq!((text.ended, text.tokens, text.steps, told), (Ended::Stop, 0, 0, vec![]));
    }

    #[test]
    fn logits_that_are_no_numbers_end_it() {
        struct Broken;
        impl CausalModel for Broken {
            fn runtime_version(&self) -> &'static str {
                "0"
            }
            fn reset(&mut self) {}
            fn feed(&mut self, _: &[u32]) -> Result<&[f32], WireError> {
                Ok(&[f32::NAN; 10])
            }
        }
        let error = write(&mut Broken, &HandClock::default(), &job(), &mut |_| {}).unwrap_err();
        assert_eq!(error.code, ErrorCode::ModelRejected);
    }
}
